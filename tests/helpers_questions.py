"""What the tests of the questions share: made-up MI tables, and checks of figures and sentences."""

import re

import numpy as np
import pandas as pd

from acm.calibration.lockstep import COLUMNS

LAYERS = ["embed", "0", "1", "2", "3", "4", "5", "norm", "lm_head"]


def information(
    samples=12, controls=("none", "gaussian"), estimators=("plug-in",), finetuned=("abacus-slow",), names=LAYERS, seed=0
):
    """An MI table of random numbers that rise with length, the real pair's a little more."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(10, 120, samples)
    rows = []
    for model in finetuned:
        for layer in names:
            for sample in range(samples):
                for estimator in estimators:
                    for control in controls:
                        value = 3 + 0.5 * np.log(tokens[sample]) + 0.3 * (control == "none") + 0.1 * rng.normal()
                        rows.append((model, layer, sample, tokens[sample], estimator, control, value, 1.0, 1.0))
    return pd.DataFrame(rows, columns=COLUMNS)


def labelled(figure):
    """How many panels are seen; asserts that each says what its axes are.

    An axis says so by a label or by names at its ticks: its own, or those of a panel that shares the axis.
    """
    seen = [axes for axes in figure.axes if axes.axison]
    figure.draw_without_rendering()
    for axes in seen:
        for way in "xy":
            kin = [b for b in seen if b is axes or getattr(axes, f"get_shared_{way}_axes")().joined(axes, b)]
            ticks = [label.get_text() for b in kin for label in getattr(b, f"get_{way}ticklabels")()]
            named = any(re.search("[a-z]{3}", tick) for tick in ticks)
            assert named or any(getattr(b, f"get_{way}label")() for b in kin), (axes, way)
    return len(seen)


def assert_in_order(text, *words):
    """The text has these words in this order, and no NaN."""
    assert re.search(".*".join(map(re.escape, words)), text), text
    assert "nan" not in re.sub(r"\w*nan\w+|\w+nan\w*", "", text.lower()), text
