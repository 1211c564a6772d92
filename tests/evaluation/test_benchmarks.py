"""The mathematics benchmarks: with made-up data always; on the real files, where ACM_DATA names their folder."""

import os
import re
from dataclasses import replace

import pytest
from helpers_evaluation import stand_in

from acm.errors import UserError
from acm.evaluation.benchmarks import BENCHMARKS, FOLDER, LETTERS, Mathematics, load_benchmark, right_letter
from acm.evaluation.boxes import last_box
from acm.evaluation.grading import WORDS, grade, places, plain_text, prose, readable
from acm.evaluation.prompts import EXAMPLES, PROMPTS, SYSTEM, render
from acm.evaluation.verifier import Verifier

# 5,614 items in all; each gold, and each altered gold, is graded where ACM_DATA_FULL is set.
ITEMS = {"gsm8k": 1319, "math500": 500, "minerva_math": 272, "olympiadbench": 675, "college_math": 2818, "aime24": 30}
# Every n-th item.
SAMPLE = {"gsm8k": 20, "math500": 5, "minerva_math": 5, "olympiadbench": 6, "college_math": 40, "aime24": 1}
TODAY = {"aime25": 30, "aime26": 30, "hmmt_feb25": 30, "gpqa_diamond": 198}  # not seen here: no hash is known
real = pytest.mark.skipif(
    FOLDER not in os.environ, reason=f"needs the real benchmarks: {FOLDER}=<folder with benchmarks/*.jsonl>"
)
full = pytest.mark.skipif("ACM_DATA_FULL" not in os.environ, reason="about 10 minutes: ACM_DATA_FULL=1 with ACM_DATA")
ROWS = {
    "gsm8k": [{"question": "How many?", "answer": "2 * 600 = 1,200\n#### 1,200"}],
    "minerva_math": [{"problem": "How far?", "solution": "\\boxed{3} or rather $\\boxed{\\frac{1}{2}}$ m"}],
    "olympiadbench": [{"question": "Which?", "final_answer": ["$3 n$"], "unit": None}],
    "college_math": [{"question": "Solve.", "answer": "$x=1$ or $x=2$"}],
    "aime24": [{"id": 1, "problem": "Find it.", "answer": "025"}],
    "aime26": [{"problem_idx": 1, "problem": "Find it.", "answer": 25}],
    "gpqa_diamond": [
        {
            "Question": "Which is even? ",
            "Correct Answer": " 2\n",
            "Incorrect Answer 1": "1",
            "Incorrect Answer 2": "3",
            "Incorrect Answer 3": "5",
        }
    ],
}
GOLDS = {
    "gsm8k": "1200",
    "minerva_math": "\\frac{1}{2}",
    "olympiadbench": "3 n",
    "college_math": "$x=1$ or $x=2$",
    "aime24": "025",
    "aime26": "25",
    "gpqa_diamond": "C",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of made-up benchmarks whose counts and hashes are those registered."""
    for name, rows in ROWS.items():
        stand_in(monkeypatch, tmp_path, name, rows)
    return tmp_path / "benchmarks"


def test_the_papers_benchmarks_with_their_counts():
    known = {name: found for name, found in BENCHMARKS.items() if isinstance(found, Mathematics)}
    assert {name: found.items for name, found in known.items()} == ITEMS | TODAY
    assert all(re.fullmatch("[0-9a-f]{64}", known[name].sha256) for name in ITEMS)
    assert not any(known[name].sha256 for name in TODAY)


@pytest.mark.parametrize("name", ROWS)
def test_golds_of_each_format(folder, name):
    (item,) = load_benchmark(name)
    assert item["gold"] == GOLDS[name] and item["question"]


def test_the_options_of_a_question_stand_in_an_order_of_its_own_that_stays(folder):
    (item,) = load_benchmark("gpqa_diamond")
    head, _, *options, _, last = item["question"].split("\n")
    assert (head, options) == ("Which is even?", ["A. 1", "B. 5", "C. 2", "D. 3"]) and "letter" in last
    for answer, right in ((r"\boxed{C}", True), (r"\boxed{\text{(C)}}", True), (r"\boxed{D}", False), ("2", False)):
        assert grade(answer, item["gold"]).correct is right
    (row,) = ROWS["gpqa_diamond"]
    letters = {right_letter(row | {"Question": f"Which of {n} is even?"}) for n in range(50)}
    assert letters == {*LETTERS}  # no letter is right more often by habit


def test_where_no_hash_is_known_the_log_has_that_of_what_was_read(folder, monkeypatch, caplog):
    assert load_benchmark("aime26") and not caplog.messages
    known, rows = BENCHMARKS["aime26"], load_benchmark("aime26")
    monkeypatch.setitem(BENCHMARKS, "aime26", replace(known, sha256=None))
    assert load_benchmark("aime26") == rows
    assert f"aime26: edition not checked, no hash is known; that of what was read is {known.sha256}" in caplog.text
    (folder / "aime26.jsonl").write_text("")
    with pytest.raises(UserError, match=r"has 0 items, and aime26 has 1\. Remedy: .* the hub's MathArena/aime_2026 as"):
        load_benchmark("aime26")


def test_a_gated_benchmark_names_the_way_to_it(folder):
    (folder / "gpqa_diamond.jsonl").unlink()
    with pytest.raises(UserError, match=r"Remedy: accept its terms on the hub, then `hf auth login`; or set ACM_DATA"):
        load_benchmark("gpqa_diamond")


def test_line_ends_do_not_change_the_hash(folder):
    path = folder / "gsm8k.jsonl"
    path.write_bytes(path.read_bytes().replace(b"\\n", b"\\r\\n").replace(b"\n", b"\r\n"))
    assert load_benchmark("gsm8k")


@pytest.mark.parametrize(("change", "message"), [
    (lambda text: text + text, r"gsm8k\.jsonl has 2 items, and gsm8k has 1\. Remedy: set ACM_DATA"),
    (lambda text: text.replace("How many", "How few"), r"gsm8k\.jsonl is another edition of gsm8k"),
    (lambda text: text.replace("1,200\"", "1,201\""), "another edition"),
    (lambda text: text.replace('"answer"', '"solution"'), r"rows without what gsm8k needs \(KeyError\('answer'\)\)"),
    (lambda text: text.replace("####", "so"), "rows without what gsm8k needs"),
    (lambda text: text[:-5], r"gsm8k\.jsonl is not JSON lines"),
    (lambda text: "", "has 0 items"),
])  # fmt: skip
def test_other_data_is_refused_with_a_remedy(folder, change, message):
    path = folder / "gsm8k.jsonl"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message) as error:
        load_benchmark("gsm8k")
    assert "Remedy: set ACM_DATA" in str(error.value)


def test_a_missing_file_and_an_unknown_name(folder):
    (folder / "aime24.jsonl").unlink()
    words = r"aime24\.jsonl does not exist \(the environment variable ACM_DATA names the folder\)\. Remedy"
    with pytest.raises(UserError, match=words):
        load_benchmark("aime24")
    with pytest.raises(UserError, match=r"unknown benchmark 'aime27'\. Did you mean 'aime26'"):
        load_benchmark("aime27")


def test_without_a_folder_the_hub_is_asked_by_revision(monkeypatch):
    import datasets

    asked = []
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append((a, k)) or ROWS["gsm8k"])
    monkeypatch.setitem(BENCHMARKS, "gsm8k", replace(BENCHMARKS["gsm8k"], revision="abc"))
    with pytest.raises(UserError, match="the hub's openai/gsm8k has 1 items"):
        load_benchmark("gsm8k")
    assert asked == [(("openai/gsm8k", "main"), {"split": "test", "revision": "abc"})]


def test_without_a_network_there_is_one_clear_error(monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach the Hub\nlong story")

    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setattr(datasets, "load_dataset", offline)
    words = r"openai/gsm8k cannot be loaded \(Couldn't reach the Hub\)\. Remedy: set ACM_DATA to a folder"
    with pytest.raises(UserError, match=words) as error:
        load_benchmark("gsm8k")
    assert "long story" not in str(error.value)


@pytest.mark.parametrize(("text", "box"), [
    ("\\boxed{1}", "1"), ("\\boxed{\\{1\\}}", "\\{1\\}"), ("\\boxed{a{b}{c}} d", "a{b}{c}"),
    ("\\boxed{1} \\boxed{2", "1"), ("\\boxed{1", None), ("\\boxed{x\\\\} y", "x\\\\"),
    ("\\fbox{3}", "3"), ("boxed{1}", None), ("", None),
    ("\\boxed{a \\boxed{b}}", "b"), ("} \\boxed{1}", "1"), ("{ \\boxed{1}", "1"), ("\\boxed{1} \\boxed{2} }", "2"),
])  # fmt: skip
def test_the_last_complete_box(text, box):
    assert last_box(text) == box


def test_the_prompts():
    cot = render("qwen25-math-cot", "1+1?")
    assert cot.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>") and cot.endswith(
        "<|im_start|>assistant\n"
    )
    few = render("few-shot", "1+1?")
    assert few.count("Question:") == len(EXAMPLES) + 1 == 5 and few.endswith("Question: 1+1?\nAnswer:")
    assert all(last_box(answer) for _, answer in EXAMPLES)
    assert render("chat-template", "{x}") == "{x}\n\n" + SYSTEM and render("qwen25-math-cot", "{x}")
    with pytest.raises(UserError, match="unknown prompt 'few-shots'"):
        render("few-shots", "1+1?")
    assert set(PROMPTS) == {"qwen25-math-cot", "few-shot", "chat-template"}


@real
@pytest.mark.parametrize("name", ITEMS)
def test_every_item_loads_through_lm_eval(name):
    from lm_eval.tasks import get_task_dict

    from acm.evaluation.harness import task_manager

    task = get_task_dict([f"acm_{name}"], task_manager([f"acm_{name}"]))[f"acm_{name}"]
    items = load_benchmark(name)
    assert len(task.eval_docs) == ITEMS[name] == len({item["question"] for item in items}) + REPEATED.get(name, 0)
    for doc, item in zip(task.eval_docs, items, strict=True):
        assert item["question"] in task.doc_to_text(doc) and task.doc_to_target(doc) == item["gold"] != ""


# Questions that a benchmark has more than once.
REPEATED = {"college_math": 36}


@real
def test_the_examples_are_no_benchmark_questions():
    asked = {re.sub(r"\W", "", item["question"]) for name in ITEMS for item in load_benchmark(name)}
    assert not [question for question, _ in EXAMPLES if re.sub(r"\W", "", question) in asked]


# What stands before a subscript, or the exponent of a unit.
UNCOUNTED = r"_\{?\w*$|\\(?:mathrm|text|mbox|operatorname)\s*\{[^{}]*\}\s*\^\s*\{?$"


def altered(gold):
    """A wrong answer close to the gold.

    Words are denied. Else the last digit outside of subscripts and units is raised by one. Without a digit, one is
    added.
    """
    plain = plain_text(readable(gold))
    if WORDS.fullmatch(plain):
        return f"not {plain}"
    exact, *about = re.split(r"(?=\\approx)", gold, maxsplit=1)  # what follows "about" need not be as precise
    digits = [m.start() for m in re.finditer(r"\d", exact) if not re.search(UNCOUNTED, exact[: m.start()])]
    if not digits:
        return "".join([exact + "+1", *about])
    at = digits[-1]
    return "".join([exact[:at] + str((int(exact[at]) + 1) % 10) + exact[at + 1 :], *about])


def graded(name, step, answer):
    items = list(enumerate(load_benchmark(name)))[::step]
    return [(place, grade(f"Hence \\boxed{{{answer(item['gold'])}}}", item["gold"])) for place, item in items]


@real
@pytest.mark.parametrize("name", ITEMS)
def test_the_gold_in_a_box_is_right_for_all_items(name):
    found = graded(name, 1, str)
    assert len(found) == ITEMS[name]
    assert [place for place, result in found if not (result.correct and result.correct_string)] == []


# Items whose altered gold is right: infinity and one more is infinity (two items); the ninth decimal, where six count.
STILL_RIGHT = {"college_math": {1543, 1587, 1676}}


@real
@pytest.mark.parametrize("name", ITEMS)
def test_an_altered_gold_is_wrong(name):
    found = graded(name, SAMPLE[name], altered)
    assert {place for place, result in found if result.correct or result.correct_string} <= STILL_RIGHT.get(name, set())


@real
@full
@pytest.mark.parametrize("name", ITEMS)
def test_an_altered_gold_is_wrong_for_all_items(name):
    found = graded(name, 1, altered)
    assert len(found) == ITEMS[name]
    assert {place for place, result in found if result.correct or result.correct_string} == STILL_RIGHT.get(name, set())


# Golds that math-verify reads but does not take for equal to themselves; right only as the same text.
UNEQUAL: dict[str, set[int]] = {}


def unequal(name, step):
    verifier, found = Verifier(), set()
    for place, item in list(enumerate(load_benchmark(name)))[::step]:
        text = readable(item["gold"])
        if not prose(text) and verifier.equal(text, text, places(item["gold"])) is False:
            found.add(place)
    verifier.stop()
    return found


@real
@pytest.mark.parametrize("name", ITEMS)
def test_golds_that_math_verify_rejects_are_known(name):
    assert unequal(name, SAMPLE[name]) <= UNEQUAL.get(name, set())


@real
@full
@pytest.mark.parametrize("name", ITEMS)
def test_all_golds_that_math_verify_rejects_are_known(name):
    assert unequal(name, 1) == UNEQUAL.get(name, set())
