"""Lists the merge methods by name: title, paper, formula, parameters, and what else the engine must know of each.

A new method is one row in a module of this folder, and one function in the module of the same name in `methods/`.
Recipes, checks, the table of the docs, explorers and tests read the row. The row itself describes a parameter that no
other method has. Nothing heavy is imported here, so a recipe is checked in a moment.
"""

from __future__ import annotations

from acm.merging.registry import elementwise, joint, masks, matrices, measured, selective, spectral, spherical
from acm.merging.registry.row import WEIGHT, MergeMethod, Parameter

__all__ = ["METHODS", "WEIGHT", "MergeMethod", "Parameter", "table"]

GROUPS = (elementwise, selective, masks, spherical, matrices, spectral, joint, measured)
METHODS = {row.name: row for group in GROUPS for row in group.ROWS}


def table() -> str:
    """The methods as a Markdown table."""
    heads = ["method", "recipe name", "formula", "parameters (default)", "example", "with one task vector", "cost"]
    heads += ["paper", "mergekit"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for m in METHODS.values():
        keys = ", ".join(f"`{k}`" + ("" if d is None else f" ({str(d).lower()})") for k, d in m.defaults.items())
        example = f"`{{{', '.join(f'{k}: {v}' for k, v in m.example.items())}}}`" if m.example else ""
        formula = m.formula + (f". **Our reading:** {m.reading}" if m.reading else "")
        paper = f"[{m.paper}]({m.url})"
        cells = (m.title, f"`{m.name}`", formula, keys, example, m.alone, m.cost, paper, m.mergekit or "–")
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)
