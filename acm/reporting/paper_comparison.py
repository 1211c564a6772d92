"""Compares the paper's tables and figures with ours, cell by cell. A cell that was not run here says so.

Accuracies and truncation are in percent, lengths in tokens. Our numbers come from the records of a profile, and have
95 % intervals for the choice of items. The paper prints no intervals. Two other sources are shown too: arXiv 2503.20641
(*sister*) and arXiv 2604.06465 (*replication*).
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from acm.errors import UserError, unknown
from acm.paper import REFLECTIONS, TABLES, load, paper_name
from acm.paths import REPORTS, RUNS
from acm.records import read_coefficients
from acm.reporting import paper_numbers
from acm.reporting.intervals import interval_text
from acm.reporting.plotting import COLOURS, family, name_lines
from acm.reporting.replication import replicated
from acm.reporting.statistics import bootstrap, describe, share

NOT_RUN, NOT_PRINTED = "not run", "not printed"
SOURCES = {"l2s-sister": "sister", "evo-l2s-replication": "replication"}
PREFIX = "acm_"  # the beginning of our tasks' names
PRINTED = {  # column of :func:`table` → its heading, and its decimals
    f"{label}{suffix}": (f"{label} {unit}", digits)
    for label in ("paper", *SOURCES.values())
    for suffix, unit, digits in (("", "%", 1), ("_length", "tokens", 0))
}
OURS = ("ours", "ours_low", "ours_high", "ours_length", "ours_length_low", "ours_length_high", "n", "truncated", "cap")


def our_records(profile: str) -> pd.DataFrame | None:
    """All records of a profile: of your run if there is one, else the committed ones. None where it was not run.

    Tasks and parents have the names that the paper gives them.
    """
    for root in (RUNS, REPORTS):
        folder = root / profile
        if files := [*sorted(folder.glob("*/records/*.parquet")), *sorted(folder.glob("*/records.parquet"))]:
            records = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
            names = records["task"].str.removeprefix(PREFIX)
            return records.assign(task=names, method=records["method"].map(paper_name))
    return None


def table(number: str, records: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 1 to 5: one row for each method and task.

    Columns: the paper's accuracy and length; ours with intervals, n, truncation and cap; those of the other sources.
    NaN: not printed, or not run. UserError for another number.
    """
    if number not in TABLES:
        raise unknown("table of scores", number, TABLES)
    name, size, _ = TABLES[number]
    scores = load("published_scores")
    paper = scores[(scores["source"] == "acm-v1") & (scores["table"] == name)][["method", "task", "accuracy", "length"]]
    found = paper.rename(columns={"accuracy": "paper", "length": "paper_length"}).reset_index(drop=True)
    ours = pd.DataFrame([our_cell(records, *key) for key in zip(found["method"], found["task"], strict=True)])
    found = pd.concat([found, ours], axis=1)
    found["difference"] = found["ours"] - found["paper"]
    for source, label in SOURCES.items():
        other = scores[(scores["source"] == source) & (scores["size"] == size)].drop_duplicates(["method", "task"])
        merged = found[["method", "task"]].merge(other, how="left", on=["method", "task"])
        found[label], found[f"{label}_length"] = merged["accuracy"], merged["length"]
    return found


def our_cell(records: pd.DataFrame | None, method: str, task: str) -> dict[str, float]:
    """Ours at one cell, by the names of :data:`OURS`; NaN where it was not run."""
    part = None if records is None else records[(records["method"] == method) & (records["task"] == task)]
    if part is None or part.empty:
        return dict.fromkeys(OURS, np.nan)
    sample = bootstrap(part, [method], [task])
    accuracy, length = share(sample, method), describe(sample.length[0, 0], 1)
    cap = json.loads(part["setting"].iloc[0]).get("max_tokens", np.nan)
    facts = sample.items[task], 100 * part["truncated"].mean(), cap
    return dict(zip(OURS, [*accuracy.values(), *length.values(), *facts], strict=True))


def number(value: float, digits: int = 1, missing: str = NOT_RUN) -> str:
    """A number as text; NaN as the words ``missing``."""
    return missing if pd.isna(value) else f"{value:.{digits}f}"


def printed(values: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """Published numbers as text, with a column for each source by its name here. What was not printed says so."""
    return values.map(number, digits=digits, missing=NOT_PRINTED).rename(columns={"acm-v1": "paper"} | SOURCES)


def shown(found: pd.DataFrame) -> pd.DataFrame:
    """:func:`table` as text, in which no empty cell looks like a result.

    A source other than the paper has a column where it prints anything for this table.
    """
    columns = {key: style for key, style in PRINTED.items() if key.startswith("paper") or found[key].notna().any()}
    if not np.allclose(found["paper"], found["paper"].round(1)):  # Table 3 prints two decimals
        columns["paper"] = ("paper %", 2)
    rows = []
    for row in found.to_dict("records"):
        ran = not pd.isna(row["ours"])
        accuracy = row["ours"], row["ours_low"], row["ours_high"]
        length = row["ours_length"], row["ours_length_low"], row["ours_length_high"]
        rows.append({
            "method": row["method"],
            "task": row["task"],
            **{label: number(row[key], digits, NOT_PRINTED) for key, (label, digits) in columns.items()},
            "ours %": interval_text(*accuracy) if ran else NOT_RUN,
            "ours tokens": interval_text(*length, digits=0) if ran else NOT_RUN,
            "ours − paper": f"{row['difference']:+.1f}" if ran else NOT_RUN,
            "n": number(row["n"], 0),
            "truncated %": number(row["truncated"]),
            "cap": number(row["cap"], 0),
        })  # fmt: skip
    return pd.DataFrame(rows).set_index(["method", "task"])


def reflections(number: str, records: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 6 or 7: how many responses have a reflection keyword, the paper's count beside ours.

    items: the number of items that bounds the paper's count. ours, ours of: our count, and of how many; repeats are
    averaged. UserError for another number.
    """
    if number not in REFLECTIONS:
        raise unknown("table of reflections", number, REFLECTIONS)
    counts = load("reflection_counts").set_index("size").loc[REFLECTIONS[number][0]]
    counts = counts.melt("method", var_name="task", value_name="paper").dropna()
    counts["items"] = counts["task"].map(paper_numbers.ITEMS)
    ours = our_reflections(records)
    cells = [ours.get((method, task), (NOT_RUN, NOT_RUN)) for method, task in counts[["method", "task"]].to_numpy()]
    counts["ours"], counts["ours of"] = [count for count, _ in cells], [size for _, size in cells]
    return counts.set_index(["method", "task"]).astype({"paper": int})


def our_reflections(records: pd.DataFrame | None) -> dict[tuple[str, str], tuple[int, int]]:
    """(method, task) → number of our responses with a reflection keyword, and of all; repeats are averaged."""
    if records is None:
        return {}
    found = {}
    for (method, task), part in records.groupby(["method", "task"]):
        repeats = part["repeat"].nunique()
        found[str(method), str(task)] = round((part["reflections"] > 0).sum() / repeats), round(len(part) / repeats)
    return found


def conclusion(found: pd.DataFrame) -> str:
    """How much of a :func:`table` was run here, and how far it is from the paper's."""
    ran = found.dropna(subset=["ours"])
    if ran.empty:
        told = "this table shows the paper's numbers and other sources alone."
        return f"None of the {len(found)} cells was run here: {told}"
    covered = ((ran["ours_low"] <= ran["paper"]) & (ran["paper"] <= ran["ours_high"])).sum()
    mean, largest = ran["difference"].mean(), ran["difference"].abs().max()
    return (
        f"{len(ran)} of {len(found)} cells were run here: mean difference {mean:+.1f} points, the largest "
        f"{largest:.1f}. "
        f"In {covered} the paper's accuracy lies in our interval, which is for the choice of items: running the same "
        "items "
        "again varies less."
    )


def trade_off(size: str, records: pd.DataFrame | None = None) -> Figure:
    """Average accuracy against length, with the replication's frontier of plain interpolation.

    Ours are drawn where they were run on all tasks of the replication. UserError for records of a size that the
    replication has not: then no axis is in tokens.
    """
    if records is None:
        return paper_numbers.accuracy_against_length(size)
    if replicated(size)[1].empty:
        raise UserError(
            f"size {size} has no published frontier in tokens to draw ours beside; its table compares them."
        )
    scores = load("published_scores")
    wanted = set(scores[(scores["source"] == "evo-l2s-replication") & (scores["size"] == size)]["task"])
    whole = records[records["task"].isin(wanted)].groupby("method").filter(lambda part: set(part["task"]) == wanted)
    means = whole.groupby(["method", "task"])[["correct", "length"]].mean().groupby("method").mean()
    ours = means.reset_index().assign(correct=lambda m: 100 * m["correct"]) if len(means) else None
    return paper_numbers.accuracy_against_length(size, ours)


def coefficients(ours: dict[str, dict[str, float]] | None = None) -> Figure:
    """Figure 4 with our λ (fine-tuned model → layer → λ, t = 0.7) on it, where they were computed."""
    figure = paper_numbers.figure4()
    axes = figure.axes[0]
    for name, layers in (ours or {}).items():
        known = [layer for layer in layers if layer in paper_numbers.LAYERS]
        places, values = [paper_numbers.LAYERS.index(layer) for layer in known], [layers[layer] for layer in known]
        axes.plot(places, values, "D--", color=COLOURS["acm"], label=f"ours: {name}")
        name_lines(axes, "lower center")
    return figure


def our_coefficients(profile: str) -> dict[str, dict[str, float]] | None:
    """λ by fine-tuned model and layer, of your run of a profile, else the committed ones; None where there are none."""
    for root in (RUNS, REPORTS):
        for path in sorted((root / profile).glob("*/coefficients.json")):
            return read_coefficients(path)
    return None


def bars(records: pd.DataFrame | None, task: str) -> Figure:
    """Figure 6: accuracy and length of one task as bars.

    The paper prints no numbers there. UserError where ours were not run either.
    """
    part = None if records is None else records[records["task"] == task]
    if part is None or part.empty:
        raise UserError(f"{task} was {NOT_RUN} here, and the paper's figure prints no numbers.")
    means = part.groupby("method", sort=False)[["correct", "length"]].mean()
    figure, panels = plt.subplots(1, 2, figsize=(10, 4))
    for axes, column, scale, label in zip(panels, means, (100, 1), ("accuracy, %", "mean length, tokens"), strict=True):
        axes.bar(means.index, scale * means[column], color=[COLOURS[family(m)] for m in means.index])
        axes.set(ylabel=label)
        axes.tick_params(axis="x", rotation=60)
    return figure
