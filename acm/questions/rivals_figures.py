"""The figures of question 6: points above the bar of methods and of rules for λ."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acm.questions.messages import on_rivals
from acm.questions.rivals import EQUAL, USUAL, WEIGHED, Scene
from acm.questions.rivals_answer import standing
from acm.reporting.plotting import COLOURS, HALO, KEY, TEXT, balanced, mark_better, sheet, write_key

BAR, AVERAGE = "points above the bar", "points above plain averaging"
DRAWN = {  # setting → its marker, colour and label
    USUAL: ("o", COLOURS["frontier"], "● as it is, at its own norm"),
    EQUAL: ("D", COLOURS["baseline"], "◆ at equal norm"),
    WEIGHED: ("^", COLOURS["acm"], "▲ at equal norm, with ACM's λ"),
    "permuted": ("v", COLOURS["control"], "▼ at equal norm, λ permuted"),
    "reversed": ("<", COLOURS["control"], "◄ at equal norm, λ reversed"),
}
ORDER = ("above", "no difference shown", "below", "outside")  # of rows, by verdict
SIDE = {"method": 0.3, "rule": 0.62}  # inches: height of a row
MANY, FEWEST, CLOSE = 40, 4, 0.33  # of more rows, as many that are not told apart have one name, and less height
LETTERS = 23  # of a row's name, on one line
FAR = 40.0  # points below 0: what lies farther would hide the others' differences


def draw(tables: list[tuple[Scene, pd.DataFrame]], kind: str, fresh: pd.DataFrame | None = None) -> Figure:
    """Points above the bar of the trials of a kind, a panel for each scene, a row for each rival; the best is on top.

    A rival that is no model of its own at equal norm has no row. Rules have all intervals, methods that of equal norm.
    fresh: as :func:`acm.questions.rivals_answer.verdict` has it.
    """
    parts = [(scene, table[(table["kind"] == kind) & (table["same_as"] == "")]) for scene, table in tables]
    parts = [(scene, part) for scene, part in parts if part["above"].notna().any()]
    if not parts:
        raise ValueError(f"no {kind} has a model of its own within the bar's range.")
    ordered = [ranked(scene, part, fresh) for scene, part in parts]
    many = sum(map(len, ordered)) > MANY
    places = [heights(rows, many) for rows in ordered]
    key = [KEY * len(settings_of(parts[0][1])), *[KEY] * (len(parts) - 1)]
    tall = [0.8 + at.max(initial=0) + foot / SIDE[kind] for at, foot in zip(places, key, strict=True)]
    height = sum(1.2 + SIDE[kind] * rows for rows in tall)
    figure, panels = sheet(message(parts, kind, fresh), height, len(parts), height_ratios=tall)
    for axes, (scene, part), rows, at, whole in zip(panels, parts, ordered, places, tall, strict=True):
        kin = pd.concat([other for _, other in parts if other["barred"].all() == part["barred"].all()])
        axes.set(xlim=limits(kin), ylim=(whole, 0), xlabel=BAR if part["barred"].all() else AVERAGE)
        draw_panel(axes, part, dict(zip(rows["rival"], at, strict=True)), 0.7 if kind == "rule" else 0)
        name_rows(axes, rows, at, many)
        axes.set_title(balanced(scene.title), loc="left", fontsize=TEXT)
        mark_better(axes, "→")
    write_key(panels[0], {DRAWN[name][2]: DRAWN[name][1] for name in settings_of(parts[0][1])})
    return figure


def message(parts: list[tuple[Scene, pd.DataFrame]], kind: str, fresh: pd.DataFrame | None) -> str:
    """The title: who beats plain merging at equal norm, and how many are below it."""
    every = pd.concat([part.assign(scene=scene.name) for scene, part in parts])
    equal = every[every["setting"].isin([EQUAL, WEIGHED])]
    above = equal[equal["verdict"] == "above"]
    winners = standing(list(zip(above["scene"], above["rival"], above["setting"], strict=True)), fresh)
    names = list(dict.fromkeys(name for _, name, _ in winners))
    what = "rule" if kind == "rule" else "merge"
    line = "plain interpolation" if equal["barred"].all() else "plain merging"
    shown = "shown" if above.empty else "confirmed"
    return on_rivals(names, (equal["verdict"] == "below").sum(), len(equal), f"{what} is {shown}", line)


def settings_of(part: pd.DataFrame) -> list[str]:
    """The settings of a scene's trials, in the order of their marks."""
    return [setting for setting in DRAWN if setting in set(part["setting"])]


def limits(part: pd.DataFrame) -> tuple[float, float]:
    """The ends of the horizontal axis."""
    barred = part[(part["setting"] == EQUAL) | (part["kind"] == "rule")]
    high = max(part["above"].max(), barred["above_high"].max())
    return max(-FAR, float(part["above_low"].min()) - 1), float(high) + 1


def ranked(scene: Scene, part: pd.DataFrame, fresh: pd.DataFrame | None) -> pd.DataFrame:
    """The rows at equal norm by verdict, within it the best first, with labels."""
    rows = part[part["setting"] == EQUAL].assign(rank=lambda r: r["verdict"].map(ORDER.index))
    lost = [
        r["verdict"] == "above" and not standing([(scene.name, r["rival"], EQUAL)], fresh) for _, r in rows.iterrows()
    ]
    rows["label"] = [labelled(name) + "\n(not confirmed)" * off for name, off in zip(rows["rival"], lost, strict=True)]
    return rows.sort_values(["rank", "above"], ascending=[True, False])


def labelled(name: str) -> str:
    """A rival's name in lines, broken before what is in brackets if that is enough."""
    apart = name.replace(" (", "\n(")
    return name if len(name) <= LETTERS else apart if apart != name else fill(name, LETTERS)


def alike(rows: pd.DataFrame, many: bool) -> np.ndarray:
    """Which rows share one name: of many, those that are not told apart."""
    found = np.flatnonzero(many & (rows["verdict"] == ORDER[1]).to_numpy())
    return found if len(found) >= FEWEST else found[:0]


def heights(rows: pd.DataFrame, many: bool) -> np.ndarray:
    """Where the rows stand, from the top down, in rows."""
    tall = np.array([1.5 if "\n" in name and (rows["kind"] == "method").all() else 1.0 for name in rows["label"]])
    tall[alike(rows, many)] = CLOSE
    return 0.3 + np.cumsum(tall) - tall / 2


def name_rows(axes: Axes, rows: pd.DataFrame, at: np.ndarray, many: bool) -> None:
    """The names beside the rows."""
    names, close = rows["label"].to_numpy(), alike(rows, many)
    if len(close):
        names = np.append(np.delete(names, close), f"{len(close)} more,\nnot told apart")
        at = np.append(np.delete(at, close), at[close].mean())
    axes.set_yticks(at, names)
    axes.grid(visible=False, axis="y")


def draw_panel(axes: Axes, part: pd.DataFrame, places: dict[str, float], spread: float) -> None:
    """The trials of one scene. places: rival → its height. spread: how much of a row its settings take.

    0: they share a line, on which equal norm alone has its interval. What lies off the axis has its number there.
    """
    part, low = part[part["rival"].isin(places)], axes.get_xlim()[0]
    settings = settings_of(part)
    for i, setting in enumerate(settings):
        mark, colour, _ = DRAWN[setting]
        rows, front = part[part["setting"] == setting], setting == EQUAL
        at = rows["rival"].map(places) + spread * ((i + 0.5) / len(settings) - 0.5)
        style: dict[str, Any] = {"fmt": mark, "color": colour, "ms": 6 if front else 4, "lw": 1.2, "zorder": 2 + front}
        if spread or front:
            style["xerr"] = np.maximum([rows["above"] - rows["above_low"], rows["above_high"] - rows["above"]], 0)
        axes.errorbar(rows["above"], at, **style)
        for value, height in zip(rows["above"], at, strict=True):
            told = (
                f"← {value:+.0f}".replace("-", "−")
                if value < low
                else "outside the bar's range"
                if front and value != value
                else ""
            )
            style = {"va": "center", "fontsize": TEXT, "color": colour, "path_effects": HALO}
            axes.text(0.01, height, told, transform=axes.get_yaxis_transform(), **style)
    axes.axvline(0, color="0.3", lw=0.8)
