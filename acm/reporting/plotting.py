"""The common look of all figures, and the function that saves them: as SVG and PNG, with caption and provenance."""

from __future__ import annotations

from pathlib import Path
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
MARKERS = {"parent": "s", "frontier": ".", "baseline": "o", "acm": "D", "control": "^"}
HALO = [withStroke(linewidth=2.5, foreground="white")]  # keeps labels legible on lines
NOTE: dict[str, Any] = {  # the style of the label beside a point
    "xytext": (0, 0), "textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 10, "in_layout": False,
    "path_effects": HALO, "arrowprops": {"arrowstyle": "-", "color": "0.6"},
}  # fmt: skip


def use_theme() -> None:
    """Set the project's look for all figures drawn after this call."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rc("figure", dpi=110, **{"constrained_layout.use": True})
    plt.rc("savefig", dpi=160)
    plt.rc("svg", hashsalt="acm")


def save_figure(figure: Figure, stem: Path, caption: str, provenance: dict[str, Any]) -> dict[str, Path]:
    """Write ``stem.svg``, ``stem.png`` and ``stem.json`` (caption and provenance), and return their paths by ending.

    The same figure gives the same bytes.
    """
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


def label_points(axes: Axes) -> None:
    """Write the name (gid) of each marker where it covers no other label, and fewest markers and lines.

    Of the places around a marker the cheapest is taken (:func:`costs`), marker by marker. Where markers crowd, a line
    leads from the name to its marker.
    """
    figure: Any = axes.figure  # no subfigures here
    figure.draw_without_rendering()
    drawn = drawn_pixels(axes)
    around = np.array([(r * np.cos(a), r * np.sin(a)) for r in (11, 16, 24, 34, 46) for a in np.pi / 8 * np.arange(16)])
    pixels = figure.dpi / 72
    points = [(str(line.get_gid()), np.asarray(line.get_xydata())[0]) for line in axes.lines if line.get_gid()]
    markers = np.array([axes.transData.transform(place) for _, place in points])
    taken: list[Bbox] = []
    for (name, point), anchor in zip(points, markers, strict=True):
        note = axes.annotate(figure_text(name), (point[0], point[1]), **NOTE)
        note.update_positions(figure.canvas.get_renderer())
        box = Text.get_window_extent(note).padded(4)
        places = around + np.sign(around.round()) * (box.width / 2 / pixels, 0)
        boxes = [box.translated(*(pixels * place)) for place in places]
        cost = costs(boxes, taken, axes.get_window_extent(), drawn) + np.hypot(*around.T)
        taken.append(boxes[np.argmin(cost)])
        note.set_position(places[np.argmin(cost)])
        crowded = np.sum(np.hypot(*(markers - anchor).T) < 30) > 1
        if note.arrow_patch:
            note.arrow_patch.set_visible(bool(min(cost) > 20 or crowded))


def drawn_pixels(axes: Axes) -> np.ndarray:
    """Where markers and lines lie (points, 2), in pixels, each also a few pixels to every side for its width."""
    lines = np.vstack([axes.transData.transform(line.get_path().interpolated(6).vertices) for line in axes.lines])
    return np.vstack([lines, *(lines + step for step in ((6, 0), (-6, 0), (0, 6), (0, -6)))])


def costs(boxes: list[Bbox], taken: list[Bbox], frame: Bbox, drawn: np.ndarray) -> np.ndarray:
    """How bad each box is for a label: 99 for each label under it or end outside the frame, 9 for what is drawn."""
    return np.array([
        99 * (box.count_overlaps(taken) + (not frame.contains(*box.min)) + (not frame.contains(*box.max)))
        + 9 * box.count_contains(drawn)
        for box in boxes
    ])  # fmt: skip
