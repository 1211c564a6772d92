"""Runs a program that a model wrote, with its tests, in a child process with limits. The code benchmarks need this.

**This is not a sandbox.** Limited are CPU and clock time, memory, and the size of each file; where the user is not
root, the number of processes too. Child processes that are left over are killed. The environment variables hold no
tokens. Standard input is controlled, and there are no core dumps. **Nothing else is contained.** The program runs as
you: it can read your files, write wherever you can, and use the network. A program that starts a session of its own
outlives its time. Run untrusted programs in a container or a virtual machine. No program runs unless the environment
variable ACM_ALLOW_UNSAFE_CODE is 1: by setting it you say that you know these risks.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import IO

from acm.errors import UserError
from acm.evaluation.thinking import after_thinking

ALLOW = "ACM_ALLOW_UNSAFE_CODE"  # an environment variable, so that no profile or task file can set it
MEGABYTE = 1 << 20
OUTPUT = 2000  # characters of the program's output that are kept
FENCE = re.compile(r"```([\w+-]*)[^\S\n]*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    """What a program may take.

    seconds: by the clock. cpu_seconds: of each process. memory, file: megabytes. processes: of the user, unless root.
    """

    seconds: float = 20.0
    cpu_seconds: int = 10
    memory: int = 1024
    file: int = 16
    processes: int = 64


@dataclass(frozen=True)
class Verdict:
    """How a program did. passed: it and its tests ended without an error. output: the end of what it wrote.

    reason: passed, failed, time, memory or killed.
    """

    passed: bool
    reason: str
    output: str


@dataclass(frozen=True)
class Run:
    """How a program ended, and what it wrote. status: exit status; negative: the signal. late: its time was over."""

    status: int
    late: bool
    printed: str
    errors: str


def allowed() -> bool:
    """Whether the user has set the flag."""
    return os.environ.get(ALLOW) == "1"


def find_code(response: str) -> str:
    """The program of a response: its last complete fenced block.

    Where some blocks are marked as Python, it is the last of these. Without a fence it is the whole text. Only what
    follows thinking counts; of a response whose thinking never closes, nothing does.
    """
    text, closed = after_thinking(response)
    if closed is False:
        return ""
    blocks = FENCE.findall(text)
    marked = [block for block in blocks if block[0].lower() in ("python", "python3", "py")]
    return str((marked or blocks or [("", text)])[-1][1])


def run_tests(code: str, tests: str, *, allow_unsafe_code: bool = False, limits: Limits = Limits()) -> Verdict:
    """Run ``code`` followed by ``tests``, which raise on failure. UserError without the flag, see the module's text."""
    marker = f"done-{os.urandom(8).hex()}"  # the program may call exit(0) before its tests
    run = execute(f"{code}\n\n{tests}\n\nprint({marker!r}, flush=True)\n", "", allow_unsafe_code, limits)
    done = run.printed.rstrip().endswith(marker)
    return verdict(replace(run, printed=run.printed.replace(marker, "")), done)


def run_program(
    code: str, given: str, expected: str, *, allow_unsafe_code: bool = False, limits: Limits = Limits()
) -> Verdict:
    """Run ``code`` with standard input ``given``. It passes if it prints ``expected``, see ``same_output``.

    Raises UserError without the flag, see the module's text.
    """
    run = execute(code, given, allow_unsafe_code, limits)
    return verdict(run, same_output(run.printed, expected))


def verdict(run: Run, passed: bool) -> Verdict:
    """The verdict on a program that ended so. passed: its tests did, or its output is what it should be."""
    output = f"{run.printed}{run.errors}".strip()[-OUTPUT:]
    if run.status == 0 and passed:
        return Verdict(True, "passed", output)
    if run.late or run.status in (-signal.SIGXCPU, -signal.SIGKILL):
        return Verdict(False, "time", output)
    if "MemoryError" in run.errors:
        return Verdict(False, "memory", output)
    return Verdict(False, "killed" if run.status < 0 else "failed", output)


def same_output(printed: str, expected: str) -> bool:
    """Whether two outputs are the same, line by line, by LiveCodeBench's rule.

    Blanks at the ends of a line do not count, and lines of the same decimal numbers are the same (1.0 and 1).
    """
    ours, theirs = ([line.strip() for line in text.strip().split("\n")] for text in (printed, expected))
    return len(ours) == len(theirs) and all(
        a == b or decimals(a) == decimals(b) != [] for a, b in zip(ours, theirs, strict=True)
    )


def decimals(line: str) -> list[Decimal]:
    """The numbers of a line. None if anything else is there."""
    try:
        found = [Decimal(word) for word in line.split()]
    except ArithmeticError:
        return []
    return found if all(number.is_finite() for number in found) else []


def execute(source: str, given: str, allow_unsafe_code: bool, limits: Limits) -> Run:
    """Run a program in a folder of its own, which is removed. The program's process group is killed at the end."""
    if not allow_unsafe_code:
        raise UserError(
            f"grading code runs programs that a model wrote; set {ALLOW}=1 (allow_unsafe_code=True), "
            "best within a container."
        )
    with tempfile.TemporaryDirectory(prefix="acm-code-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        (folder / "program.py").write_text(source, encoding="utf-8", errors="replace")
        (folder / "input.txt").write_text(given, encoding="utf-8", errors="replace")
        with contextlib.ExitStack() as stack:
            modes = {"input": "rb", "output": "wb", "errors": "wb"}
            streams = [stack.enter_context((folder / f"{name}.txt").open(mode)) for name, mode in modes.items()]
            status, late = wait(folder, streams, limits)
        printed, written = (
            (folder / f"{log}.txt").read_bytes().decode("utf-8", errors="replace") for log in ("output", "errors")
        )
    return Run(status, late, printed, written)


def wait(folder: Path, streams: list[IO[bytes]], limits: Limits) -> tuple[int, bool]:
    """Exit status of the program in a folder, and whether its time was over. streams: standard input, output, error."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", LAUNCHER, *map(str, settings(limits)), "program.py"], cwd=folder,
        stdin=streams[0], stdout=streams[1], stderr=streams[2], start_new_session=True,
        env={"PATH": os.defpath, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        return child.wait(limits.seconds), False
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, True
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


# The child limits itself before it reads the program: preexec_fn is unsafe where the parent has threads.
LAUNCHER = """
import resource, runpy, sys
names = ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_CORE")
for name, value in zip(names, map(int, sys.argv[1:6])):
    try:
        resource.setrlimit(getattr(resource, name), (value, value))
    except (ValueError, OSError, AttributeError):
        pass
program = sys.argv[6]
sys.argv = [program]
runpy.run_path(program, run_name="__main__")
"""


def settings(limits: Limits) -> list[int]:
    """The limits in the order in which the launcher sets them. None is above what this process itself has."""
    wanted = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_AS: limits.memory * MEGABYTE,
        resource.RLIMIT_FSIZE: limits.file * MEGABYTE,
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_CORE: 0,
    }
    hard = {kind: resource.getrlimit(kind)[1] for kind in wanted}
    return [value if hard[kind] == resource.RLIM_INFINITY else min(value, hard[kind]) for kind, value in wanted.items()]
