"""The numbers that the paper and its neighbours printed: load them, check them against each other, draw them.

Sources (column ``source``): ``acm-v1`` is arXiv 2505.14009v1, ``l2s-sister`` arXiv 2503.20641 and
``evo-l2s-replication`` arXiv 2604.06465. Accuracies are in percent, lengths in tokens per response.
"""

from __future__ import annotations

from itertools import combinations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from acm.errors import unknown
from acm.evaluation.benchmarks import BENCHMARKS, LIVE
from acm.paper import load
from acm.reporting.plotting import COLOURS, MARKERS, family, label_points

KEYS = ["source", "table", "size", "method"]
# Numbers of items of the benchmarks that the checks below cover.
ITEMS = {name: known.items for name, known in BENCHMARKS.items() if name not in ("mbpp_pro", LIVE)}
LAYERS = ["embed", *map(str, range(28)), "norm", "lm_head"]


def half_unit(printed: pd.Series) -> pd.Series:
    """Half a unit of the last printed digit of each number, given as text: '-75.5' → 0.05, '1.92' → 0.005."""
    return 0.5 * 10.0 ** -printed.str.partition(".")[2].str.len()


def _from_benchmarks() -> pd.DataFrame:
    """Per row: mean accuracy (percent), length change (percent), and how far rounded inputs can move each of them."""
    text, scores = load("published_scores", dtype=str), load("published_scores")
    r1 = scores[(scores["source"] == "acm-v1") & scores["method"].str.startswith("DeepSeek-R1")]
    scores = scores.join(r1.set_index(["size", "task"])["length"].rename("r1"), on=["size", "task"])
    scores["change"] = 100 * (scores["length"] / scores["r1"] - 1)
    scores["accuracy_slack"] = half_unit(text["accuracy"])
    # Lengths l and r of R1 are printed to 0.1 token: l/r can be off by (1 + l/r) / r · 0.05.
    scores["change_slack"] = 0.05 * (200 + scores["change"]) / scores["r1"]
    return scores.groupby(KEYS, sort=False).agg(
        recomputed_average=("accuracy", "mean"),
        average_slack=("accuracy_slack", "min"),
        recomputed_change=("change", "mean"),
        change_slack=("change_slack", "mean"),
    )


def recompute_averages() -> pd.DataFrame:
    """Every printed row beside its recomputed mean accuracy (percent) and length change (percent of R1's length).

    The change is the mean over benchmarks of length / length of the paper's R1 − 1; NA agreement: none is printed.
    """
    text = load("published_averages", dtype=str)
    table = text[KEYS].join(_from_benchmarks(), on=KEYS)
    for ours, printed in (("average", "average_accuracy"), ("change", "length_change_percent")):
        table[f"printed_{ours}"] = text[printed].astype(float)
        difference = (table[f"printed_{ours}"] - table[f"recomputed_{ours}"]).abs()
        # Both sides are rounded: the printed mean by half a unit of its last digit, the inputs by the slack above.
        agrees = difference <= half_unit(text[printed]) + table[f"{ours}_slack"] + 1e-9
        table[f"{ours}_agrees"] = agrees.astype("boolean").mask(difference.isna())
    return table[
        [
            *KEYS,
            "printed_average",
            "recomputed_average",
            "printed_change",
            "recomputed_change",
            "average_agrees",
            "change_agrees",
        ]
    ]


def disagreements() -> pd.DataFrame:
    """The printed numbers that their own benchmarks do not give, largest difference (points) first."""
    table = recompute_averages()
    found = pd.concat(
        [
            table.loc[~table[f"{what}_agrees"].fillna(True), [*KEYS, f"printed_{what}", f"recomputed_{what}"]]
            .set_axis([*KEYS, "printed", "recomputed"], axis=1)
            .assign(quantity=what)
            for what in ("average", "change")
        ]
    )
    found["difference"] = found["printed"] - found["recomputed"]
    return found.sort_values("difference", key=abs, ascending=False, ignore_index=True)


def impossible_reflection_counts() -> pd.DataFrame:
    """Reflection counts (responses; Tables 6–7) that exceed the number of items of their benchmark."""
    counts = load("reflection_counts").melt(["size", "method"], var_name="task", value_name="count").dropna()
    counts = counts.assign(items=counts["task"].map(ITEMS)).astype({"count": int})
    return counts.query("count > items").reset_index(drop=True)


def impossible_accuracies() -> pd.DataFrame:
    """Accuracies (percent) that no whole number of correct answers in one pass over the benchmark rounds to."""
    printed, scores = load("published_scores", dtype=str)["accuracy"], load("published_scores")
    scores["items"] = scores["task"].map(ITEMS)
    scores["nearest"] = 100 * (scores["accuracy"] * scores["items"] / 100).round() / scores["items"]
    wrong = (scores["nearest"] - scores["accuracy"]).abs() > half_unit(printed) + 1e-9
    return scores.loc[wrong, [*KEYS, "task", "items", "accuracy", "nearest"]].reset_index(drop=True)


def shared_averages(other: str) -> pd.DataFrame:
    """Mean accuracies (percent) of the paper and of source ``other`` over the benchmarks that both print, per size and method.

    Columns: paper, the last word of ``other`` (sister, replication), and tasks, the number of those benchmarks.
    """
    scores = load("published_scores")
    if other not in (known := sorted(set(scores["source"]) - {"acm-v1"})):
        raise unknown("source beside the paper", other, known)
    paper, beside = (scores[scores["source"] == source] for source in ("acm-v1", other))
    both = paper.merge(beside, on=["size", "method", "task"], suffixes=("", "_beside"))
    columns = {
        "paper": ("accuracy", "mean"),
        other.split("-")[-1]: ("accuracy_beside", "mean"),
        "tasks": ("task", "size"),
    }
    return both.groupby(["size", "method"], sort=False).agg(**columns)


def benchmarks(size: str) -> dict[str, str]:
    """Which benchmarks each source prints at a size, with their numbers of items where known: source → 'gsm8k 1319, …'."""
    scores = load("published_scores").query("size == @size")
    names = scores["task"].map(lambda task: f"{task} {ITEMS[task]}" if task in ITEMS else task)
    return names.groupby(scores["source"]).agg(lambda part: ", ".join(part.unique())).to_dict()


def equal_cells(least: int = 3) -> pd.DataFrame:
    """Pairs of rows of one size with ``least`` or more cells, accuracies and lengths together, that are equal in every printed digit.

    shared: benchmarks that both rows print; accuracies, lengths: the benchmarks of the equal cells.
    """
    cells = (
        load("published_scores", dtype=str)
        .melt([*KEYS, "task"], ["accuracy", "length"], "quantity", "printed")
        .dropna()
    )
    rows = [
        (key, part.set_index(["quantity", "task"])["printed"].to_dict())
        for key, part in cells.groupby(["size", "source", "method"], sort=False)
    ]
    found = []
    for ((size, *name), one), ((other_size, *other_name), other) in combinations(rows, 2):
        equal = [cell for cell, printed in one.items() if other.get(cell) == printed]
        if size == other_size and len(equal) >= least:
            shared = sum(quantity == "accuracy" for quantity, _ in one.keys() & other.keys())
            tasks = [
                ", ".join(task for quantity, task in equal if quantity == wanted) for wanted in ("accuracy", "length")
            ]
            found.append((size, *name, *other_name, shared, *tasks))
    return pd.DataFrame(
        found, columns=["size", "source", "method", "other_source", "other_method", "shared", "accuracies", "lengths"]
    )


def equal_lengths() -> pd.DataFrame:
    """Rows that print one mean length (tokens) for several benchmarks."""
    scores = load("published_scores").dropna(subset=["length"])
    same = scores[scores.duplicated([*KEYS, "length"], keep=False)]
    return same.groupby([*KEYS, "length"], sort=False)["task"].agg(", ".join).rename("tasks").reset_index()


def figures_against_tables() -> pd.DataFrame:
    """Where a figure and a table of the paper show the same run: Figure 2 and Table 4, Figure 5 and Table 2."""
    sweep = load("figure2_task_arithmetic_14b").set_index("scaling").loc[0.7]
    ta = load("published_scores").set_index([*KEYS, "task"]).loc[("acm-v1", "table4", "14b", "TA", "aime24")]
    rows = [
        ("Figure 2", "TA 0.7, 14B", "AIME24 accuracy, %", sweep["aime24_accuracy"], ta["accuracy"]),
        ("Figure 2", "TA 0.7, 14B", "AIME24 length, tokens", sweep["mean_length"], ta["length"]),
    ]
    drawn = load("figure5_tradeoff_1.5b").set_index("method")
    table = recompute_averages().query("table == 'table2' and source == 'acm-v1'").set_index("method")
    change = 100 * (table["recomputed_average"] / table.loc["DeepSeek-R1-1.5B", "recomputed_average"] - 1)
    for name in ("TA", "ACM-TA"):
        accuracy, shorter = drawn.loc[name]
        rows += [
            ("Figure 5", f"{name}, 1.5B", "accuracy change, %", accuracy, change[name]),
            ("Figure 5", f"{name}, 1.5B", "length reduction, %", shorter, -table.loc[name, "recomputed_change"]),
        ]
    return pd.DataFrame(rows, columns=["figure", "run", "quantity", "in_figure", "in_table"])


def _points(axes: plt.Axes, x: pd.Series, y: pd.Series, names: pd.Series, **labels: str) -> None:
    """One marker per method in the colour of its family; R1, the slow parent, has the parents' own."""
    for name, x_, y_ in zip(names.str.replace("DeepSeek-", ""), x, y, strict=True):
        kind = "parent" if name.startswith("R1") else family(name)
        axes.plot(x_, y_, MARKERS[kind], color=COLOURS[kind], ms=8, gid=name)
    axes.set(xmargin=0.14, ymargin=0.14, **labels)


def accuracy_against_length(size: str) -> plt.Figure:
    """Left the paper's averages, right the replication's with plain interpolation. The fast parents are not drawn."""
    rows = load("published_averages").query("size == @size and not method.str.startswith('Qwen')")
    sweep = load("uniform_coefficient_frontier").query("size == @size").sort_values("mean_length")
    paper = rows[rows["source"] == "acm-v1"]
    if paper["length_change_percent"].isna().all():
        raise unknown("size with printed lengths", size, ["1.5b", "7b", "14b", "32b"])
    columns = 1 if sweep.empty else 2
    figure, panels = plt.subplots(1, columns, figsize=(6.8 * columns, 4.8), squeeze=False)
    change = paper["length_change_percent"].fillna(0)  # R1's own is not printed: it is the reference
    _points(
        panels[0, 0],
        change,
        paper["average_accuracy"],
        paper["method"],
        title=f"Paper, {size.upper()}",
        xlabel="length change against R1, %",
        ylabel="average accuracy, %",
    )
    if columns == 2:
        other = rows[(rows["source"] == "evo-l2s-replication") & (rows["method"] != "Evo-L2S")]
        panels[0, 1].plot(sweep["mean_length"], sweep["average_accuracy"], ".-", color=COLOURS["frontier"], ms=9)
        _points(
            panels[0, 1],
            other["mean_length"],
            other["average_accuracy"],
            other["method"],
            title=f"Replication, {size.upper()}; grey: plain interpolation",
            xlabel="mean length, tokens",
            ylabel="average accuracy, %",
        )
    for axes in panels.flat:
        label_points(axes)
    return figure


def figure2() -> plt.Figure:
    """Figure 2: AIME24 accuracy (bars, percent) and length (line, tokens) of task arithmetic against its scaling."""
    sweep = load("figure2_task_arithmetic_14b")
    figure, axes = plt.subplots(figsize=(6.8, 4.4))
    bars = axes.bar("scaling", "aime24_accuracy", width=0.07, color=COLOURS["baseline"], data=sweep)
    axes.bar_label(bars, fmt="%.1f", label_type="center", fontsize=10, color="white")
    axes.grid(axis="x", visible=False)
    axes.set(title="Task arithmetic at 14B, AIME24 (30 items)", ylim=(0, 60))
    axes.set(xlabel="scaling coefficient", ylabel="accuracy, % (bars)")
    length = axes.twinx()
    length.plot(sweep["scaling"], sweep["mean_length"], color=COLOURS["parent"], marker="o")
    length.set(ylabel="mean length, tokens (line)", ylim=(0, 9000))
    length.grid(False)
    return figure


def figure4() -> plt.Figure:
    """Figure 4: coefficient λ (fraction of the task vector) of each layer at 7B, one line per temperature t."""
    table = load("figure4_coefficients_7b").pivot(index="layer", columns="t", values="coefficient").loc[LAYERS]
    figure, axes = plt.subplots(figsize=(9, 4.4))
    for t, marker, colour in zip(table.columns[::-1], "^os", sns.color_palette("colorblind", 3), strict=True):
        axes.plot(range(len(LAYERS)), table[t], marker=marker, ms=5, color=colour, label=f"t = {t}")
    axes.set_xticks(range(len(LAYERS)), LAYERS, rotation=90, fontsize=10)
    axes.set(title="Coefficients at 7B", xlabel="layer", ylabel="coefficient λ")
    axes.legend(loc="lower center", ncols=3)
    return figure


def figure5() -> plt.Figure:
    """Figure 5: accuracy change against length reduction at 1.5B, both in percent of R1."""
    table = load("figure5_tradeoff_1.5b")
    figure, axes = plt.subplots(figsize=(6.8, 4.4))
    _points(
        axes,
        table["length_reduction_percent"],
        table["accuracy_change_percent"],
        table["method"],
        title="Trade-off at 1.5B",
        xlabel="length reduction, % of R1",
        ylabel="accuracy change, % of R1",
    )
    label_points(axes)
    return figure
