"""IFEval on made-up items, graded by a stand-in for lm-eval's checks, and by these where their packages are."""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from helpers_evaluation import FAST

from acm import evaluate
from acm.errors import UserError
from acm.evaluation import benchmarks, task_files
from acm.evaluation.benchmarks import BENCHMARKS, FOLDER
from acm.evaluation.instructions import follows, load_instructions
from acm.evaluation.task_files import asking, check_checks, check_grader

ROWS = [
    {"key": 1, "prompt": "Say hello without commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {"key": 2, "prompt": "Say hello twice.", "kwargs": [{}, {"num_highlights": 1, "relation": None}],
     "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_highlighted_sections"]},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "ifeval.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setitem(BENCHMARKS, "ifeval", replace(BENCHMARKS["ifeval"], items=len(ROWS)))
    return tmp_path / "benchmarks"


@pytest.fixture
def checks(monkeypatch):
    """Checks that know of commas alone; returns what they were asked."""
    asked = []

    def process_results(doc, results):
        asked.append((doc, results[0]))
        right = bool(results[0].strip()) and "," not in results[0]
        return {"prompt_level_strict_acc": right, "inst_level_strict_acc": [right], "prompt_level_loose_acc": True}

    detector = SimpleNamespace(DetectorFactory=SimpleNamespace(seed=None))
    monkeypatch.setitem(sys.modules, "langdetect", detector)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks.ifeval.utils", SimpleNamespace(process_results=process_results))
    monkeypatch.setattr(task_files, "check_checks", lambda task: None)
    monkeypatch.setattr("acm.evaluation.instructions.check_checks", lambda task: None)
    return SimpleNamespace(asked=asked, detector=detector)


@pytest.mark.parametrize(("response", "right"), [
    ("Hello there", True), ("Hello, there", False), ("", False),
    ("<think>Hello, no commas,</think>Hello there", True), ("<think>so</think>Hello, there", False),
    ("<think>Hello there", False),
])  # fmt: skip
def test_only_what_follows_the_thinking_is_graded_and_strictly(folder, checks, response, right):
    item = load_instructions("ifeval")[0]
    assert follows(item, response) is right
    ((doc, _),) = checks.asked
    assert doc["instruction_id_list"] == ["punctuation:no_comma"] and doc["kwargs"] == [{}]
    assert checks.detector.DetectorFactory.seed == 0  # else the grade of a short text changes from run to run


def test_blank_lines_after_the_thinking_are_no_part_of_the_answer(folder, checks):
    follows(load_instructions("ifeval")[0], "<think>so</think>\n\nHello there\n")
    assert checks.asked[0][1] == "Hello there"  # else a check of how a response begins fails


def test_a_record_has_the_grade_and_the_length(folder, checks):
    records = evaluate(FAST, ["acm_ifeval"], max_tokens=6)
    assert records["correct"].isin([0, 1]).all() and (records["length"] <= 6).all() and len(records) == 2
    assert records["gold"][1] == "punctuation:no_comma, detectable_format:number_highlighted_sections"
    assert [doc["kwargs"] for doc, _ in checks.asked] == [row["kwargs"] for row in ROWS]


def test_no_prompt_asks_for_a_box_or_shows_examples():
    ask = asking("acm_ifeval")
    assert ask("chat-template", "Say it.") == "Say it."
    assert ask("few-shot", "Say it.") == "Question: Say it.\nAnswer:"
    assert "boxed" not in ask("qwen25-math-cot", "Say it.")
    with pytest.raises(UserError, match="unknown prompt"):
        ask("few-shots", "Say it.")


@pytest.mark.parametrize("change", [
    {"kwargs": []}, {"instruction_id_list": []}, {"kwargs": None}, {"prompt": ...}, {"kwargs": ["x"]},
])  # fmt: skip
def test_rows_without_instructions_are_refused(folder, change):
    row = {key: value for key, value in (ROWS[1] | change).items() if value is not ...}
    (folder / "ifeval.jsonl").write_text("\n".join(map(json.dumps, [ROWS[0], row])))
    with pytest.raises(UserError, match=r"no instructions to check .* row 2\. Remedy: set ACM_DATA"):
        load_instructions("ifeval")


def test_other_counts_and_names_are_refused(folder, monkeypatch):
    with pytest.raises(UserError, match="unknown benchmark 'gsm8k'"):
        load_instructions("gsm8k")
    monkeypatch.setitem(BENCHMARKS, "ifeval", benchmarks.Instructions("google/IFEval", "train", 541))
    with pytest.raises(UserError, match="has 2 items, and ifeval has 541"):
        load_instructions("ifeval")


def test_what_the_checks_lack_is_said_before_anything_is_generated(folder, monkeypatch):
    monkeypatch.setattr(task_files, "find_spec", lambda name: None if name == "langdetect" else object())
    words = r"'acm_ifeval' is graded by lm-eval's checks, which need langdetect; pip install 'lm-eval\[ifeval\]'"
    for call in (lambda: check_grader(["acm_ifeval"]), lambda: evaluate(FAST, ["acm_ifeval"])):
        with pytest.raises(UserError, match=words):
            call()
    monkeypatch.setattr(task_files, "find_spec", lambda name: object())

    def absent(name):
        raise LookupError(name)

    monkeypatch.setattr("nltk.data.find", absent)
    with pytest.raises(UserError, match=r"python -m nltk\.downloader punkt_tab"):
        check_checks("acm_ifeval")


@pytest.mark.skipif(not (find_spec("langdetect") and find_spec("immutabledict")), reason="pip install lm-eval[ifeval]")
def test_the_checks_of_lm_eval(folder, monkeypatch):
    monkeypatch.setattr("nltk.data.find", lambda name: name)  # none of these counts sentences
    plain, marked = load_instructions("ifeval")
    assert follows(plain, "Hello there") and not follows(plain, "Hello, there")
    assert follows(marked, "*Hello* there") and not follows(marked, "Hello there")
    assert not follows(marked, "*Hello*, there")  # all instructions
