"""Draws word problems from reasoning-gym's ``gsm_symbolic``, and reads the test items that the package ships.

template  a kind of problem. All its problems have the same variables, whose names, hashed, are the template's name.
          reasoning-gym 0.1.25 has 61 that pass the filter below.
seen      test items of templates that were trained on, with other names and numbers
new       test items of the 8 templates that are held out: nothing was trained on them

A problem is kept where its chain of thought ends in its answer and holds an equation that is simple and right. No
question is in two of the sets. The templates are reasoning-gym's (Apache-2.0), after arXiv 2410.05229.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import lzma
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acm.errors import UserError
from smol import BENCHMARKS
from smol.writer import equations, lines_of, solve

Problem = dict[str, Any]  # question, gold, lines (of the chain of thought), template
HELD_OUT = 8  # templates
TEST_SEED, TRAINING_SEED, CALIBRATION_SEED = 9001, 1, 54
DRAWN = 4000  # problems that the test items are taken from
SEEN, NEW, CALIBRATION = 500, 200, 1000  # items
TRAINING = 90_000  # problems, before those of held-out templates are left out
SHORT, LONG = -1.6, 3.0  # verbosity of fast and slow, log-odds
ENDING = " Give the result as your final answer. Do not include units."  # of every question; left out


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def problem_of(example: dict[str, Any]) -> Problem | None:
    """A generated example as a problem; None where it is not kept."""
    gold, facts = example["answer"], example["metadata"]
    chain, _, last = facts["answer_cot"].rpartition("####")
    lines = lines_of(chain)
    if last.strip() != gold or not any(map(equations, lines)):
        return None
    question = example["question"].replace(ENDING, "")
    template = digest(",".join(sorted(facts["variables"])))[:8]
    return {"question": question, "gold": gold, "lines": lines, "template": template}


def draw(seed: int, known: set[str]) -> Iterator[Problem]:
    """Distinct problems of a seed. known: questions that are passed over; those that are drawn are added."""
    try:
        from reasoning_gym import create_dataset
    except ImportError:
        raise UserError(
            "package reasoning-gym is not installed; `make smol-train` installs what is in requirements-smol-train.txt."
        ) from None
    for example in create_dataset("gsm_symbolic", seed=seed, size=1_000_000):
        problem = problem_of(example)
        if problem and problem["question"] not in known:
            known.add(problem["question"])
            yield problem


class Sets:
    """The disjoint sets of problems. Training and calibration must be drawn in this order: test, training, calibration.

    Training takes 12 seconds, the rest 3.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()
        drawn = list(itertools.islice(draw(TEST_SEED, self.known), DRAWN))
        self.held_out = set(sorted({p["template"] for p in drawn}, key=digest)[:HELD_OUT])
        self.seen = [p for p in drawn if p["template"] not in self.held_out][:SEEN]
        self.new = [p for p in drawn if p["template"] in self.held_out][:NEW]

    def training(self, count: int = TRAINING) -> list[Problem]:
        """What was trained on: 79,642 problems of 90,000."""
        drawn = itertools.islice(draw(TRAINING_SEED, self.known), count)
        return [p for p in drawn if p["template"] not in self.held_out]

    def calibration(self, count: int = CALIBRATION) -> list[dict[str, str]]:
        """Questions with a short and a long answer, as s1K has them, of templates that were trained on."""
        kept = (p for p in draw(CALIBRATION_SEED, self.known) if p["template"] not in self.held_out)
        rng = random.Random(f"calibration/{CALIBRATION_SEED}")
        return [
            {"question": p["question"]}
            | {name: solve(p["lines"], p["gold"], v, rng) for name, v in (("short", SHORT), ("long", LONG))}
            for p in itertools.islice(kept, count)
        ]


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a file that the package ships: smol_seen, smol_new or calibration."""
    with lzma.open(BENCHMARKS / f"{name}.jsonl.xz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write(folder: Path = BENCHMARKS) -> None:
    """Write the three files that the package ships."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = Sets()
    sets.training()  # whose questions calibration must not have
    for name, rows in (("smol_seen", sets.seen), ("smol_new", sets.new), ("calibration", sets.calibration())):
        with lzma.open(folder / f"{name}.jsonl.xz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    write()
