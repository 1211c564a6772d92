"""Question 2 on fresh items: its decisive contrasts, with more power than the benchmark's items give.

Fresh items are generated like the benchmark's and are none of them, so nothing was chosen by looking at them. Each
task of the experiment has a task of fresh items, ``<task>_fresh``. Real models have no such tasks.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from acm.evaluation.task_files import is_ours
from acm.questions.coefficients import judged, lead_over, names_of
from acm.questions.messages import on_contrasts
from acm.questions.study import SLIM, Study, evaluate_model
from acm.records import write_parquet
from acm.reporting.contrast_figures import draw_contrasts
from acm.reporting.statistics import Sample, above_bar

PLAIN = "TA"  # the method of the profile that the paper compares ACM-TA with
NAMES = {
    "acm": "ACM", "uniform": "uniform λ", "null": "λ of noise", PLAIN: "Task Arithmetic",
    "sized": "ACM at the paper's size", "uniform-sized": "its mean",
}  # fmt: skip
CONTRASTS = [("acm", "uniform"), ("acm", "null"), ("acm", PLAIN), ("null", PLAIN), ("sized", "uniform-sized")]


def tasks_of(study: Study) -> list[str]:
    """The tasks of fresh items; none where a task of the experiment has none."""
    names = [f"{task}_fresh" for task in study.setting.tasks]
    return names if all(map(is_ours, names)) else []


def evaluate(study: Study, merges: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Records on the fresh items, stored as ``fresh.parquet``.

    The models are the parents, the frontier, Task Arithmetic as the profile has it, and of the merges those that are
    contrasted. Finished batches are kept.
    """
    variants = {name: {"parameters": {"weight": value}} for value, name in study.results.swept.items()}
    if PLAIN in study.setting.methods:
        variants[PLAIN] = {"parameters": study.setting.methods[PLAIN].parameters}
    variants |= {name: merge for name, merge in merges.items() if name.rpartition(" ")[0] in NAMES}
    tasks = tasks_of(study)
    found = [
        evaluate_model(path, study.profile, study.experiment, study.folder, name, tasks)
        for name, path in study.setting.parents.items()
    ]
    names = tqdm(variants, desc="fresh", unit="merge", mininterval=10)
    found += [study.one(name, variants[name], tasks) for name in names]
    records = pd.concat(found, ignore_index=True)[SLIM]
    write_parquet(records, study.folder / "fresh.parquet")
    return records


def contrasts(sample: Sample, frontier: list[str]) -> pd.DataFrame:
    """One row for each of :data:`CONTRASTS`, with 95 % intervals over items and calibration draws; means over draws.

    ours, theirs: what is compared. lead: points above the bar, ours less theirs. righter, longer: accuracy (points) and
    length (tokens) on the same items, ours less theirs. p: of the lead; p_adjusted: by Holm for these contrasts alone,
    which are one family. detectable, verdict: as in :func:`acm.questions.coefficients.comparison`. draws: calibration
    draws. n: items.
    """
    merges = {kind: names_of(sample, kind) or [name for name in sample.methods if name == kind] for kind in NAMES}
    above = {name: above_bar(sample, name, frontier) for names in merges.values() for name in names}
    rows = []
    for ours, theirs in CONTRASTS:
        pairs = [(name, counterpart(name, theirs)) for name in merges[ours]]
        if merges[ours] and merges[theirs]:
            labels = {"ours": ours, "theirs": theirs, "draws": len(pairs), "n": sum(sample.items.values())}
            rows.append(labels | lead_over(pairs, above, sample))
    table = pd.DataFrame(rows)
    return judged(table, table["ours"].notna())


def counterpart(name: str, kind: str) -> str:
    """The merge of a kind that a merge is compared with: that of the same calibration draw, or the only one."""
    return kind if kind == PLAIN else f"{kind} {name.rpartition(' ')[2]}"


def draw(table: pd.DataFrame) -> Figure:
    """The contrasts by lead, accuracy and length, with 95 % intervals. table: of :func:`contrasts`."""
    ours = table[table["ours"] == "acm"]
    verdicts = {NAMES[theirs]: str(found) for theirs, found in zip(ours["theirs"], ours["verdict"], strict=True)}
    pairs = zip(table["ours"], table["theirs"], strict=True)
    names = [f"{NAMES[one]} less {NAMES[other]}" for one, other in pairs]
    return draw_contrasts(on_contrasts(verdicts, int(table["n"].iloc[0])), table, names)
