"""Compares two answers by math-verify, in a child process with limits of time and memory. It works from any thread.

``python -m acm.evaluation.verifier`` is the child. For each comparison it reads one JSON line, [gold, answer, decimal
places], and writes one JSON line, the verdict.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import select
import signal
import sys
import threading
from subprocess import PIPE, Popen
from typing import Any

from acm.errors import UserError
from acm.paths import ROOT

# Limits of one comparison. The first limits the child's CPU time, so that a busy machine gives the same grades; most
# comparisons take 20 ms. The second is by the clock, for what the child cannot interrupt: powers of huge integers.
CPU_SECONDS = 5.0
SECONDS = 60.0
START_SECONDS = 120.0  # by the clock, for the child's imports on a loaded machine
GIGABYTES = 4
EXACT_DIGITS = 60  # digits in which two exact expressions are compared; with 15, as for decimals, 2^{-100} would be 0


class Verifier:
    """Keeps one child. A child that takes too long or dies is replaced, and its comparison counts as unequal."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds, self.lock = seconds, threading.Lock()
        self.child: Popen[bytes] | None = None
        self.owner = 0

    def equal(self, gold: str, answer: str, decimals: int) -> bool | None:
        """Whether math-verify takes gold and answer for equal. None if it cannot read the gold.

        decimals: decimal places that count. UserError where math-verify cannot be run.
        """
        with self.lock:
            child = self.child
            if child is None or child.poll() is not None or self.owner != os.getpid():
                child = self.start()
            try:
                write(child, json.dumps([gold, answer, decimals]).encode() + b"\n")
                line = read(child, self.seconds)
            except BrokenPipeError:
                line = b""
            if not line:
                self.stop()
            return json.loads(line) if line else False

    def start(self) -> Popen[bytes]:
        """A new child, ready for comparisons. UserError with its last words where it does not start."""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "acm.evaluation.verifier"]
        child = Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, bufsize=0, env=environment, cwd=ROOT)
        self.child, self.owner = child, os.getpid()
        if read(child, START_SECONDS) != b'"ready"\n':
            child.kill()
            _, errors = child.communicate()
            last = (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            self.child = None
            raise UserError(
                f"math-verify cannot be run ({last}); install what the project locks: pip install 'lm-eval[math]'."
            )
        return child

    def stop(self) -> None:
        """End the child, if this process has one."""
        if self.child and self.owner == os.getpid():
            self.child.kill()
            self.child.wait()
        self.child = None


def write(child: Popen[bytes], line: bytes) -> None:
    """Give the child a line."""
    assert child.stdin is not None
    child.stdin.write(line)


def read(child: Popen[bytes], seconds: float) -> bytes:
    """The child's next line. Empty if it is late or dead."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], seconds)
    return child.stdout.readline() if ready else b""


class OutOfTime(BaseException):
    """The time of a comparison is over. No Exception, because sympy and math-verify swallow those."""


def out_of_time(*_: object) -> None:
    """What the child's alarm calls."""
    raise OutOfTime


def compare(gold: str, answer: str, decimals: int) -> bool | None:
    """math-verify's verdict. None for a gold that it cannot read. May take forever.

    Both sides are read as the content of a box, and wholly as LaTeX. Where math-verify may read otherwise, it takes the
    last number or fraction of an expression that it cannot read for the whole.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    config = [LatexExtractionConfig()]
    parsed = [
        parse(rf"\boxed{{{text}}}", extraction_config=config, extraction_mode="first_match", parsing_timeout=None)
        for text in (gold, answer)
    ]
    if all(isinstance(found, str) for found in parsed[0]):
        return None
    digits = decimals + 9 if "." in gold + answer else max(EXACT_DIGITS, decimals + 9)
    return verify(*parsed, float_rounding=decimals, numeric_precision=digits, timeout_seconds=None)


def mend_equations() -> None:
    """Mend how math-verify 0.9 compares equations that have no solution.

    It takes any two of them for the same, such as x²+1=0 and x²+2=0, or log 8=3 and log 8=4. Mended, left minus right
    must be the same in both up to a factor.
    """
    from math_verify import grader
    from sympy import simplify, solve

    by_solutions = grader.sympy_solve_and_compare

    def compare_equations(gold: Any, answer: Any, *settings: Any) -> bool:
        if solve(gold, gold.free_symbols):
            return by_solutions(gold, answer, *settings)
        factor = simplify((gold.lhs - gold.rhs) / (answer.lhs - answer.rhs))
        return bool(gold.free_symbols) and not factor.free_symbols and bool(factor.is_nonzero)

    grader.sympy_solve_and_compare = compare_equations


def serve() -> None:
    """The child's loop. What sympy prints goes nowhere. A pair that takes all memory or stack counts as unequal."""
    import logging

    mend_equations()
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGPROF, out_of_time)
    out = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = GIGABYTES << 30
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    print(json.dumps("ready"), file=out, flush=True)
    for line in sys.stdin:
        try:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            verdict = compare(*json.loads(line))
        except (Exception, OutOfTime):
            verdict = False
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), file=out, flush=True)


VERIFIER = Verifier()
equal = VERIFIER.equal
atexit.register(VERIFIER.stop)

if __name__ == "__main__":
    serve()
