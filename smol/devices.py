"""Compares responses of the same models on other devices, in other dtypes and batch sizes.

Rounding decides between two tokens of nearly equal logits, and the rest of a response follows from that token. So the
same weights can answer otherwise elsewhere (arXiv 2506.09501). ``benchmarks/devices.py`` makes the records of the GPU.

    setting     device, dtype and batch size, such as "GPU float32, 500"; a second run of one has the number behind it
    equal       share of items with the same response to the letter, percent
    righter     accuracy under a setting less that under the reference, points, on the same items
    longer      the same of the mean length, tokens
    graded      share of items whose grade differs, percent
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pandas as pd

from acm.errors import UserError
from acm.evaluation.grading import grade
from acm.questions.study import apart
from acm.reporting.statistics import bootstrap

KEYS = ["method", "task", "item"]


def with_settings(gpu: pd.DataFrame, cpu: pd.DataFrame, cpu_batch: int) -> pd.DataFrame:
    """Both records in one table, with the column setting. gpu: ``records.parquet``. cpu: a run's, of float32."""
    again = gpu["run"].map(lambda run: f", run {run + 1}" if run else "")
    names = "GPU " + gpu["dtype"] + ", " + gpu["batch_size"].astype(str) + again
    here = cpu.assign(setting=f"CPU float32, {cpu_batch}")
    columns = [*KEYS, "correct", "length", "truncated", "response", "setting"]
    return pd.concat([gpu.assign(setting=names)[columns], here[columns]], ignore_index=True)


def compare(records: pd.DataFrame, reference: str) -> pd.DataFrame:
    """One row for each setting and method that the reference has too, with 95 % intervals over items.

    records: of :func:`with_settings`. n: items that both have. UserError where the reference has no records.
    """
    against = records[records["setting"] == reference]
    if against.empty:
        raise UserError(f"there are no records of {reference}; run benchmarks/devices.py with more seconds.")
    rows = []
    for (setting, method), part in records.groupby(["setting", "method"], sort=False):
        both = part.merge(against, on=KEYS, suffixes=("", "_reference"))
        if setting == reference or both.empty:
            continue
        found = paired(both)
        equal = 100 * (both["response"] == both["response_reference"]).mean()
        graded = 100 * (both["correct"] != both["correct_reference"]).mean()
        rows.append({"setting": setting, "method": method, "n": len(both), "equal": equal, "graded": graded, **found})
    return pd.DataFrame(rows)


def paired(both: pd.DataFrame) -> dict[str, float]:
    """righter and longer of the responses of one method under two settings, with ``_low`` and ``_high``."""
    sides = [
        both[KEYS].assign(method=name, repeat=0, correct=both[f"correct{end}"], length=both[f"length{end}"])
        for name, end in (("here", ""), ("reference", "_reference"))
    ]
    sample = bootstrap(pd.concat(sides, ignore_index=True), ["here", "reference"], list(both["task"].unique()))
    return apart(sample, [("here", "reference")]).columns()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each setting: of :func:`compare`'s rows the means, and the largest changes of a model.

    shown: how many models' accuracy and length have an interval without 0. Intervals are not adjusted for their number.
    """
    rows = {}
    for setting, part in table.groupby("setting", sort=False):
        rows[setting] = {
            "models": len(part), "items": part["n"].max(), "equal": part["equal"].mean(),
            "equal_least": part["equal"].min(), "graded": part["graded"].mean(),
            "righter": part["righter"].mean(), "righter_most": part["righter"].abs().max(),
            "longer": part["longer"].mean(), "longer_most": part["longer"].abs().max(),
            "shown righter": int(((part["righter_low"] > 0) | (part["righter_high"] < 0)).sum()),
            "shown longer": int(((part["longer_low"] > 0) | (part["longer_high"] < 0)).sum()),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("setting")


def from_training(path: Path, names: dict[str, str]) -> pd.DataFrame:
    """The responses that the GPU gave right after the training, in bfloat16: method, item, gold, response, correct.

    path: ``responses.json.xz``: ``λ/seen`` → the first responses, each with question and gold. names: λ, such as "0.5",
    → method.
    """
    rows = [
        (names[key.removesuffix("/seen")], item, gold, response, float(grade(response, gold).correct))
        for key, responses in json.loads(lzma.decompress(path.read_bytes())).items()
        if key.endswith("/seen")
        for item, (_, gold, response) in enumerate(responses)
    ]
    return pd.DataFrame(rows, columns=["method", "item", "gold", "response", "correct"])


def parted(there: pd.DataFrame, here: pd.DataFrame) -> pd.DataFrame:
    """One row for each method: how many responses are equal to the letter, and graded alike. n: responses.

    there: of :func:`from_training`. here: records of one task. ``right there`` and ``right here`` are numbers too.
    """
    both = there.merge(here, on=["method", "item"], suffixes=("_there", ""))
    both["equal"] = both["response"] == both["response_there"]
    both["graded alike"] = both["correct"] == both["correct_there"]
    found = both.groupby("method", sort=False).agg(
        **{"n": ("item", "size"), "equal": ("equal", "sum"), "graded alike": ("graded alike", "sum")},
        **{"right there": ("correct_there", "sum"), "right here": ("correct", "sum")},
    )
    return found.astype(int)
