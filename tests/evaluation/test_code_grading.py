"""Code grading: what passes, what fails, and what the limits stop. The code benchmarks have items of our own here."""

import base64
import json
import os
import pickle
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from acm.errors import UserError
from acm.evaluation import livecodebench
from acm.evaluation.benchmarks import BENCHMARKS, LIVE, RELEASES
from acm.evaluation.code_benchmarks import CODE_BENCHMARKS, grade_code, load_code_benchmark
from acm.evaluation.code_grading import ALLOW, Limits, box, find_code, run_program, run_tests
from acm.evaluation.livecodebench import pickled_text, private_tests
from acm.evaluation.prompts import CODE_EXAMPLES, CODE_SYSTEM, render

SELF_INVOKING = {"humaneval_pro": 164, "mbpp_pro": 378}
DOUBLE = "def double(x):\n    return 2 * x"
SHORT = Limits(seconds=20, cpu_seconds=1, memory=256, file=1)


def judged(code, tests="", **settings):
    return run_tests(code, tests, allow_unsafe_code=True, **{"limits": SHORT} | settings)


def test_nothing_runs_without_the_flag(tmp_path):
    with pytest.raises(UserError, match="allow_unsafe_code=True"):
        run_tests(f"open({str(tmp_path / 'ran')!r}, 'w')", "")
    assert not list(tmp_path.iterdir())


def test_a_right_program_passes():
    found = judged(DOUBLE, "assert double(4) == 8\nprint('checked')")
    assert (found.passed, found.reason, found.output) == (True, "passed", "checked")


@pytest.mark.parametrize(("code", "tests"), [
    ("class L:\n def __getitem__(self, at): return [1, 2, 3][at]", "assert L()[1:] == [2, 3] == L()[::-1][:2][::-1]"),
    ("from datetime import datetime\ndef at(): return datetime(2020, 1, 2, 3, 4, 5, 6)",
     "from datetime import datetime\nassert at() == datetime(2020, 1, 2, 3, 4, 5, 6) and at().hour == 3"),
    ("def later(t, days): return t.replace(day=t.day + days)",
     "from datetime import datetime\nassert later(datetime(2020, 1, 2), 3) == datetime(2020, 1, 5)"),
])  # fmt: skip
def test_slices_and_times_cross(code, tests):
    assert judged(code, tests).passed


@pytest.mark.parametrize(("code", "tests"), [
    (DOUBLE, "assert double(4) == 9"),
    ("def double(x:", "assert double(4) == 8"),
    ("", "assert double(4) == 8"),
    ("import sys\nsys.exit(0)", "assert False"),
    ("import os\nos._exit(0)", "assert False"),
    ("raise SystemExit", ""),
])  # fmt: skip
def test_a_wrong_or_leaving_program_fails(code, tests):
    found = judged(code, tests)
    assert not found.passed and found.reason == "failed"


def test_an_endless_loop_is_stopped_by_cpu_time():
    found = judged("while True:\n    pass")
    assert (found.passed, found.reason) == (False, "time")


def test_a_sleeper_is_stopped_by_the_clock():
    start = time.monotonic()
    found = judged("import time\ntime.sleep(60)", limits=Limits(seconds=1.5))
    assert (found.passed, found.reason) == (False, "time") and time.monotonic() - start < 20


def test_a_memory_bomb_is_stopped():
    found = judged("x = [0] * (1 << 30)")
    assert (found.passed, found.reason) == (False, "memory")


def test_a_large_file_is_stopped():
    found = judged("with open('big', 'wb') as f:\n    f.write(b'x' * (3 << 20))")
    assert not found.passed


def test_endless_output_is_stopped():
    assert not judged("while True:\n    print('x' * 1000)").passed


@pytest.mark.skipif(bool(box()), reason="in bubblewrap its number is another, and it dies with the box")
def test_children_that_stay_behind_are_killed(tmp_path):
    pid = tmp_path / "pid"
    code = (
        f"import os, time\nif not (child := os.fork()):\n    time.sleep(60)\nopen({str(pid)!r}, 'w').write(str(child))"
    )
    judged(code)
    end = time.monotonic() + 5
    while alive(int(pid.read_text())) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(int(pid.read_text())), "a forked child outlived its program"


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return (
            stat.rsplit(")", 1)[1].split()[0] != "Z"
        )  # a killed orphan may stay as a zombie until someone waits for it
    except FileNotFoundError:
        return False


@pytest.mark.skipif(os.getuid() == 0, reason="root has no limit of processes")
def test_a_fork_bomb_is_stopped():
    assert not judged("import os\nwhile True:\n    os.fork()").passed


def test_the_program_sees_no_environment_and_an_empty_folder(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = judged("import os\nprint('HF_TOKEN' in os.environ, sorted(os.listdir()))")
    assert found.output == "False ['program.py']"


@pytest.mark.skipif(bool(box()), reason="bubblewrap contains it")
def test_writing_elsewhere_is_not_contained(tmp_path):
    """Stated in the module: the program runs as you."""
    assert judged(f"open({str(tmp_path / 'out')!r}, 'w').write('x')").passed and (tmp_path / "out").exists()


ADD = "a, b = map(int, input().split())\nprint(a + b)"


@pytest.mark.parametrize(("code", "expected", "passed"), [
    (ADD, "7\n", True),
    (ADD, "7.0", True),
    (ADD, "8", False),
    (ADD, "7\n7", False),
    (ADD, "seven", False),
    (f"{ADD}\nimport sys\nsys.exit(1)", "7", False),
    (f"{ADD}\nimport sys\nprint('to be seen', file=sys.stderr)", "7", True),
    ("print('sNaN')", "7", False),
    ("print('yes  \\nno')", " yes\nno\n\n", True),
    ("print('Yes')", "yes", False),
    ("print('0.1 2')", "0.10001 2", False),
])  # fmt: skip
def test_a_program_is_judged_by_what_it_prints(code, expected, passed):
    assert run_program(code, "3 4\n", expected, allow_unsafe_code=True, limits=SHORT).passed is passed


@pytest.mark.parametrize(("response", "code"), [
    ("Here:\n```python\nx = 1\n```\nand\n```python\nx = 2\n```", "x = 2\n"),
    ("```python\nx = 1\n```\nIt prints\n```\n5\n```\nor\n```text\n6\n```", "x = 1\n"),
    ("```Python3  \nx = 1\n```", "x = 1\n"),
    ("<think>```python\nx = 1\n```</think>\n```\nx = 3\n```", "x = 3\n"),
    ("<think>```python\nx = 1\n```", ""),
    ("x = 4", "x = 4"),
])  # fmt: skip
def test_the_last_fenced_block_is_the_program(response, code):
    assert find_code(response) == code


# The benchmarks

PAIR = {
    "id": 0,
    "raw_problem": "from typing import List\n\n\ndef double_all(numbers: List[int]) -> List[int]:\n"
    '    """Twice each number."""\n',
    "raw_solution": "    return [2 * n for n in numbers]\n",
    "new_problem": "# Add up the doubled numbers.\nimport math\ndef sum_doubled(numbers: List[int]) -> int:\n",
    "new_solution": "    return sum(double_all(numbers))\n",
    "test_code": "\nassert sum_doubled([1, 2]) == 6\nassert math.isclose(sum_doubled([]), 0)",
}
BODILESS = PAIR | {  # a first problem that is not Python as it stands
    "raw_problem": "# Double a number.\nimport math\ndef double(n):", "raw_solution": "\n    return 2 * n\n",
    "new_problem": "# Double it twice.\ndef double_twice(n):", "new_solution": "\n    return double(double(n))\n",
    "test_code": "assert math.isclose(double_twice(1.5), 6)",
}  # fmt: skip
PACKED = [{"input": "5 6\n", "output": "11\n", "testtype": "stdin"}]
CALLED = [{"input": "[1, 2]\n3", "output": "[4, 5]", "testtype": "functional"}]


def packed(value):
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


PROGRAM = {
    "question_title": "Sum", "question_content": "Add two numbers.", "question_id": "1", "starter_code": "",
    "metadata": "{}",
    "public_test_cases": json.dumps([{"input": "3 4\n", "output": "7\n", "testtype": "stdin"}]),
    "private_test_cases": packed(json.dumps(PACKED)),
}  # fmt: skip
METHOD = PROGRAM | {
    "question_content": "Add k to all.",
    "starter_code": "class Solution:\n    def addAll(self, nums: List[int], k: int) -> List[int]:\n        ",
    "metadata": json.dumps({"func_name": "addAll"}),
    "public_test_cases": json.dumps([{"input": "[]\n1", "output": "[]", "testtype": "functional"}]),
    "private_test_cases": json.dumps(CALLED),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Benchmarks of two items each, and the flag."""
    (tmp_path / "benchmarks/livecodebench").mkdir(parents=True)
    files = {
        "humaneval_pro": [PAIR, BODILESS],
        "mbpp_pro": [BODILESS, PAIR],
        "livecodebench/test": [PROGRAM],
        "livecodebench/test2": [METHOD],
    }
    for name, rows in files.items():
        (tmp_path / f"benchmarks/{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    for name in SELF_INVOKING:
        monkeypatch.setitem(BENCHMARKS, name, replace(BENCHMARKS[name], items=2))
    monkeypatch.setitem(RELEASES, "release_v2", 2)
    monkeypatch.setenv("ACM_DATA", str(tmp_path))
    monkeypatch.setenv(ALLOW, "1")
    return tmp_path / "benchmarks"


def fenced(code):
    return f"So:\n```python\n{code}\n```"


def test_the_counts_are_the_cards():
    assert {name: BENCHMARKS[name].items for name in CODE_BENCHMARKS} == SELF_INVOKING | {LIVE: 880}
    assert list(RELEASES.values()) == [400, 511, 612, 713, 880]


@pytest.mark.parametrize("name", SELF_INVOKING)
def test_a_pairs_own_solution_passes_and_others_fail(folder, name):
    for item in load_code_benchmark(name):
        assert grade_code(item, fenced(item["gold"])).passed
        assert not grade_code(item, fenced(item["gold"].replace("2 *", "3 *"))).passed
        assert not grade_code(item, "I cannot.").passed
        assert not grade_code(item, f"<think>{fenced(item['gold'])}").passed
        assert "the second is meant to call the first" in item["question"]


def test_a_pairs_imports_need_not_be_repeated(folder):
    pair, bodiless = load_code_benchmark("humaneval_pro")
    code = "def double_all(numbers: List[int]):\n    return [n + n for n in numbers]\n"
    code += "def sum_doubled(numbers):\n    return sum(double_all(numbers))"
    assert grade_code(pair, fenced(code)).passed
    assert grade_code(bodiless, fenced("def double_twice(n):\n    return 4 * n")).passed
    assert bodiless["setup"].strip() == "import math"
    assert not grade_code(pair, fenced(code.split("def sum")[0])).passed


READS = "a, b = map(int, input().split())\nprint(a + b)"
ADDS = "class Solution:\n    def addAll(self, nums: List[int], k: int) -> List[int]:\n        return {}"


@pytest.mark.parametrize(("place", "code", "passed"), [
    (0, READS, True),
    (0, f"if __name__ == '__main__':\n    {READS.replace(chr(10), chr(10) + '    ')}", True),
    (0, "print(7)", False),  # right for the public test alone
    (0, "while True:\n    pass", False),
    (1, ADDS.format("[n + k for n in nums]"), True),
    (1, ADDS.format("tuple(n + k for n in nums)"), True),
    (1, ADDS.format("nums"), False),  # the same
    (1, "def addAll(nums, k):\n    return [n + k for n in nums]", True),
    (1, "found, json, list = 3, 4, 5\n" + ADDS.format("[n + k for n in nums]"), True),
    (1, ADDS.replace("addAll", "add").format("nums"), False),
    (1, ADDS.format("exit(0)"), False),
])  # fmt: skip
def test_live_programs_pass_public_and_private_tests(folder, monkeypatch, place, code, passed):
    monkeypatch.setattr(livecodebench, "LIVE_LIMITS", replace(livecodebench.LIVE_LIMITS, cpu_seconds=2))
    item = load_code_benchmark("livecodebench", "release_v2")[place]
    assert grade_code(item, fenced(code)).passed is passed


def test_questions_of_live_programs(folder):
    program, method = load_code_benchmark("livecodebench", "release_v2")
    assert program["question"].startswith("Add two numbers.") and "standard input" in program["question"]
    assert "class Solution:" in method["question"] and "standard input" not in method["question"]


@pytest.mark.parametrize("protocol", range(1, 6))
def test_a_pickled_text_is_read_without_unpickling(protocol):
    text = "ä" * 100_000
    assert pickled_text(pickle.dumps(text, protocol=protocol)) == text


class Touch:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("value", [Touch(), [Touch(), "[]"], ["[]"], ("a", "b"), 3, None, b"[]"], ids=range(7))
def test_any_other_pickle_is_refused_and_nothing_runs(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="not of one"):
        private_tests(packed(value))
    assert not list(tmp_path.iterdir())


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(livecodebench, "LARGEST", 1 << 20)
    with pytest.raises(ValueError, match="more than 1 MB"):
        private_tests(packed("[" + " " * (2 << 20) + "]"))


@pytest.mark.parametrize(("file", "change", "message"), [
    ("mbpp_pro", lambda text: text * 2, "has 4 items, and mbpp_pro has 2. Remedy: set ACM_DATA"),
    ("mbpp_pro", lambda text: text.replace("test_code", "test"), "row 1 has no text 'test_code'"),
    ("mbpp_pro", lambda text: "[1]\n", "row 1 has no text 'raw_problem'"),
    ("mbpp_pro", lambda text: text[:-9], "is not JSON lines"),
    ("livecodebench/test", lambda text: text * 2, "livecodebench, release_v2 has 3 items, and livecodebench has 2"),
    ("livecodebench/test", lambda text: text.replace("metadata", "meta"),
     r"test\.jsonl, byte 0 is not in the form .*'metadata'"),
    ("livecodebench/test", lambda text: text[:-9], "byte 0 is not in the form"),
    ("livecodebench/test", lambda text: "[]\n", "byte 0 is not in the form"),
    ("livecodebench/test", lambda text: json.dumps(PROGRAM | {"private_test_cases": packed(3)}),
     "without unpickling are refused"),
    ("livecodebench/test", lambda text: json.dumps(PROGRAM | {"private_test_cases": "!"}),
     "without unpickling are refused"),
    ("livecodebench/test", lambda text: json.dumps(PROGRAM | {f"{k}_test_cases": "[]" for k in ("private", "public")}),
     "without tests"),
])  # fmt: skip
def test_other_data_is_refused(folder, file, change, message):
    path = folder / f"{file}.jsonl"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message):
        load_code_benchmark(file.split("/")[0], "release_v2")


def test_data_that_changes_after_loading_is_noticed(folder):
    item = load_code_benchmark("livecodebench", "release_v2")[0]
    path = folder / "livecodebench/test.jsonl"
    path.write_text(path.read_text().replace("Add two", "Add 2"))
    with pytest.raises(UserError, match="is not what it was"):
        grade_code(item, fenced(READS))


def test_what_is_unknown_or_missing_is_named(folder):
    with pytest.raises(UserError, match=r"unknown code benchmark 'mbpp-pro'\. Did you mean 'mbpp_pro'"):
        load_code_benchmark("mbpp-pro")
    with pytest.raises(UserError, match="unknown release of LiveCodeBench 'v5'"):
        load_code_benchmark("livecodebench", "v5")
    (folder / "livecodebench/test2.jsonl").unlink()
    with pytest.raises(UserError, match=r"test2\.jsonl does not exist .*Remedy: set ACM_DATA"):
        load_code_benchmark("livecodebench", "release_v2")


def test_without_a_network_there_is_one_clear_error(folder, monkeypatch):
    import datasets
    import huggingface_hub

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach the Hub\nlong story")

    monkeypatch.delenv("ACM_DATA")
    monkeypatch.setattr(datasets, "load_dataset", offline)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    for name in CODE_BENCHMARKS:
        with pytest.raises(UserError, match=r"cannot be loaded .*Remedy: set ACM_DATA"):
            load_code_benchmark(name)


def tasks():
    from acm.evaluation.harness import task_manager

    return task_manager([f"acm_{name}" for name in CODE_BENCHMARKS])


@pytest.mark.parametrize("name", CODE_BENCHMARKS)
def test_without_the_flag_no_task_loads(folder, monkeypatch, name):
    from lm_eval.tasks import get_task_dict

    for value in (None, "0"):
        monkeypatch.setenv(ALLOW, value) if value else monkeypatch.delenv(ALLOW)
        words = f"{name} is graded by running programs that the model wrote: set {ALLOW}=1"
        with pytest.raises(UserError, match=words):
            get_task_dict([f"acm_{name}"], tasks())


def test_a_task_asks_and_grades(folder, monkeypatch):
    """All of lm-eval's way, with a model that gives the right program to every second item."""
    from acm.evaluation.harness import RecordingLM, evaluate
    from acm.paths import ROOT

    def generate(self, requests):
        texts = [fenced(f"def double_twice(n):\n    return {k % 2 and 4} * n") for k, _ in enumerate(requests)]
        return [{"response": text, "length": 3, "truncated": False} for text in texts]

    lines = json.dumps(BODILESS) + "\n" + json.dumps(BODILESS | {"new_problem": f"# Yes.\n{BODILESS['new_problem']}"})
    (folder / "mbpp_pro.jsonl").write_text(lines)
    monkeypatch.setattr(RecordingLM, "generate_batch", generate)
    monkeypatch.setattr(RecordingLM, "positions", 4096)  # the prompt is longer than the model's
    records = evaluate(ROOT / "abacus/checkpoints/abacus-fast", ["acm_mbpp_pro"], max_tokens=20, prompt="few-shot")
    assert sorted(records["correct"]) == [0, 1] and records["length"].tolist() == [3, 3]
    question = load_code_benchmark("mbpp_pro")[0]["question"]
    assert records["question"][0] == render("few-shot", question, CODE_SYSTEM, CODE_EXAMPLES)
    assert "ran" not in records["gold"][0] and records["gold"][0].startswith("# Double a number.")


def test_the_examples_programs_are_right():
    pair, program = (find_code(answer) for _, answer in CODE_EXAMPLES)
    assert judged(pair, "assert count_leap([1900, 2000, 2023, 2024]) == 2").passed
    assert run_program(program, "3\n4 9 -1\n", "10", allow_unsafe_code=True).passed
    assert render("qwen25-math-cot", "Sum?", CODE_SYSTEM).startswith(f"<|im_start|>system\n{CODE_SYSTEM}<|im_end|>")
