"""What :func:`acm.show` gives: a title, a small table, a sentence, and a small plot, as text, Markdown and HTML.

Names in it are not trusted; they are shown literally. A plot needs matplotlib, which the core does without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acm.errors import UserError
from acm.escaping import figure_text, literal, markdown
from acm.hypertext import NO_MATHS, image, shown, table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST = 36  # rows of a table that are shown
SIZE = 4.4, 2.9  # of a plot, inches
COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161")  # seaborn's, for the colour-blind
LOOK: dict[Any, Any] = {
    "svg.hashsalt": "acm", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.prop_cycle": f"cycler(linestyle=['-', '--', ':']) * cycler(color={list(COLOURS)})",
}  # fmt: skip
FEW = 5  # curves whose names have room within a plot
TICKS = 12  # names along an axis
LONGEST = 30  # characters of a name in a plot
CSS = """
.acm-shown {max-width: 1000px; line-height: 1.4; color: var(--jp-ui-font-color1, inherit)}
.acm-shown > p {margin: 4px 0; overflow-wrap: anywhere}
.acm-shown > div {display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: flex-start}
.acm-shown .acm-rows {overflow-x: auto; max-width: 100%}
.acm-shown table {border-collapse: collapse; margin: 0; font-variant-numeric: tabular-nums}
.acm-shown :is(td, th) {padding: 2px 10px; text-align: right}
.acm-shown tbody :is(td, th) {white-space: nowrap}
.acm-shown tbody th {text-align: left; font-weight: normal}
.acm-shown img {width: 380px; max-width: 100%; background: white}
"""


@dataclass(frozen=True, repr=False)
class Shown:
    """An object as :func:`acm.show` shows it. In a notebook it is a table beside a plot, elsewhere text.

    title: in words. table: of texts; of many rows the first and last are shown. caption: a sentence, with units.
    draw: draws on the axes that it is given; None where there is nothing to draw.
    """

    title: str
    table: pd.DataFrame
    caption: str
    draw: Callable[[Axes], Any] | None = None

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw, on these axes or (None) on new ones, and return them. UserError where it cannot be."""
        if self.draw is None:
            raise UserError(f"there is nothing to plot of this: {self.title}.")
        try:
            from matplotlib import pyplot
        except ModuleNotFoundError:
            raise UserError(
                'a plot needs the package matplotlib: pip install "acm-companion[notebooks]" brings it.'
            ) from None
        with pyplot.rc_context(LOOK):
            axes = axes or pyplot.subplots(figsize=SIZE, layout="constrained")[1]
            self.draw(axes)
        return axes

    @property
    def rows(self) -> pd.DataFrame:
        """The rows that are shown: all, or the first and the last with ``…`` between them."""
        import pandas as pd

        if len(self.table) <= MOST:
            return self.table
        gap = pd.DataFrame("…", index=["…"], columns=self.table.columns)
        return pd.concat([self.table.iloc[: MOST // 2], gap, self.table.iloc[-(MOST // 2) :]])

    def __str__(self) -> str:
        rows = self.rows.rename(columns=literal, index=literal).map(literal)
        return f"{literal(self.title)}\n\n{rows.to_string()}\n\n{literal(self.caption)}"

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        lines = [["", *self.rows.columns], ["---"] * (1 + len(self.rows.columns)), *self.rows.itertuples(name=None)]
        written = [" | ".join(cell if cell == "---" else markdown(cell) for cell in line) for line in lines]
        rows = "\n".join(f"| {line} |" for line in written)
        return f"**{markdown(self.title)}**\n\n{rows}\n\n{markdown(self.caption)}\n"

    def _repr_html_(self) -> str:
        title, caption = (f'<p class="{NO_MATHS}">{text}</p>' for text in (f"<strong>{shown(self.title)}</strong>",
                                                                          shown(self.caption)))  # fmt: skip
        rows = f'<div class="acm-rows" tabindex="0" role="group" aria-label="table">{table(self.rows)}</div>'
        return f'<style>{CSS}</style><div class="acm-shown">{title}<div>{rows}{self.picture()}</div>{caption}</div>'

    def picture(self) -> str:
        """The plot as an ``<img>``; empty where there is none, or no matplotlib."""
        if self.draw is None:
            return ""
        try:
            from matplotlib import rc_context
            from matplotlib.figure import Figure
        except ModuleNotFoundError:
            return ""
        with rc_context(LOOK):
            figure = Figure(figsize=SIZE, layout="constrained")  # none of pyplot's, which a notebook would show again
            self.draw(figure.subplots())
            return image(figure, f"{self.title}: plot of the table")


def draw_by_layer(axes: Axes, curves: Mapping[str, Mapping[str, float]], quantity: str) -> None:
    """A line for each curve along the layers. curves: name → layer → value. quantity: of the values, with its unit."""
    layers = list(dict.fromkeys(str(layer) for curve in curves.values() for layer in curve))
    lines = [
        axes.plot([layers.index(str(layer)) for layer in curve], list(curve.values()), marker="o", ms=3.5, lw=1.2)[0]
        for curve in curves.values()
    ]
    named = range(0, len(layers), -(-len(layers) // TICKS))
    axes.set_xticks(list(named), [label(layers[i]) for i in named], rotation=45)
    axes.set(xlabel="layer", ylabel=quantity)
    if len(lines) > 1:
        beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if len(lines) > FEW else {"loc": "best"}
        axes.legend(lines, [label(name) for name in curves], fontsize=7, frameon=False, **beside)


def label(name: object) -> str:
    """A name as a plot has it: literal, and cut where it is long."""
    text = literal(name)
    return figure_text(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")
