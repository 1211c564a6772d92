"""math-verify in a child process: limits of time and memory, and usable from any thread.

``python -m acm.evaluation.verifier`` is the child. It reads a JSON line [gold, answer, decimal places] and writes a JSON line, the verdict.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading

from acm.errors import UserError
from acm.paths import ROOT

CPU_SECONDS = (
    5.0  # for one comparison, of the child's own time, so that a busy machine gives the same grades; most take 20 ms
)
SECONDS = 60.0  # by the clock, for what the child cannot stop by itself: powers of huge integers
START_SECONDS = 120.0  # for its imports on a loaded machine
GIGABYTES = 4
EXACT_DIGITS = 60  # of two exact expressions; with the 15 that decimals get, 2^{-100} would be nothing


class Verifier:
    """Keeps one child; a child that takes too long or dies is replaced, and its comparison counts as unequal."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds, self.lock = seconds, threading.Lock()
        self.child: subprocess.Popen | None = None
        self.owner = 0

    def equal(self, gold: str, answer: str, decimals: int) -> bool | None:
        """Whether math-verify takes them for equal; None if it cannot read the gold."""
        with self.lock:
            if self.child is None or self.child.poll() is not None or self.owner != os.getpid():
                self.start()
            try:
                self.child.stdin.write(json.dumps([gold, answer, decimals]).encode() + b"\n")
                line = self.read(self.seconds)
            except BrokenPipeError:
                line = b""
            if not line:
                self.stop()
            return json.loads(line) if line else False

    def start(self) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.child = subprocess.Popen(
            [sys.executable, "-m", "acm.evaluation.verifier"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            env=environment, cwd=ROOT,
        )  # fmt: skip
        self.owner = os.getpid()
        if self.read(START_SECONDS) != b'"ready"\n':
            self.child.kill()
            last = (self.child.stderr.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            self.child = None
            raise UserError(
                f"math-verify cannot be run ({last}); install what the project locks: pip install 'lm-eval[math]'."
            )

    def read(self, seconds: float) -> bytes:
        """The child's next line, or b"" if it is late or dead."""
        ready, _, _ = select.select([self.child.stdout], [], [], seconds)
        return self.child.stdout.readline() if ready else b""

    def stop(self) -> None:
        if self.child and self.owner == os.getpid():
            self.child.kill()
            self.child.wait()
        self.child = None


class OutOfTime(BaseException):
    """Not an Exception: sympy and math-verify swallow those."""


def out_of_time(*_) -> None:
    raise OutOfTime


def compare(gold: str, answer: str, decimals: int) -> bool | None:
    """math-verify's verdict, None for a gold that it cannot read; both sides are read as the content of a box. May take forever.

    All of it as LaTeX or not at all: else, where an expression cannot be read, math-verify takes its last number or fraction for it.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    whole = {"extraction_config": [LatexExtractionConfig()], "extraction_mode": "first_match", "parsing_timeout": None}
    parsed = [parse(rf"\boxed{{{text}}}", **whole) for text in (gold, answer)]
    if all(isinstance(found, str) for found in parsed[0]):
        return None
    digits = decimals + 9 if "." in gold + answer else max(EXACT_DIGITS, decimals + 9)
    return verify(*parsed, float_rounding=decimals, numeric_precision=digits, timeout_seconds=None)


def mend_equations() -> None:
    """Two equations that have no solution are not therefore the same, as math-verify 0.9 has it: x²+1=0 and x²+2=0, log 8=3 and log 8=4.

    Then one side minus the other must be the same up to a factor.
    """
    from math_verify import grader
    from sympy import simplify, solve

    by_solutions = grader.sympy_solve_and_compare

    def compare_equations(gold, answer, *settings) -> bool:
        if solve(gold, gold.free_symbols):
            return by_solutions(gold, answer, *settings)
        factor = simplify((gold.lhs - gold.rhs) / (answer.lhs - answer.rhs))
        return bool(gold.free_symbols) and not factor.free_symbols and bool(factor.is_nonzero)

    grader.sympy_solve_and_compare = compare_equations


def serve() -> None:
    """The child's loop. What sympy prints goes nowhere; running out of memory or stack is an unequal pair."""
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
