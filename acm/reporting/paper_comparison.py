"""The paper's tables and figures beside ours, cell by cell; what was not run says so.

Accuracies and truncation in percent, lengths in tokens. Ours come from records (``runs`` or ``reports`` of a profile), with 95 % intervals for
the choice of items; the paper prints none. Other sources stand beside: arXiv 2503.20641 (sister) and 2604.06465 (replication).
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
from acm.reporting.plotting import COLOURS, MARKERS, family, label_points
from acm.reporting.statistics import bootstrap, describe, share

NOT_RUN, NOT_PRINTED = "not run", "not printed"
SOURCES = {"l2s-sister": "sister", "evo-l2s-replication": "replication"}
PREFIX = "acm_"  # of our tasks' names
PRINTED = {f"{label}{suffix}": (f"{label} {unit}", digits) for label in ("paper", *SOURCES.values())
           for suffix, unit, digits in (("", "%", 1), ("_length", "tokens", 0))}  # column: (heading, decimals)  # fmt: skip


def our_records(profile: str) -> pd.DataFrame | None:
    """All records of a profile, yours first, else the committed ones; None where it was not run."""
    for root in (RUNS, REPORTS):
        files = [
            *sorted((root / profile).glob("*/records/*.parquet")),
            *sorted((root / profile).glob("*/records.parquet")),
        ]
        if files:
            return pd.concat([pd.read_parquet(path) for path in files], ignore_index=True).assign(
                task=lambda r: r["task"].str.removeprefix(PREFIX), method=lambda r: r["method"].map(paper_name)
            )
    return None


def table(number: str, records: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 1 to 5: one row per (method, task): the paper's accuracy and length, ours with intervals, n, truncation and cap, other sources."""
    if number not in TABLES:
        raise unknown("table of scores", number, TABLES)
    name, size, _ = TABLES[number]
    scores = load("published_scores")
    paper = scores[(scores["source"] == "acm-v1") & (scores["table"] == name)][["method", "task", "accuracy", "length"]]
    found = paper.rename(columns={"accuracy": "paper", "length": "paper_length"}).reset_index(drop=True)
    ours = pd.DataFrame([our_cell(records, row.method, row.task) for row in found.itertuples()])
    found = pd.concat([found, ours], axis=1)
    found["difference"] = found["ours"] - found["paper"]
    for source, label in SOURCES.items():
        other = scores[(scores["source"] == source) & (scores["size"] == size)].drop_duplicates(["method", "task"])
        merged = found[["method", "task"]].merge(other, how="left", on=["method", "task"])
        found[label], found[f"{label}_length"] = merged["accuracy"], merged["length"]
    return found


def our_cell(records: pd.DataFrame | None, method: str, task: str) -> dict[str, float]:
    """Ours at one cell; NaN where it was not run."""
    columns = (
        "ours",
        "ours_low",
        "ours_high",
        "ours_length",
        "ours_length_low",
        "ours_length_high",
        "n",
        "truncated",
        "cap",
    )
    part = None if records is None else records[(records["method"] == method) & (records["task"] == task)]
    if part is None or part.empty:
        return dict.fromkeys(columns, np.nan)
    sample = bootstrap(part, [method], [task])
    cells = [share(sample, method).values(), describe(sample.length[0, 0], 1).values()]
    cap = json.loads(part["setting"].iloc[0]).get("max_tokens", np.nan)
    return dict(
        zip(columns, [*cells[0], *cells[1], sample.items[task], 100 * part["truncated"].mean(), cap], strict=True)
    )


def number(value: float, digits: int = 1, missing: str = NOT_RUN) -> str:
    return missing if pd.isna(value) else f"{value:.{digits}f}"


def printed(values: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """Published numbers as text, sources in columns by their names here; what was not printed says so."""
    return values.map(number, digits=digits, missing=NOT_PRINTED).rename(columns={"acm-v1": "paper"} | SOURCES)


def shown(found: pd.DataFrame) -> pd.DataFrame:
    """The comparison as text: no empty cell looks like a result. Other sources have a column where they print anything for this table."""
    columns = {key: style for key, style in PRINTED.items() if key.startswith("paper") or found[key].notna().any()}
    if not np.allclose(found["paper"], found["paper"].round(1)):  # Table 3 prints two decimals
        columns["paper"] = ("paper %", 2)
    rows = [{
        "method": r.method, "task": r.task,
        **{label: number(getattr(r, key), digits, NOT_PRINTED) for key, (label, digits) in columns.items()},
        "ours %": NOT_RUN if pd.isna(r.ours) else interval_text(r.ours, r.ours_low, r.ours_high),
        "ours tokens": NOT_RUN if pd.isna(r.ours) else interval_text(r.ours_length, r.ours_length_low, r.ours_length_high, digits=0),
        "ours − paper": NOT_RUN if pd.isna(r.difference) else f"{r.difference:+.1f}", "n": number(r.n, 0), "truncated %": number(r.truncated), "cap": number(r.cap, 0),
    } for r in found.itertuples()]  # fmt: skip
    return pd.DataFrame(rows).set_index(["method", "task"])


def reflections(number: str, records: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 6 or 7: responses with a reflection keyword, the paper's beside ours, and the number of items that bounds them.

    Ours of several repeats is their mean, rounded.
    """
    if number not in REFLECTIONS:
        raise unknown("table of reflections", number, REFLECTIONS)
    counts = load("reflection_counts").set_index("size").loc[REFLECTIONS[number][0]]
    counts = counts.melt("method", var_name="task", value_name="paper").dropna()
    counts["items"] = counts["task"].map(paper_numbers.ITEMS)
    reflecting = (
        None
        if records is None
        else records.assign(hit=records["reflections"] > 0).groupby(["method", "task"]).agg(
            sum=("hit", "sum"), size=("hit", "size"), repeats=("repeat", "nunique"))
    )  # fmt: skip
    if reflecting is not None:
        reflecting = reflecting[["sum", "size"]].div(reflecting["repeats"], axis=0).round()
    keys = list(zip(counts["method"], counts["task"], strict=True))
    known = [reflecting is not None and key in reflecting.index for key in keys]
    counts["ours"] = [int(reflecting.loc[key, "sum"]) if k else NOT_RUN for key, k in zip(keys, known, strict=True)]
    counts["ours of"] = [int(reflecting.loc[key, "size"]) if k else NOT_RUN for key, k in zip(keys, known, strict=True)]
    return counts.set_index(["method", "task"]).astype({"paper": int})


def conclusion(found: pd.DataFrame) -> str:
    """How much of a table was run here, and how far it is from the paper's."""
    ran = found.dropna(subset=["ours"])
    if ran.empty:
        return f"None of the {len(found)} cells was run here: this table shows the paper's numbers and other sources alone."
    covered = ((ran["ours_low"] <= ran["paper"]) & (ran["paper"] <= ran["ours_high"])).sum()
    return (
        f"{len(ran)} of {len(found)} cells were run here: mean difference {ran['difference'].mean():+.1f} points, the largest "
        f"{ran['difference'].abs().max():.1f}. In {covered} the paper's accuracy lies in our interval, which is for the choice of items: "
        "running the same items again varies less."
    )


def trade_off(size: str, records: pd.DataFrame | None = None) -> Figure:
    """Average accuracy against length with the replication's frontier of plain interpolation under it; ours where it was run on all of its tasks.

    UserError for records of a size that the replication has not: then no axis is in tokens.
    """
    figure = paper_numbers.accuracy_against_length(size)
    if records is not None:
        if len(figure.axes) < 2:
            raise UserError(
                f"size {size} has no published frontier in tokens to draw ours beside; its table compares them."
            )
        scores = load("published_scores")
        wanted = set(scores[(scores["source"] == "evo-l2s-replication") & (scores["size"] == size)]["task"])
        whole = records[records["task"].isin(wanted)].groupby("method").filter(lambda part: set(part["task"]) == wanted)
        means = whole.groupby(["method", "task"])[["correct", "length"]].mean().groupby("method").mean()
        axes = figure.axes[-1]
        for method, row in means.iterrows():
            axes.plot(
                row["length"],
                100 * row["correct"],
                MARKERS[family(method)],
                mfc="none",
                color=COLOURS[family(method)],
                ms=9,
                gid=f"{method} (ours)",
            )
        label_points(axes)
    return figure


def coefficients(ours: dict[str, dict[str, float]] | None = None) -> Figure:
    """Figure 4 with ours on it (t = 0.7), where they were computed."""
    figure = paper_numbers.figure4()
    for name, layers in (ours or {}).items():
        places = [paper_numbers.LAYERS.index(layer) for layer in layers if layer in paper_numbers.LAYERS]
        figure.axes[0].plot(
            places,
            [layers[paper_numbers.LAYERS[i]] for i in places],
            "D--",
            color=COLOURS["acm"],
            label=f"ours: {name}",
        )
        figure.axes[0].legend(loc="lower center", ncols=2)
    return figure


def our_coefficients(profile: str) -> dict[str, dict[str, float]] | None:
    """λ by fine-tuned model and layer of a profile, yours first, else the committed; None where they were not computed."""
    for root in (RUNS, REPORTS):
        for path in sorted((root / profile).glob("*/coefficients.json")):
            return read_coefficients(path)
    return None


def bars(records: pd.DataFrame | None, task: str) -> Figure:
    """Figure 6: accuracy and length of one task as bars. The paper prints no numbers there; UserError where ours were not run either."""
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
