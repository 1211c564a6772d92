"""Our tasks' files: what is read from them, and that a new task is one file, and one row for data of others."""

import json
import shutil

import pytest
import yaml
from helpers_evaluation import FAST

from acm import evaluate
from acm.errors import UserError
from acm.evaluation import task_files
from acm.evaluation.benchmarks import BENCHMARKS, FOLDER, Mathematics, digest, plain, table
from acm.evaluation.prompts import CODE_EXAMPLES, CODE_SYSTEM, PROMPTS, render
from acm.evaluation.reflections import REFLECTION, pattern_of
from acm.evaluation.task_files import (
    arguments_of,
    asking,
    check_prompt,
    count_items,
    is_ours,
    load_items,
    our_tasks,
    read_task,
)
from acm.paths import ROOT, TASKS
from acm.profiles import load_profile
from acm.running.budget_text import describe
from acm.running.machine import Machine
from acm.running.preflight import check


def test_task_files_are_read_without_calling_anything():
    assert read_task("abacus_easy")["metadata"]["reflection"] == "check:"
    assert read_task("acm_gsm8k")["task"] == "acm_gsm8k" and "include" not in read_task("acm_gsm8k")
    assert read_task("acm_gsm8k")["process_results"] == "math_task.process_results"
    assert arguments_of("acm_gsm8k")["name"] == "gsm8k"


@pytest.mark.parametrize("task", ["../../etc/passwd", "gsm8k", "_math", ""])
def test_what_is_no_task_of_ours_has_no_file(task):
    assert not is_ours(task) and read_task(task) == arguments_of(task) == {}
    assert count_items(task) is asking(task) is None and load_items(task) == []


def test_every_task_is_named_as_its_file_and_knows_its_number_of_items():
    assert {read_task(task)["task"] for task in our_tasks()} == set(our_tasks())
    assert all(count_items(task) for task in our_tasks())


@pytest.mark.parametrize("task", [task for task in our_tasks() if task.startswith("abacus_")])
def test_a_loader_counts_what_it_loads(task):
    assert count_items(task) == len(load_items(task)) == (667 if task.endswith("_fresh") else 500)


def test_the_items_of_others_are_those_of_the_benchmarks():
    counted = {arguments_of(task).get("name"): count_items(task) for task in our_tasks()}
    assert {name: known.items for name, known in BENCHMARKS.items()}.items() <= counted.items()


@pytest.mark.parametrize(("task", "items"), [("smol_seen", 500), ("smol_new", 200)])
def test_the_items_of_smol_are_shipped(task, items):
    assert count_items(task) == len(load_items(task)) == items


@pytest.mark.parametrize(("task", "own"), [("acm_gsm8k", ()), ("acm_mbpp_pro", (CODE_SYSTEM, CODE_EXAMPLES))])
def test_the_prompt_of_a_task_can_be_chosen_where_its_loader_asks(task, own):
    for prompt in PROMPTS:
        assert asking(task)(prompt, "1+1?") == render(prompt, "1+1?", *own)
        check_prompt(prompt, [task])


def test_prompts_that_a_task_does_not_take_are_refused():
    check_prompt(None, ["abacus_easy", "gsm8k_cot_zeroshot"])
    for task in ("abacus_easy", "gsm8k_cot_zeroshot"):
        with pytest.raises(UserError, match=f"task '{task}' has its own prompt"):
            check_prompt("few-shot", ["acm_gsm8k", task])
    with pytest.raises(UserError, match=r"unknown prompt 'few-shots'\. Did you mean 'few-shot'"):
        check_prompt("few-shots", ["acm_gsm8k"])


def test_reflections_are_the_papers_words_and_a_tasks_own():
    assert pattern_of("acm_gsm8k") is pattern_of("gsm8k_cot_zeroshot") is REFLECTION
    assert pattern_of("abacus_easy").findall("Wait. check: yes, let me verify") == ["Wait", "check:", "let me verify"]


def test_the_table_of_the_docs_is_the_one_of_the_benchmarks():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert table() in page, f"put this into docs/benchmarks.md:\n{table()}"


NEW = [{"problem": "What is 1+1?", "answer": "2"}, {"problem": "What is 3-1?", "answer": "2"}]
PROFILE = {
    "max_tokens": 12, "dtype": "float32",
    "experiments": {"long-to-short": {
        "base": "abacus/checkpoints/abacus-fast", "finetuned": ["abacus/checkpoints/abacus-slow"],
        "reference": "abacus-slow", "tasks": ["acm_new"], "frontier": [0.5], "methods": {"TA": {
            "merge_method": "task_arithmetic", "parameters": {"weight": 0.7}}},
        "calibration": {"texts": "abacus/benchmarks/calibration_problems.jsonl"},
    }},
}  # fmt: skip


@pytest.fixture
def added(monkeypatch, tmp_path):
    """A task that is one file, in a copy of the folder, and one row for its data, which is a file of two items."""
    tasks = shutil.copytree(TASKS, tmp_path / "tasks")
    monkeypatch.setattr(task_files, "TASKS", tasks)
    (tasks / "acm_new.yaml").write_text("include: _math.yaml\ntask: acm_new\ndataset_kwargs:\n  name: new\n")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "new.jsonl").write_text("\n".join(map(json.dumps, NEW)))
    monkeypatch.setenv(FOLDER, str(tmp_path))
    items = [{"question": row["problem"], "gold": row["answer"]} for row in NEW]
    monkeypatch.setitem(BENCHMARKS, "new", Mathematics("someone/new", "test", 2, digest(items), plain))
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(PROFILE))
    return tasks / "acm_new.yaml", str(tmp_path / "new.yaml")


def test_a_new_task_is_one_file_and_one_row(added):
    path, name = added
    records = evaluate(FAST, ["acm_new"], max_tokens=12)
    assert list(records["gold"]) == ["2", "2"] and records["length"].between(1, 12).all()
    assert {"correct", "correct_string", "answer_from"} <= set(records)
    profile = load_profile(name)
    assert "evaluate" in describe(profile, Machine())
    assert check(profile) == "profile new: 4 models to evaluate, all items per task."
    assert "| `acm_new` | 2 | `new.jsonl` | someone/new | math-verify, and as a string |" in table()
    path.unlink()
    assert "acm_new" not in table() and "acm_new" not in our_tasks()
    with pytest.raises(UserError, match="unknown task 'acm_new'"):
        evaluate(FAST, ["acm_new"])
    with pytest.raises(UserError, match="number of items of task acm_new is not known"):
        describe(profile, Machine())


def test_other_data_than_the_rows_is_refused_before_any_work(added):
    (added[0].parent.parent / "benchmarks" / "new.jsonl").write_text(json.dumps(NEW[0]))
    with pytest.raises(UserError, match="has 1 items, and new has 2"):
        check(load_profile(added[1]))
