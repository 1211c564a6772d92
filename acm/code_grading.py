"""Runs a candidate program with its tests, in a child process with limits; for HumanEval-Pro, MBPP-Pro and LiveCodeBench.

**Not a sandbox.** Contained: CPU and clock time, memory, size of a file, number of processes where the user is not root, left-over
child processes, environment variables (no tokens), standard input, core dumps. **Not contained**: the program runs as you, so it
can read your files, write wherever you can (each file up to the limit), use the network, and a program that starts a session of its
own outlives its time. Run untrusted programs in a container or a virtual machine; the flag says that you know.

There are no task files for these benchmarks: their data could not be seen here, so neither counts nor hashes can be stated.
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
from dataclasses import dataclass
from pathlib import Path

from acm.errors import UserError

ALLOW = "allow_unsafe_code"
MEGABYTE = 1 << 20
OUTPUT = 2000  # characters of the program's output that are kept
FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """seconds: of the clock; cpu_seconds: of each process; memory and file: megabytes; processes: of the user, unless root."""

    seconds: float = 20.0
    cpu_seconds: int = 10
    memory: int = 1024
    file: int = 16
    processes: int = 64


@dataclass(frozen=True)
class Verdict:
    """passed: the program and its tests ended without an error; reason: passed, failed, time, memory or killed."""

    passed: bool
    reason: str
    output: str


def find_code(response: str) -> str:
    """The last complete fenced block of a response after its thinking; without a fence the whole text."""
    text = response.rpartition("</think>")[2]
    blocks = FENCE.findall(text)
    return blocks[-1] if blocks else text


def run_tests(code: str, tests: str, *, allow_unsafe_code: bool = False, limits: Limits = Limits(), stdin: str = "") -> Verdict:
    """Run ``code`` followed by ``tests`` (which raise on failure). UserError without the flag, see the module's text."""
    if not allow_unsafe_code:
        raise UserError(f"grading code runs programs that a model wrote; pass {ALLOW}=True, best within a container.")
    with tempfile.TemporaryDirectory(prefix="acm-code-", ignore_cleanup_errors=True) as folder:
        program, log = Path(folder) / "program.py", Path(folder) / "output.txt"
        marker = f"done-{os.urandom(8).hex()}"  # the program may call exit(0) before its tests
        program.write_text(f"{code}\n\n{tests}\n\nprint({marker!r}, flush=True)\n", encoding="utf-8")
        given = Path(folder) / "input.txt"
        given.write_text(stdin, encoding="utf-8")
        code_of_exit, late = execute(program, given, log, limits)
        output = log.read_bytes()[-(OUTPUT * 4) :].decode("utf-8", errors="replace")
    done = output.rstrip().endswith(marker)
    return verdict(code_of_exit, late, done, output.replace(marker, "").strip()[-OUTPUT:])


def execute(program: Path, given: Path, log: Path, limits: Limits) -> tuple[int, bool]:
    """Exit status, and whether the time was over. The program's whole process group is killed at the end."""
    with given.open("rb") as source, log.open("wb") as sink:
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", LAUNCHER, *map(str, settings(limits)), program.name], cwd=program.parent, stdin=source,
            stdout=sink, stderr=subprocess.STDOUT, env={"PATH": os.defpath, "PYTHONHASHSEED": "0"}, start_new_session=True,
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
for name, value in zip(("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_CORE"), map(int, sys.argv[1:6])):
    try:
        resource.setrlimit(getattr(resource, name), (value, value))
    except (ValueError, OSError, AttributeError):
        pass
program = sys.argv[6]
sys.argv = [program]
runpy.run_path(program, run_name="__main__")
"""


def settings(limits: Limits) -> list[int]:
    """The limits in the order that the launcher sets them; none above what this process itself has."""
    wanted = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_AS: limits.memory * MEGABYTE,
        resource.RLIMIT_FSIZE: limits.file * MEGABYTE,
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_CORE: 0,
    }
    hard = {kind: resource.getrlimit(kind)[1] for kind in wanted}
    return [value if hard[kind] == resource.RLIM_INFINITY else min(value, hard[kind]) for kind, value in wanted.items()]


def verdict(status: int, late: bool, done: bool, output: str) -> Verdict:
    if status == 0 and done:
        return Verdict(True, "passed", output)
    if late or status in (-signal.SIGXCPU, -signal.SIGKILL):
        return Verdict(False, "time", output)
    if "MemoryError" in output:
        return Verdict(False, "memory", output)
    return Verdict(False, "killed" if status < 0 else "failed", output)
