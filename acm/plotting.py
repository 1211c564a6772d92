"""How every figure of the project looks, and how it is saved: SVG, PNG and a caption with provenance."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

# One colour and marker per family of methods, from seaborn's colour-blind palette; markers differ too.
_C = sns.color_palette("colorblind").as_hex()
COLOURS = {"parent": "#444444", "frontier": "#888888", "baseline": _C[0], "acm": _C[3], "control": _C[1]}
MARKERS = {"parent": "s", "frontier": ".", "baseline": "o", "acm": "D", "control": "^"}


def use_theme() -> None:
    """Set the project's look for all figures drawn after this call."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"svg.hashsalt": "acm", "figure.dpi": 110, "savefig.dpi": 160, "figure.constrained_layout.use": True})


def save_figure(figure: Figure, stem: Path, caption: str, provenance: dict) -> dict[str, Path]:
    """Write ``stem.svg``, ``stem.png`` and ``stem.json`` (caption and provenance); the same bytes for the same figure."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png", "json")}
    figure.savefig(paths["svg"], metadata={"Date": None})
    figure.savefig(paths["png"], metadata={"Software": None})
    paths["json"].write_text(json.dumps({"caption": caption, "provenance": provenance}, indent=1, sort_keys=True) + "\n")
    return paths


def family(method: str) -> str:
    """The family (key of :data:`COLOURS`) that a method's name belongs to."""
    if method.startswith("frontier"):
        return "frontier"
    if method.startswith("ACM"):
        return "acm"
    return "control" if method.startswith("Null") else "baseline"
