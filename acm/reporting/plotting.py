"""The common look of all figures, and the function that saves them: as SVG and PNG, with caption and provenance."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from acm.calibration.registry import CONTROLS
from acm.escaping import figure_text
from acm.files import write_json

# Family of methods → its colour (of seaborn's colour-blind palette) and its marker.
PALETTE = sns.color_palette("colorblind").as_hex()
COLOURS = {
    "parent": "#444444", "frontier": "#888888", "baseline": PALETTE[0], "acm": PALETTE[3], "control": PALETTE[1]
}  # fmt: skip
BETTER = "#227722"
MARKERS = {"parent": "s", "frontier": ".", "baseline": "o", "acm": "D", "control": "^"}
HALO = [withStroke(linewidth=2.5, foreground="white")]  # keeps labels legible on lines
NOTE: dict[str, Any] = {  # the style of the label beside a point
    "xytext": (0, 0), "textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 10, "in_layout": False,
    "path_effects": HALO, "arrowprops": {"arrowstyle": "-", "color": "0.6"},
}  # fmt: skip
# A figure as wide as a phone, 330 pixels, shows letters of TEXT points 9 pixels high.
WIDE, TEXT = 6.5, 13  # inches, points
LINE = 48  # characters of a title's line
KEY = 0.25  # inches: height of a line of a key


def use_theme() -> None:
    """Set the project's look for all figures drawn after this call."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rc("figure", dpi=110, **{"constrained_layout.use": True})
    plt.rc("savefig", dpi=160)
    plt.rc("svg", hashsalt="acm")


def sheet(message: str, height: float, rows: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of panels, one below another, that can be read on a phone, and its panels.

    message: what it shows, as its title and as its label, which :func:`save_figure` puts before the caption.
    height: inches, without the title. options: those of ``plt.subplots``.
    """
    title = balanced(figure_text(message))
    size = WIDE, height + 0.3 * (1 + title.count("\n"))
    with plt.rc_context({"axes.labelsize": TEXT, "axes.titlesize": TEXT}):
        figure, grid = plt.subplots(rows, 1, figsize=size, squeeze=False, **options)
    figure.set_label(message)
    figure.suptitle(title, x=0.01, ha="left", fontsize=TEXT + 2, fontweight="bold")
    for axes in grid[:, 0]:
        axes.tick_params(labelsize=TEXT)
    return figure, list(grid[:, 0])


def balanced(title: str) -> str:
    """A title in as few lines as it needs, which are about equally long. No line begins with a percent sign."""
    title = title.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = fill(title, LINE).count("\n")
    return next(text for width in range(1, LINE + 1) if (text := fill(title, width)).count("\n") <= lines)


def name_lines(axes: Axes, where: str) -> None:
    """Name the lines of a panel in their own colours, in a corner that is empty. where: as ``Axes.legend`` has it."""
    style: dict[str, Any] = {"loc": where, "fontsize": TEXT, "frameon": False, "labelcolor": "linecolor"}
    axes.legend(**style)


def write_key(axes: Axes, named: dict[str, str], room: bool = False) -> None:
    """What the marks of a panel are, in lines :data:`KEY` inches high at its foot. named: label → colour.

    room: whether the vertical axis is made longer by them. Call it when the axis is set.
    """
    if room:
        figure: Any = axes.figure
        figure.draw_without_rendering()
        (low, high), ticks = axes.get_ylim(), axes.get_yticks()
        names = [label.get_text() for label in axes.get_yticklabels()]
        kept = [i for i, tick in enumerate(ticks) if min(low, high) <= tick <= max(low, high)]
        part = KEY * (len(named) + 0.3) * figure.dpi / axes.get_window_extent().height
        axes.set_ylim(high - (high - low) / (1 - part), high)
        axes.set_yticks(ticks[kept], [names[i] for i in kept])
    for i, (label, colour) in enumerate(reversed(named.items())):
        style: dict[str, Any] = {"fontsize": TEXT, "color": colour, "path_effects": HALO, "in_layout": False}
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(label, (0, 0), xytext=(6, 7 + 72 * KEY * i), gid="key", **place, **style)


def mark_better(axes: Axes, where: str = "↗") -> None:
    """Say in a corner which way is better: an arrow up right, up, up left, down or to the right."""
    left, top = where in "↑↖", where in "↑↗↖"
    x, y = 0.02 if left else 0.98, 0.97 if top else 0.03
    side, height = "left" if left else "right", "top" if top else "bottom"
    style: dict[str, Any] = {"ha": side, "va": height, "fontsize": TEXT, "color": BETTER, "path_effects": HALO}
    axes.text(x, y, f"better {where}", transform=axes.transAxes, gid="better", **style)


def save_figure(figure: Figure, stem: Path, caption: str, provenance: dict[str, Any]) -> dict[str, Path]:
    """Write ``stem.svg``, ``stem.png`` and ``stem.json`` (caption and provenance), and return their paths by ending.

    A figure's label, if it has one, becomes the first sentence of the caption. The same figure gives the same bytes.
    """
    caption = f"{figure.get_label()}. {caption}" if figure.get_label() else caption
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png", "json")}
    figure.savefig(paths["svg"], metadata={"Date": None})
    figure.savefig(paths["png"], metadata={"Software": None})
    write_json(paths["json"], {"caption": caption, "provenance": provenance}, sort_keys=True)
    return paths


def family(method: str) -> str:
    """The family of a method, by its name: a key of :data:`COLOURS`."""
    if method.startswith("frontier"):
        return "frontier"
    if method.startswith("ACM"):
        return "acm"
    return "control" if method.startswith(("Null", "Uniform")) else "baseline"


def control_title(control: str) -> str:
    """What a figure calls a control of the MI table; all but the real pair are null controls."""
    return CONTROLS[control].label


def label_points(axes: Axes, size: float = 10) -> None:
    """Write the name (gid) of each marker where it covers no other label, and fewest markers and lines.

    size: of the letters, points. A name may have several lines.

    Of the places around a marker the cheapest is taken (:func:`costs`), marker by marker. Where markers crowd, a line
    leads from the name to its marker.
    """
    figure: Any = axes.figure  # no subfigures here
    figure.draw_without_rendering()
    drawn = drawn_pixels(axes)
    radii = (11, 16, 24, 34, 46)
    around = size / 10 * np.array([(r * np.cos(a), r * np.sin(a)) for r in radii for a in np.pi / 8 * np.arange(16)])
    pixels = figure.dpi / 72
    points = [(str(line.get_gid()), np.asarray(line.get_xydata())[0]) for line in axes.lines if line.get_gid()]
    markers = np.array([axes.transData.transform(place) for _, place in points])
    taken = [Text.get_window_extent(text).padded(4) for text in axes.texts]
    for (name, point), anchor in zip(points, markers, strict=True):
        shown = "\n".join(map(figure_text, name.split("\n")))
        note = axes.annotate(shown, (point[0], point[1]), **NOTE | {"fontsize": size})
        note.update_positions(figure.canvas.get_renderer())
        box = Text.get_window_extent(note).padded(4)
        further = shown.count("\n") * 0.7 * size  # half the height of the other lines
        places = around + np.sign(around.round()) * (box.width / 2 / pixels, further)
        boxes = [box.translated(*(pixels * place)) for place in places]
        cost = costs(boxes, taken, axes.get_window_extent(), drawn) + np.hypot(*around.T)
        cost += 99 * crossings(boxes, taken, markers, anchor) + 40 * strangers(boxes, markers, anchor)
        taken.append(boxes[np.argmin(cost)])
        note.set_position(places[np.argmin(cost)])
        crowded = np.sum(np.hypot(*(markers - anchor).T) < 30) > 1
        if note.arrow_patch:
            note.arrow_patch.set_visible(bool(min(cost) > 20 or crowded))


def crossings(boxes: list[Bbox], taken: list[Bbox], markers: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Over how many other labels and markers a line from the marker to each box would lead."""
    steps = np.linspace(0, 1, 12)[:, None]
    lines = [anchor + steps * (np.mean([box.min, box.max], axis=0) - anchor) for box in boxes]
    others = [*taken, *(Bbox([place - 6, place + 6]) for place in markers if np.hypot(*(place - anchor)) > 9)]
    return np.array([sum(other.count_contains(line) > 0 for other in others) for line in lines])


def strangers(boxes: list[Bbox], markers: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """How many markers are nearer to each box than its own."""

    def apart(box: Bbox, places: np.ndarray) -> np.ndarray:
        return np.hypot(*np.maximum(0, np.maximum(box.min - places, places - box.max)).T)

    return np.array([np.sum(apart(box, markers) < apart(box, anchor[None]) - 1) for box in boxes])


def drawn_pixels(axes: Axes) -> np.ndarray:
    """Where markers and lines lie (points, 2), in pixels, each also a few pixels to every side for its width."""
    lines = np.vstack([axes.transData.transform(line.get_path().interpolated(6).vertices) for line in axes.lines])
    return np.vstack([lines, *(lines + step for step in ((6, 0), (-6, 0), (0, 6), (0, -6)))])


def costs(boxes: list[Bbox], taken: list[Bbox], frame: Bbox, drawn: np.ndarray) -> np.ndarray:
    """How bad each box is for a label: 999 for each label under it or end outside the frame, 9 for what is drawn."""
    return np.array([
        999 * (box.count_overlaps(taken) + (not frame.contains(*box.min)) + (not frame.contains(*box.max)))
        + 9 * box.count_contains(drawn)
        for box in boxes
    ])  # fmt: skip
