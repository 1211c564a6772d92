"""The course's checkers: ``check("1.2", answer)`` prints what is right, or raises NotYet with one sentence that says what is not.

A checker is a function of the answer, registered by ``@exercise("1.2")`` in ``lesson1.py``; it raises NotYet through ``need``, ``same`` or
``read``, and returns what to praise. What the answer itself raises is reported with the line that raised it.
"""

from __future__ import annotations

import pkgutil
import re
import sysconfig
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from acm.errors import unknown

Checker = Callable[[object], str]
CHECKERS: dict[str, Checker] = {}
OTHERS = (str(Path(__file__).parent.parent), sysconfig.get_path("stdlib"), "<frozen")  # code that no learner wrote


class NotYet(Exception):
    """An answer is not right yet; notebooks show the sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


def exercise(number: str) -> Callable[[Checker], Checker]:
    """Register the checker of an exercise, such as ``1.2``."""

    def bind(checker: Checker) -> Checker:
        if number in CHECKERS:
            raise ValueError(f"exercise {number} has two checkers.")
        CHECKERS[number] = checker
        return checker

    return bind


def checkers() -> dict[str, Checker]:
    """All checkers by number, those of every lesson module."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return CHECKERS


def check(number: str, answer: object) -> None:
    """Print what is right with the answer to an exercise, or raise NotYet; UserError for an unknown number.

    answer: what the exercise asks for, most often a function. Random inputs are seeded, so the same answer gets the same reply.
    """
    if number not in checkers():
        raise unknown("exercise", number, CHECKERS)
    try:
        praise = CHECKERS[number](answer)
    except NotYet as error:
        reason = str(error)
    except NotImplementedError:
        reason = (
            "Its cell still holds `raise NotImplementedError`: replace that line by your own and run the cell again."
        )
    except Exception as error:
        reason = kindly(error)
    else:
        print(f"✓ Exercise {number}: {praise}")
        return
    raise NotYet(reason)


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


def read(value: object, what: str, shape: tuple[int, ...] | None = ()) -> np.ndarray:
    """What an answer returned, as float64 numbers of this shape (``()``: a number; None: any); NotYet says what it is instead."""
    need(value is not None, f"{what} is None: does your function end with `return`?")
    try:
        found = (
            value.detach().double().numpy() if isinstance(value, torch.Tensor) else np.asarray(value, dtype=np.float64)
        )
    except (TypeError, ValueError):
        raise NotYet(f"{what} should be made of numbers, and is of type {type(value).__name__}.") from None
    if shape is not None and found.shape != shape:
        wanted = f"have the shape {shape}" if shape else "be one number"
        raise NotYet(f"{what} should {wanted}, and has the shape {found.shape}.")
    need(not np.isnan(found).any(), f"{what} holds NaN: look for 0 / 0, or the logarithm of 0 or of a negative number.")
    return found


def same(value: object, expected: object, what: str, otherwise: str, atol: float = 1e-6) -> None:
    """NotYet with the sentence ``otherwise`` unless ``value`` is ``expected`` to within ``atol`` + 1e-5 of it, and of its shape."""
    expected = read(expected, what, None)
    need(np.allclose(read(value, what, expected.shape), expected, rtol=1e-5, atol=atol), otherwise)
