"""Grades a program that a model wrote, in child processes with limits. The code benchmarks need this.

**What a program cannot do: pass its tests by a trick.** They run in another process (``code_runner.py``). The program
sees the arguments of its own functions and nothing else of the tests. What it returns is compared in that process. Only
as root and without bubblewrap could it look into that process, or change it.

**What is contained.** CPU and clock time, memory, and the size of each file; where the user is not root, the number of
processes too. Child processes that are left over are killed. The environment variables hold no tokens. Standard input
is controlled, and there are no core dumps.

**What bubblewrap contains.** Where the command ``bwrap`` is there and works, a program has no network, sees no other
processes, may write in its folder alone, and sees nothing of your home, of temporary files and of sockets. It can still
read the rest of the disk.

**What is not contained without it.** The program runs as you: it can read your files, write wherever you can, use the
network, and end your processes. A program that starts a session of its own outlives its time. Run untrusted programs in
a container or a virtual machine.

No program runs unless the environment variable ACM_ALLOW_UNSAFE_CODE is 1: by setting it you say that you know these
risks.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO

from acm.errors import UserError
from acm.evaluation.code_runner import PACKAGES, START, shut
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


def run_tests(
    code: str, tests: str, *, asked: Iterable[str] = (), allow_unsafe_code: bool = False, limits: Limits = Limits()
) -> Verdict:
    """Run ``tests``, which raise on failure, on the functions of ``code``.

    asked: names that the problem asks for, which may be those of built-in functions. Raises UserError without the flag,
    see the module's text.
    """
    imports = [node for node in parsed(tests) if isinstance(node, ast.Import | ast.ImportFrom)]
    relied_on = [line for line in map(ast.unparse, imports) if "__future__" not in line]
    source = "\n\n".join([code, *relied_on])  # a program may rely on what its tests import
    run = execute("tests", source, tests, allow_unsafe_code, limits, ",".join(asked))
    return verdict(run, True)


def parsed(source: str) -> list[ast.stmt]:
    """The statements of a program. None for what is no program."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def run_program(
    code: str, given: str, expected: str, *, allow_unsafe_code: bool = False, limits: Limits = Limits()
) -> Verdict:
    """Run ``code`` with standard input ``given``. It passes if it prints ``expected``, see ``same_output``.

    Raises UserError without the flag, see the module's text.
    """
    run = execute("program", code, given, allow_unsafe_code, limits)
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


def execute(mode: str, source: str, given: str, allow_unsafe_code: bool, limits: Limits, *more: str) -> Run:
    """Run a program in a folder of its own, which is removed. The program's process group is killed at the end.

    mode, more: of the runner. given: its standard input.
    """
    if not allow_unsafe_code:
        raise UserError(
            f"grading code runs programs that a model wrote; set {ALLOW}=1 (allow_unsafe_code=True), "
            "best within a container."
        )
    shut()  # this process holds the tests, or what the program should print
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="acm-code-", ignore_cleanup_errors=True))
        (Path(folder) / "program.py").write_text(source, encoding="utf-8", errors="replace")
        streams = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]  # nameless: the program has no path
        streams[0].write(given.encode(errors="replace"))
        streams[0].seek(0)
        command = [*START, mode, *map(str, settings(limits)), *more]
        status, late = wait([*box(), *bound(folder), *command], folder, streams, limits)
        for stream in streams:
            stream.seek(0)
        printed, written = (stream.read().decode(errors="replace") for stream in streams[1:])
    return Run(status, late, printed, written)


def wait(command: list[str], folder: str, streams: Sequence[IO[bytes]], limits: Limits) -> tuple[int, bool]:
    """Exit status of a command, and whether its time was over. streams: standard input, output, error."""
    child = subprocess.Popen(
        command, cwd=folder, stdin=streams[0], stdout=streams[1], stderr=streams[2], start_new_session=True,
        env={"PATH": os.defpath, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        status = child.wait(limits.seconds)
        return (128 - status if box() and status > 128 else status), False  # bubblewrap's way to name a signal
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, True
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@functools.cache
def box() -> tuple[str, ...]:
    """The command that starts another in bubblewrap. Nothing where that is not there, or does not work.

    In it the program has no network, sees no other processes, may write in its folder alone, and sees nothing of your
    home, of other programs' temporary files, and of sockets.
    """
    if not (found := shutil.which("bwrap")):
        return ()
    places = ("/home", "/root", "/run", "/tmp", "/var/tmp", tempfile.gettempdir(), os.environ.get("HOME", "/"))
    hidden = {path for path in places if Path(path).is_dir()} - {"/"}
    command = [found, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/", "/"]
    command += ["--dev", "/dev", "--proc", "/proc", *(word for path in sorted(hidden) for word in ("--tmpfs", path))]
    for path in (sys.base_prefix, sys.prefix, f"{PACKAGES}/acm"):
        command += ["--ro-bind", real := os.path.realpath(path), real]
        if real != path and hidden & set(map(str, Path(path).parents)):
            command += ["--symlink", real, path]
    trial = [*command, sys.executable, "-I", "-c", f"import os; os.stat({PACKAGES + '/acm'!r})"]
    return () if subprocess.run(trial, capture_output=True, check=False).returncode else tuple(command)


def bound(folder: str) -> list[str]:
    """What bubblewrap must be told of a program's folder."""
    return ["--bind", folder, folder, "--chdir", folder] if box() else []


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
