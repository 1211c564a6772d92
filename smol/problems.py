"""Generates word problems by reasoning-gym's ``gsm_symbolic`` (templates of arXiv 2410.05229), with two answers each.

question     the problem, as generated
gold         the right answer, a number
terse        the short answer: the right answer in a box and nothing else
long         the long answer: the generator's steps, "Wait, let me double-check", the same steps again, the boxed answer
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from acm.errors import UserError

Row = dict[str, str]
CHECK = "Wait, let me double-check by going through it once more."


def answered(example: dict) -> Row | None:
    """A generated example with both answers; None where the generator's steps do not end in its answer."""
    steps, _, last = example["metadata"]["answer_cot"].rpartition("####")
    steps, gold = steps.strip(), example["answer"]
    if not steps or last.strip() != gold:
        return None
    terse = f"$\\boxed{{{gold}}}$"
    return {
        "question": example["question"],
        "gold": gold,
        "terse": terse,
        "long": f"{steps}\n\n{CHECK}\n\n{steps}\n\nThe final answer is {terse}.",
    }


def problems(seed: int, count: int, without: Collection[str] = ()) -> list[Row]:
    """``count`` distinct problems of a seed, none with a question in ``without``. Every seed has the same templates."""
    rows = itertools.islice(distinct(seed, set(without)), count)
    return list(rows)


def distinct(seed: int, seen: set[str]) -> Iterator[Row]:
    try:
        from reasoning_gym import create_dataset
    except ImportError:
        raise UserError(
            "package reasoning-gym is not installed; `make smol-models` installs what is in requirements-smol.txt."
        ) from None
    for example in create_dataset("gsm_symbolic", seed=seed, size=100_000):
        row = answered(example)
        if row and row["question"] not in seen:
            seen.add(row["question"])
            yield row


def write(rows: list[Row], path: Path) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
