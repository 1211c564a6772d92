"""Candidates a minute: a folder and a fresh load for each merge, against one loaded model that takes the tensors.

    .venv/bin/python benchmarks/search.py     # writes benchmarks/search.md; 5 minutes on one core

Both ways ask the same items, by turns, so that other work on the machine slows both. One thread.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import acm
from abacus import CHECKPOINTS
from acm.errors import UserError
from acm.files import write_text
from acm.merging.recipe import Recipe
from acm.merging.tensors import merged_tensors, planned
from acm.searching.resident import Resident

TASKS = ["abacus_easy", "abacus_medium", "abacus_hard"]
WEIGHTS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
ITEMS = {"few, 6 items of each task": 6, "as in a search, 60 items of each task": 60}
ENGINE = acm.Engine(dtype="float32", device="cpu", batch_size=180)
CAP = 320


def recipe(weight: float) -> dict[str, Any]:
    """Plain interpolation of the embedded pair."""
    models = [{"model": str(CHECKPOINTS / "abacus-slow")}]
    return {"merge_method": "task_arithmetic", "base_model": str(CHECKPOINTS / "abacus-fast"), "models": models,
            "parameters": {"weight": weight}}  # fmt: skip


def by_folder(weight: float, items: int) -> pd.DataFrame:
    """Merge into a folder, load it, ask."""
    with tempfile.TemporaryDirectory() as place:
        merged = acm.merge(recipe(weight), Path(place) / "merged")
        return acm.evaluate(merged, TASKS, items=items, max_tokens=CAP, engine=ENGINE)


def timed(work: Callable[..., pd.DataFrame], *given: Any) -> tuple[float, pd.DataFrame]:
    """Seconds, and what came out."""
    began = time.perf_counter()
    found = work(*given)
    return time.perf_counter() - began, found


def main() -> None:
    """Measure both ways and write the table."""
    torch.set_num_threads(1)
    model = Resident(Recipe.model_validate(recipe(0.5)), Path(), dict.fromkeys(TASKS, max(ITEMS.values())), ENGINE, CAP)

    def in_memory(weight: float, items: int) -> pd.DataFrame:
        model.take(merged_tensors(planned(recipe(weight)), device="cpu"))
        return model.ask({task: range(items) for task in TASKS})

    rows = []
    for label, items in ITEMS.items():
        by_folder(0.5, items), in_memory(0.5, items)  # compiles, fills caches
        seconds = []
        for weight in WEIGHTS:
            (before, folder), (after, memory) = timed(by_folder, weight, items), timed(in_memory, weight, items)
            both = folder.merge(memory, on=["task", "item"])
            if not ((both["length_x"] == both["length_y"]) & (both["correct_x"] == both["correct_y"])).all():
                raise UserError(f"λ = {weight}: the two ways answer differently.")
            seconds.append((before, after))
        before, after = (sum(column) for column in zip(*seconds, strict=True))
        rows.append({"items": label, "folder, candidates a minute": 60 * len(WEIGHTS) / before,
                     "in memory, candidates a minute": 60 * len(WEIGHTS) / after, "ratio": before / after})  # fmt: skip
    table = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f")
    text = (
        "# Candidates of a search a minute\n\nMade by `benchmarks/search.py`. The embedded pair, one thread of a "
        f"shared machine ({os.cpu_count()} cores), torch {torch.__version__}. *Folder*: `acm.merge`, then "
        "`acm.evaluate`. *In memory*: one loaded model takes the tensors of each merge. Both give the same answers.\n\n"
    )
    write_text(Path(__file__).with_suffix(".md"), f"{text}{table}\n")
    print(table)


if __name__ == "__main__":
    main()
