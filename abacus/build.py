"""Writes the abacus files that the repository ships: benchmarks, calibration texts, checkpoints with model cards."""

from __future__ import annotations

import json
import random
from pathlib import Path

from abacus import BENCHMARKS, problems


def calibration_problems(items: int = 1000, seed: int = 54) -> list[dict]:
    """Word problems outside the benchmarks, each with a terse and a long answer, as s1K has short and long ones."""
    rng = random.Random(f"calibration/{seed}")
    found: dict[str, dict] = {}
    while len(found) < items:
        problem = problems.word_problem(rng, rng.randint(1, 6))
        if not problems.held_out(problem):
            short, long = (problems.solve(problem, verbosity, rng) for verbosity in (-3.0, 3.0))
            found[problem.question] = {"question": problem.question, "short": short, "long": long}
    return list(found.values())


def calibration_skills(items: int = 1000, seed: int = 54) -> list[dict]:
    """Sums and words to sort in turn, outside the benchmarks, with their answers."""
    rng = random.Random(f"calibration-skills/{seed}")
    found: dict[str, dict] = {}
    while len(found) < items:
        problem, answer = (problems.long_sums, problems.long_words)[len(found) % 2](rng)
        if not problems.held_out(problem):
            found[problem.question] = {"question": problem.question, "answer": answer}
    return list(found.values())


def data_files() -> dict[str, list[dict]]:
    """File stem → rows, for every JSONL file in ``abacus/benchmarks``."""
    benchmarks = {name: problems.benchmark(name) for name in problems.BENCHMARKS}
    return benchmarks | {"calibration_problems": calibration_problems(), "calibration_skills": calibration_skills()}


def write_data(folder: Path = BENCHMARKS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in data_files().items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    write_data()
