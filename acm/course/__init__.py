"""Checks a learner's answers to the exercises of the course.

``check("1.2", answer)`` prints one sentence: what is right with an answer, what is wrong, or that it is still to be
written. It never stops a notebook. ``judged("1.2", answer)`` raises :class:`NotYet` instead. Each exercise has a
checker, a function that takes the answer. ``@exercise("1.2")`` registers it; the checker of exercise 1.2 is in
``lesson1.py``. A checker raises NotYet by the helpers below, such as ``need`` and ``same``, and returns a sentence of
praise. If the answer itself raises an exception, the report names the learner's line that raised it.
"""

from __future__ import annotations

import pkgutil
import re
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acm.errors import unknown

Answer = Callable[..., Any]  # what an exercise asks for
Checker = Callable[[Any], str]  # answer → sentence of praise
CHECKERS: dict[str, Checker] = {}
SOLVED: set[str] = set()  # exercises whose last check in this session was passed
UNSOLVED = "Its cell still holds `raise NotImplementedError`: replace that line by your own, and run both cells again."
OTHER = (
    "Your code calls the answer to exercise {}, whose cell still holds `raise NotImplementedError`: "
    "solve that one first."
)
OTHERS = (str(Path(__file__).parent.parent), sysconfig.get_path("stdlib"), "<frozen")  # code that is not a learner's


class NotYet(Exception):
    """An answer is not right yet. The message is one sentence for the learner."""


class Unsolved(NotYet):
    """An answer is still to be written."""


def exercise(number: str) -> Callable[[Checker], Checker]:
    """Register the checker of an exercise, such as ``1.2``."""

    def bind(checker: Checker) -> Checker:
        if number in CHECKERS:
            raise ValueError(f"exercise {number} has two checkers.")
        CHECKERS[number] = checker
        return checker

    return bind


def checkers() -> dict[str, Checker]:
    """Number → checker, of every lesson module."""
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("lesson"):
            import_module(f"{__name__}.{module.name}")
    return CHECKERS


def judged(number: str, answer: object) -> str:
    """What is right with the answer to an exercise. NotYet with what is wrong; UserError for an unknown number.

    answer: what the exercise asks for, most often a function. Random inputs are seeded, so the same answer gets the
    same reply.
    """
    if number not in checkers():
        raise unknown("exercise", number, CHECKERS)
    try:
        return CHECKERS[number](answer)
    except NotYet:
        raise
    except NotImplementedError as error:
        raise not_written(number, error) from None
    except Exception as error:
        raise NotYet(kindly(error)) from error


def not_written(number: str, error: NotImplementedError) -> NotYet:
    """What to say of an answer that is still to be written, or calls the answer to another exercise that is."""
    named = re.fullmatch(r"Exercise (\d+\.\d+)", str(error))
    return Unsolved(UNSOLVED) if named is None or named[1] == number else NotYet(OTHER.format(named[1]))


def check(number: str, answer: object) -> None:
    """Print in one sentence how right the answer to an exercise is, and go on. UserError for an unknown number."""
    SOLVED.discard(number)
    try:
        praise = judged(number, answer)
    except Unsolved as wanted:
        print(f"○ Exercise {number} waits for you. {wanted} What follows does not need it.")
    except NotYet as wrong:
        print(f"✗ Exercise {number}, not yet. {wrong}")
    else:
        SOLVED.add(number)
        print(f"✓ Exercise {number}: {praise}")


def progress(lesson: int) -> None:
    """Print how many exercises of a lesson its checks found solved, and which are open. UserError for no lesson."""
    numbers = [number for number in sorted(checkers()) if number.startswith(f"{lesson}.")]
    if not numbers:
        raise unknown("lesson", str(lesson), {number.partition(".")[0] for number in CHECKERS})
    still = [number for number in numbers if number not in SOLVED]
    told = f"Still open: {', '.join(still)}." if still else "All of them: well done."
    print(f"{len(numbers) - len(still)} of {len(numbers)} exercises of lesson {lesson} solved. {told}")


def kindly(error: Exception) -> str:
    """An exception of the answer in one sentence, with the line of the learner that raised it if there is one."""
    name, message = type(error).__name__, re.sub(r"\s+", " ", str(error)).rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(OTHERS) and "site-packages" not in f.filename]
    if own:
        return f"Your code stopped with {name} ({message}) in line {own[-1].lineno} of its cell: `{own[-1].line}`."
    return f"Your answer cannot be checked ({name}: {message}); see what the exercise asks for."


def need(right: object, otherwise: str) -> None:
    """NotYet with this sentence unless ``right``."""
    if not bool(right):
        raise NotYet(otherwise)


def need_kind(found: object, kind: type | tuple[type, ...], what: str) -> None:
    """NotYet unless an answer returned something of this type. what: the type in words, such as ``a dictionary``."""
    told = f"Return {what}, not {type(found).__name__}: does your function end with `return`?"
    need(isinstance(found, kind), told)


def need_not(found: Any, mistakes: Mapping[str, Any], atol: float = 1e-8) -> None:
    """NotYet with the first of these sentences whose wrong value was found. mistakes: sentence → number or array."""
    for sentence, wrong in mistakes.items():
        need(not np.allclose(found, wrong, atol=atol), sentence)


def read(value: Any, what: str, shape: tuple[int, ...] | None = ()) -> np.ndarray:
    """What an answer returned, as float64 numbers; NotYet says what it is instead.

    what: the answer in words. shape: the shape wanted; ``()`` is one number, None any.
    """
    need(value is not None, f"{what} is None: does your function end with `return`?")
    try:
        tensor = isinstance(value, torch.Tensor)
        found = value.detach().double().numpy() if tensor else np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise NotYet(f"{what} should be made of numbers, and is of type {type(value).__name__}.") from None
    if shape is not None and found.shape != shape:
        wanted = f"have the shape {shape}" if shape else "be one number"
        raise NotYet(f"{what} should {wanted}, and has the shape {found.shape}.")
    need(not np.isnan(found).any(), f"{what} holds NaN: look for 0 / 0, or the logarithm of 0 or of a negative number.")
    return found


def same(value: object, expected: object, what: str, otherwise: str, atol: float = 1e-6) -> None:
    """NotYet with the sentence ``otherwise`` unless a value is what it should be.

    what: the value in words. Its shape must be that of ``expected``, and its numbers within ``atol`` + 1e-5 of them.
    """
    wanted = read(expected, what, None)
    need(np.allclose(read(value, what, wanted.shape), wanted, rtol=1e-5, atol=atol), otherwise)
