"""Checks the paper's own printed numbers against each other and draws them, with the numbers of two related papers.

:func:`acm.paper.load` reads the numbers; its module names the sources. Accuracies are in percent, lengths in tokens per
response. :mod:`acm.reporting.paper_comparison` compares the paper's numbers with ours.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.errors import unknown
from acm.evaluation.benchmarks import BENCHMARKS
from acm.paper import load
from acm.reporting.coefficient_figures import name_layers
from acm.reporting.messages import on_figure_2, on_figure_5, on_layers, on_published, on_replication
from acm.reporting.plotting import COLOURS, MARKERS, TEXT, family, label_points, mark_better, name_lines, sheet
from acm.reporting.replication import above_interpolation, bar_of, replicated

KEYS = ["source", "table", "size", "method"]
# Benchmark → its number of items, for the benchmarks that the checks below cover.
CHECKED = ("gsm8k", "math500", "minerva_math", "olympiadbench", "college_math", "aime24", "humaneval_pro")
ITEMS = {name: BENCHMARKS[name].items for name in CHECKED}
LAYERS = ["embed", *map(str, range(28)), "norm", "lm_head"]


def half_unit(printed: pd.Series) -> pd.Series:
    """Half a unit of the last printed digit of each number, given as text: '-75.5' → 0.05, '1.92' → 0.005."""
    return 0.5 * 10.0 ** -printed.str.partition(".")[2].str.len()


def averages_of_benchmarks() -> pd.DataFrame:
    """Of each printed row, the mean accuracy (percent) and length change (percent) that its benchmarks give.

    average_slack, change_slack: how far the rounding of the printed inputs can move them.
    """
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
    """Each printed row beside its recomputed mean accuracy (percent) and length change (percent of R1's length).

    The change is the mean over benchmarks of length / length of the paper's R1 − 1. average_agrees, change_agrees: NA
    where none is printed.
    """
    text = load("published_averages", dtype=str)
    table = text[KEYS].join(averages_of_benchmarks(), on=KEYS)
    for ours, printed in (("average", "average_accuracy"), ("change", "length_change_percent")):
        table[f"printed_{ours}"] = text[printed].astype(float)
        difference = (table[f"printed_{ours}"] - table[f"recomputed_{ours}"]).abs()
        # Both sides are rounded: the printed mean by half a unit of its last digit, the inputs by the slack above.
        agrees = difference <= half_unit(text[printed]) + table[f"{ours}_slack"] + 1e-9
        table[f"{ours}_agrees"] = agrees.astype("boolean").mask(difference.isna())
    columns = [f"{kind}_{what}" for what in ("average", "change") for kind in ("printed", "recomputed")]
    return table[[*KEYS, *columns, "average_agrees", "change_agrees"]]


def disagreements() -> pd.DataFrame:
    """The printed numbers that their own benchmarks do not give, largest difference (points) first."""
    table, parts = recompute_averages(), []
    for what in ("average", "change"):
        wrong = table.loc[~table[f"{what}_agrees"].fillna(True), [*KEYS, f"printed_{what}", f"recomputed_{what}"]]
        parts.append(wrong.set_axis([*KEYS, "printed", "recomputed"], axis=1).assign(quantity=what))
    found = pd.concat(parts)
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
    """Mean accuracies (percent) of the paper and of another source, over the benchmarks that both print.

    A row for each size and method. Columns: paper; the last word of ``other`` (sister, replication); tasks, the number
    of those benchmarks. UserError for an unknown source.
    """
    scores = load("published_scores")
    if other not in (known := sorted(set(scores["source"]) - {"acm-v1"})):
        raise unknown("source beside the paper", other, known)
    paper, beside = (scores[scores["source"] == source] for source in ("acm-v1", other))
    both = paper.merge(beside, on=["size", "method", "task"], suffixes=("", "_beside"))
    groups = both.groupby(["size", "method"], sort=False)
    means = groups[["accuracy", "accuracy_beside"]].mean().set_axis(["paper", other.split("-")[-1]], axis=1)
    return means.assign(tasks=groups.size())


def benchmarks(size: str) -> dict[str, str]:
    """Source → the benchmarks that it prints at a size, with their numbers of items where known: 'gsm8k 1319, …'."""
    scores = load("published_scores").query("size == @size")
    names = scores["task"].map(lambda task: f"{task} {ITEMS[task]}" if task in ITEMS else task)
    return {str(source): ", ".join(part.unique()) for source, part in names.groupby(scores["source"])}


def equal_cells(least: int = 3) -> pd.DataFrame:
    """Pairs of rows of one size in which at least so many cells are equal in every printed digit.

    Cells are accuracies and lengths together. shared: the number of benchmarks that both rows print. accuracies,
    lengths: the benchmarks of the equal cells.
    """
    printed = load("published_scores", dtype=str)
    cells = printed.melt([*KEYS, "task"], ["accuracy", "length"], "quantity", "printed").dropna()
    rows: list[tuple[Any, dict[Any, str]]] = [
        (key, part.set_index(["quantity", "task"])["printed"].to_dict())
        for key, part in cells.groupby(["size", "source", "method"], sort=False)
    ]
    found = []
    for ((size, *name), one), ((other_size, *other_name), other) in combinations(rows, 2):
        equal = [cell for cell, text in one.items() if other.get(cell) == text]
        if size == other_size and len(equal) >= least:
            shared = sum(quantity == "accuracy" for quantity, _ in one.keys() & other.keys())
            tasks = {what: [task for quantity, task in equal if quantity == what] for what in ("accuracy", "length")}
            found.append((size, *name, *other_name, shared, *map(", ".join, tasks.values())))
    names = ["size", "source", "method", "other_source", "other_method", "shared", "accuracies", "lengths"]
    return pd.DataFrame(found, columns=names)


def equal_lengths() -> pd.DataFrame:
    """Rows that print one mean length (tokens) for several benchmarks."""
    scores = load("published_scores").dropna(subset=["length"])
    same = scores[scores.duplicated([*KEYS, "length"], keep=False)]
    return same.groupby([*KEYS, "length"], sort=False)["task"].agg(", ".join).rename("tasks").reset_index()


def figures_against_tables() -> pd.DataFrame:
    """What a figure and a table of the paper print of the same run: Figure 2 and Table 4, Figure 5 and Table 2."""
    sweep = load("figure2_task_arithmetic_14b").set_index("scaling").loc[0.7]
    scores = load("published_scores").query("source == 'acm-v1' and table == 'table4' and task == 'aime24'")
    ta = scores.set_index("method").loc["TA"]
    rows = [
        ("Figure 2", "TA 0.7, 14B", "AIME24 accuracy, %", sweep["aime24_accuracy"], ta["accuracy"]),
        ("Figure 2", "TA 0.7, 14B", "AIME24 length, tokens", sweep["mean_length"], ta["length"]),
    ]
    drawn = load("figure5_tradeoff_1.5b").set_index("method")
    table = recompute_averages().query("table == 'table2' and source == 'acm-v1'").set_index("method")
    accuracies, changes = table["recomputed_average"].to_dict(), table["recomputed_change"].to_dict()
    for name in ("TA", "ACM-TA"):
        accuracy, shorter = drawn.loc[name]
        change = 100 * (accuracies[name] / accuracies["DeepSeek-R1-1.5B"] - 1)
        rows += [
            ("Figure 5", f"{name}, 1.5B", "accuracy change, %", accuracy, change),
            ("Figure 5", f"{name}, 1.5B", "length reduction, %", shorter, -changes[name]),
        ]
    return pd.DataFrame(rows, columns=["figure", "run", "quantity", "in_figure", "in_table"])


def draw_methods(axes: Axes, x: pd.Series, y: pd.Series, names: pd.Series) -> None:
    """One marker for each method, in the colour of its family; R1, the slow parent, has the parents' colour."""
    for name, x_, y_ in zip(names.str.replace("DeepSeek-", ""), x, y, strict=True):
        kind = "parent" if name.startswith("R1") else family(name)
        axes.plot(x_, y_, MARKERS[kind], color=COLOURS[kind], ms=9, gid=name)


def accuracy_against_length(size: str, ours: pd.DataFrame | None = None) -> Figure:
    """Above the paper's averages, below the replication's with plain interpolation. The fast parents are not drawn.

    ours: method, length (tokens) and correct (percent) of merges to draw in the replication's panel, against its R1.
    UserError for a size of which the paper prints no lengths.
    """
    paper = load("published_averages").query("size == @size and source == 'acm-v1'")
    paper = paper[~paper["method"].str.startswith("Qwen")]
    if paper["length_change_percent"].isna().all():
        raise unknown("size with printed lengths", size, ["1.5b", "7b", "14b", "32b"])
    rows, sweep = replicated(size)
    merges = paper[~paper["method"].str.startswith("DeepSeek")]
    r1 = paper.loc[paper["method"].str.startswith("DeepSeek"), "average_accuracy"].item()
    message = on_published(size.upper(), int((merges["average_accuracy"] >= r1).sum()), len(merges))
    if len(sweep):
        message = on_replication(size.upper(), *above_interpolation(rows, sweep))
    panels = 1 if sweep.empty else 2
    figure, drawn = sheet(message, 1.0 + 4.4 * panels, panels, sharex=True)
    reduction = -paper["length_change_percent"].fillna(0)  # R1's own is not printed: it is the reference
    draw_methods(drawn[0], reduction, paper["average_accuracy"], paper["method"])
    drawn[0].set_title("paper", loc="left", fontsize=TEXT)
    if len(sweep):
        draw_replication(drawn[1], rows, sweep, ours)
    drawn[-1].set_xlabel("length reduction against R1, %")
    for axes in drawn:
        axes.set(xmargin=0.14, ymargin=0.16, ylabel="average accuracy, %")
        mark_better(axes)
    for axes in drawn:
        label_points(axes, TEXT)
    return figure


def draw_replication(axes: Axes, rows: pd.DataFrame, sweep: pd.DataFrame, ours: pd.DataFrame | None) -> None:
    """The replication's methods, its interpolation as dots and their bar as a line, and ours as hollow markers."""
    style = {"color": COLOURS["frontier"], "ms": 8}
    axes.plot(sweep["reduction"], sweep["average_accuracy"], ".", **style)
    bar = bar_of(sweep)
    axes.plot(bar["reduction"], bar["average_accuracy"], "-", **style)
    axes.plot(*bar[["reduction", "average_accuracy"]].iloc[0], ".", gid="plain\ninterpolation", **style)
    draw_methods(axes, rows["reduction"], rows["average_accuracy"], rows["method"])
    r1 = rows.loc[rows["method"].str.startswith("DeepSeek-R1"), "mean_length"].sum()
    for method, length, right in [] if ours is None else ours[["method", "length", "correct"]].itertuples(index=False):
        kind = family(str(method))
        look = {"mfc": "none", "color": COLOURS[kind], "ms": 9, "gid": f"{method} (ours)"}
        axes.plot(100 * (1 - length / r1), right, MARKERS[kind], **look)
    axes.set_title("replication", loc="left", fontsize=TEXT)


def figure2() -> Figure:
    """Figure 2: AIME24 accuracy (percent) and, below, length (tokens) of task arithmetic against its scaling."""
    sweep = load("figure2_task_arithmetic_14b")
    first, last = sweep.iloc[0], sweep.iloc[-1]
    items = round((last["aime24_accuracy"] - first["aime24_accuracy"]) * ITEMS["aime24"] / 100)
    ends = float(first["scaling"]), float(last["scaling"])
    message = on_figure_2(ends, last["mean_length"] / first["mean_length"], items)
    figure, panels = sheet(message, 6.4, 2, sharex=True)
    for axes, column, label, way in zip(panels, ["aime24_accuracy", "mean_length"],
                                        ["AIME24 accuracy, %", "length, tokens"], "↑↓", strict=True):  # fmt: skip
        axes.plot(sweep["scaling"], sweep[column], "o-", color=COLOURS["baseline"], ms=7)
        axes.set(ylabel=label, ylim=(0, 1.25 * sweep[column].max()))
        mark_better(axes, way)
    panels[1].set(xlabel="scaling λ of task arithmetic, 14B", xticks=sweep["scaling"])
    return figure


def figure4() -> Figure:
    """Figure 4: coefficient λ (fraction of the task vector) of each layer at 7B, one line for each temperature t."""
    table = load("figure4_coefficients_7b").pivot(index="layer", columns="t", values="coefficient").loc[LAYERS]
    blocks = table.loc[[layer for layer in LAYERS if layer.isdigit()], 0.7]
    message = on_layers(blocks.min(), blocks.max(), "At 7B and t = 0.7 the paper's λ", "blocks")
    figure, (axes,) = sheet(message, 4.6)
    for t, marker, colour in zip(table.columns[::-1], "^os", sns.color_palette("colorblind", 3), strict=True):
        axes.plot(range(len(LAYERS)), table[t], marker=marker, ms=5, color=colour, label=f"t = {t}")
    name_layers(axes, LAYERS)
    axes.set(xlabel="layer", ylabel="coefficient λ", ylim=(0, 1))
    name_lines(axes, "lower center")
    return figure


def figure5() -> Figure:
    """Figure 5: accuracy change against length reduction at 1.5B, both in percent of R1."""
    table = load("figure5_tradeoff_1.5b")
    x, y = table["length_reduction_percent"], table["accuracy_change_percent"]
    acm = table.set_index("method").loc["ACM-TA"]
    message = on_figure_5(*acm[["length_reduction_percent", "accuracy_change_percent"]])
    figure, (axes,) = sheet(message, 5.2)
    draw_methods(axes, x, y, table["method"])
    axes.set(xlabel="length reduction against R1, %", ylabel="accuracy change, % of R1", xmargin=0.16, ymargin=0.3)
    mark_better(axes)
    label_points(axes, TEXT)
    return figure
