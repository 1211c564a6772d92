"""Code grading: what passes, what fails, and what the limits stop."""

import os
import time
from pathlib import Path

import pytest

from acm.code_grading import Limits, find_code, run_tests
from acm.errors import UserError

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


def test_children_that_stay_behind_are_killed(tmp_path):
    pid = tmp_path / "pid"
    code = f"import os, time\nif not (child := os.fork()):\n    time.sleep(60)\nopen({str(pid)!r}, 'w').write(str(child))"
    judged(code)
    end = time.monotonic() + 5
    while alive(int(pid.read_text())) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(int(pid.read_text())), "a forked child outlived its program"


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[0] != "Z"  # a killed orphan may stay as a zombie until someone waits for it
    except FileNotFoundError:
        return False


@pytest.mark.skipif(os.getuid() == 0, reason="root has no limit of processes")
def test_a_fork_bomb_is_stopped():
    assert not judged("import os\nwhile True:\n    os.fork()").passed


def test_the_program_sees_no_environment_and_an_empty_folder(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = judged("import os\nprint('HF_TOKEN' in os.environ, sorted(os.listdir()))")
    assert found.output == "False ['input.txt', 'output.txt', 'program.py']"


def test_writing_elsewhere_is_not_contained(tmp_path):
    """Stated in the module: the program runs as you."""
    assert judged(f"open({str(tmp_path / 'out')!r}, 'w').write('x')").passed and (tmp_path / "out").exists()


def test_standard_input_is_given():
    assert judged("a, b = map(int, input().split())", "assert a + b == 7", stdin="3 4\n").passed


@pytest.mark.parametrize(("response", "code"), [
    ("Here:\n```python\nx = 1\n```\nand\n```python\nx = 2\n```", "x = 2\n"),
    ("<think>```python\nx = 1\n```</think>\n```\nx = 3\n```", "x = 3\n"),
    ("x = 4", "x = 4"),
])  # fmt: skip
def test_the_last_fenced_block_is_the_program(response, code):
    assert find_code(response) == code
