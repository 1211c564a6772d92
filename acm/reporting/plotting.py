"""How every figure of the project looks, and how it is saved: SVG, PNG and a caption with provenance."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from acm.calibration.registry import CONTROLS
from acm.files import write_json

# One colour and marker per family of methods, from seaborn's colour-blind palette; markers differ too.
_C = sns.color_palette("colorblind").as_hex()
COLOURS = {"parent": "#444444", "frontier": "#888888", "baseline": _C[0], "acm": _C[3], "control": _C[1]}
MARKERS = {"parent": "s", "frontier": ".", "baseline": "o", "acm": "D", "control": "^"}
HALO = [withStroke(linewidth=2.5, foreground="white")]  # keeps labels legible on lines


def use_theme() -> None:
    """Set the project's look for all figures drawn after this call."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update(
        {"svg.hashsalt": "acm", "figure.dpi": 110, "savefig.dpi": 160, "figure.constrained_layout.use": True}
    )


def save_figure(figure: Figure, stem: Path, caption: str, provenance: dict) -> dict[str, Path]:
    """Write ``stem.svg``, ``stem.png`` and ``stem.json`` (caption and provenance); the same bytes for the same figure."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png", "json")}
    figure.savefig(paths["svg"], metadata={"Date": None})
    figure.savefig(paths["png"], metadata={"Software": None})
    write_json(paths["json"], {"caption": caption, "provenance": provenance}, sort_keys=True)
    return paths


def family(method: str) -> str:
    """The family (key of :data:`COLOURS`) that a method's name belongs to."""
    if method.startswith("frontier"):
        return "frontier"
    if method.startswith("ACM"):
        return "acm"
    return "control" if method.startswith("Null") else "baseline"


def control_title(control: str) -> str:
    """What a figure calls a control of the MI table; all but the real pair are null controls."""
    return CONTROLS[control] if control == "none" else f"null: {CONTROLS[control]}"


def label_points(axes: plt.Axes) -> None:
    """Write the name (gid) of each marker at the nearest place that covers no label and fewest markers and lines."""
    axes.figure.draw_without_rendering()
    drawn = np.vstack([axes.transData.transform(line.get_path().interpolated(6).vertices) for line in axes.lines])
    drawn = np.vstack([drawn, *(drawn + step for step in ((6, 0), (-6, 0), (0, 6), (0, -6)))])  # their width, pixels
    around = np.array([(r * np.cos(a), r * np.sin(a)) for r in (11, 16, 24, 34, 46) for a in np.pi / 8 * np.arange(16)])
    taken, frame, pixels = [], axes.get_window_extent(), axes.figure.dpi / 72
    points = [line for line in axes.lines if line.get_gid()]
    markers = np.array([axes.transData.transform(line.get_xydata()[0]) for line in points])
    for point, anchor in zip(points, markers, strict=True):
        note = axes.annotate(
            point.get_gid(),
            point.get_xydata()[0],
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            in_layout=False,
            path_effects=HALO,
            arrowprops={"arrowstyle": "-", "color": "0.6"},
        )
        note.update_positions(axes.figure.canvas.get_renderer())
        box = Text.get_window_extent(note).padded(4)
        places = around + np.sign(around.round()) * (box.width / 2 / pixels, 0)
        boxes = [box.translated(*(pixels * place)) for place in places]
        cost = [
            99 * (box.count_overlaps(taken) + (not frame.contains(*box.min)) + (not frame.contains(*box.max)))
            + 9 * box.count_contains(drawn)
            for box in boxes
        ] + np.hypot(*around.T)
        taken.append(boxes[np.argmin(cost)])
        note.set_position(places[np.argmin(cost)])
        crowded = np.sum(np.hypot(*(markers - anchor).T) < 30) > 1
        note.arrow_patch.set_visible(bool(min(cost) > 20 or crowded))
