"""Runs programs that a model wrote, and their tests. This is what the grader's child processes do.

Mode ``program`` runs ``program.py``, which reads standard input and prints. Mode ``tests`` runs the tests that standard
input holds; it starts mode ``candidate``, which runs ``program.py`` and does what the tests ask for over a socket.

So tests and program are two processes. The program sees the arguments of its own functions, and nothing else of the
tests: no expected value, no marker. What it returns is compared where it cannot reach. A pass is the exit status of the
tests' process.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import ctypes
import importlib
import os
import resource
import runpy
import socket
import subprocess
import sys
import traceback
import types
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from acm.evaluation.code_peers import Ended, Peer

PACKAGES = str(Path(__file__).parents[2])  # where this package lies, for a Python that sees only its own
BOOT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from acm.evaluation.code_runner import main
sys.path.pop(0)
main(*sys.argv[1:])
"""
START = (sys.executable, "-I", "-c", BOOT, PACKAGES)
LIMITS = ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_CORE")
PROGRAM = "program.py"


def run_candidate(handle: int) -> NoReturn:
    """Run the program, then do what the tests ask for over a socket until they end."""
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = [PROGRAM]
    source = Path(PROGRAM).read_text(encoding="utf-8")
    exec(compile(source, PROGRAM, "exec"), vars(module))
    peer = Peer(Connection(handle), True, vars(module))
    peer.send("ready")
    while True:
        try:
            _, *question = peer.receive()
        except Ended:
            os._exit(0)
        peer.answer(*question)


def shut() -> None:
    """On Linux, let no other process of the user look into this one: into its memory or its open files."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def run_tests(asked: str, processes: int) -> NoReturn:
    """Run the tests that standard input holds.

    asked: built-in names that the program may define anew, by commas. processes: limit for the program.
    """
    shut()
    tests = ast.parse(sys.stdin.read(), "tests")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    ours, theirs = socket.socketpair()
    child = subprocess.Popen([*START, "candidate", str(theirs.fileno()), str(processes)], pass_fds=[theirs.fileno()])
    theirs.close()
    peer = Peer(Connection(ours.detach()), False, {})
    try:
        peer.receive()
        names = wanted(tests, set(asked.split(",")))
        found = peer.ask("names", names)
        scope = {"__name__": "__main__"} | {name: found[name] for name in names if name in found} | modules(tests)
        exec(compile(tests, "tests", "exec"), scope)
        peer.ask("names", [])  # it is still there
    except Ended as error:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if (status := child.wait(2)) < 0:
                os.kill(os.getpid(), -status)
        raise SystemExit(f"the program ended before its tests ({error})") from None
    except Exception:
        traceback.print_exc(limit=-1)
        raise SystemExit(1) from None
    finally:
        child.kill()
    raise SystemExit(0)


def wanted(tests: ast.Module, asked: set[str]) -> list[str]:
    """The names that the tests may take from the program: no built-in ones, unless asked for, and no modules."""
    names = {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)}
    return sorted(name for name in names - modules(tests).keys() if name in asked or not hasattr(builtins, name))


def modules(tests: ast.Module) -> dict[str, Any]:
    """The modules of Python's library that the tests take names of: the program's imports are not needed for them."""
    owners = [node.value for node in ast.walk(tests) if isinstance(node, ast.Attribute)]
    names = {owner.id for owner in owners if isinstance(owner, ast.Name)}
    return {name: importlib.import_module(name) for name in names & sys.stdlib_module_names - {"antigravity", "this"}}


def main(mode: str, *arguments: str) -> None:
    """Run a mode. arguments: the limits, which child processes inherit, then what the mode takes.

    Of ``candidate``: the socket, and the limit of processes.
    """
    if mode == "candidate":
        limit({"RLIMIT_NPROC": int(arguments[1])})
        run_candidate(int(arguments[0]))
    limits = dict(zip(LIMITS, map(int, arguments), strict=False))
    if mode == "tests":  # they start a process, and the user may have more than the limit
        processes = limits.pop("RLIMIT_NPROC")
        limit(limits)
        run_tests(arguments[len(LIMITS)], processes)
    limit(limits)
    sys.argv = [PROGRAM]
    runpy.run_path(PROGRAM, run_name="__main__")


def limit(limits: dict[str, int]) -> None:
    """Set limits of this process, as far as the system has them."""
    for name, value in limits.items():
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), (value, value))
