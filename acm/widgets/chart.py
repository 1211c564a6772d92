"""Widgets that the browser draws: a chart, and chips to choose by. Python gives the numbers.

Their scripts lie in ``web/``. A chart has light and dark colours, points that are buttons, and names that do not
overlap. ``web/chart/spec.js`` says what it can be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike

from acm.paths import WEB
from acm.widgets.bundle import bundle

STYLE = (WEB / "chart" / "chart.css").read_text(encoding="utf-8")
CHIPS_STYLE = (WEB / "widgets" / "chips.css").read_text(encoding="utf-8")
DIGITS = 6  # significant digits that go to the browser; a picture shows fewer
Chip = Mapping[str, str]  # name, and where wanted label, family, hint


class Chart(anywidget.AnyWidget):
    """A chart. spec: what it shows. chosen: the point that is ringed.

    pressable: a pressed point becomes the chosen one; pressed again, none is.
    """

    _esm = bundle("widgets/chart_widget.js")
    _css = STYLE
    spec = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)
    pressable = traitlets.Bool(False).tag(sync=True)

    def points(self) -> list[str]:
        """The names of the points that are drawn."""
        return [point["name"] for point in self.spec.get("points", [])]


class Chips(anywidget.AnyWidget):
    """Buttons that are on or off. value: the names of those that are on, in the order of the options.

    single: one of them is chosen, as of radio buttons; else any number.
    """

    _esm = bundle("widgets/chips_widget.js")
    _css = STYLE + CHIPS_STYLE
    label = traitlets.Unicode("").tag(sync=True)
    options = traitlets.List(traitlets.Dict()).tag(sync=True)
    value = traitlets.List(traitlets.Unicode()).tag(sync=True)
    single = traitlets.Bool(False).tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)

    def offer(self, options: Iterable[Chip], value: Sequence[str] | None = None) -> None:
        """Give new options and turn those of ``value`` on; None: all."""
        offered: list[dict[Any, Any]] = [dict(option) for option in options]
        names = [str(option["name"]) for option in offered]
        chosen = names if value is None else [name for name in names if name in value]
        with self.hold_trait_notifications():
            self.options, self.value = offered, chosen

    @property
    def names(self) -> list[str]:
        """The names that are offered."""
        return [option["name"] for option in self.options]


def plain(value: Any) -> float | None:
    """A number as the browser takes it; None for one that is not finite."""
    number = float(value)
    return float(f"{number:.{DIGITS}g}") if np.isfinite(number) else None


def rounded(values: ArrayLike) -> list[list[float]]:
    """Rows of finite numbers as the browser takes them, with so many decimals as matter for the largest."""
    found = np.asarray(values, float)
    largest = np.abs(found).max(initial=0)
    decimals = DIGITS - (int(np.floor(np.log10(largest))) if largest else 0)
    rows: list[list[float]] = found.round(decimals).tolist()
    return rows


def reach(values: Iterable[Any], margin: float = 0.06) -> list[float]:
    """The range of an axis that holds these numbers and a margin on both sides, a share of their span.

    Numbers that are not finite are left out.
    """
    found = np.asarray(list(values), float)
    found = found[np.isfinite(found)]
    if not found.size:
        return [0.0, 1.0]
    low, high = float(found.min()), float(found.max())
    space = margin * (high - low) or 0.5
    return [float(f"{end:.4g}") for end in (low - space, high + space)]
