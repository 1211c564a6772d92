"""Lists the estimators, controls, shifts and statistics of calibration by name, and says what each can do.

A new estimator is a row of ``ESTIMATORS`` and a function in `information.py`. A new control is a row of ``CONTROLS``
and a function in `controls.py`. A new shift is a row of ``SHIFTS`` alone. Figures, profiles, the command line and the
tables of the documentation read these rows. Nothing heavy is imported here, so a profile is checked in a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PER_ENTRY = "nats per entry"
PER_CHANNEL = "nats per channel"
PER_TOKEN = "nats per token"  # a sum over channels
SIMILARITY = "similarity"  # a number without unit; not mutual information
DISTANCE = "distance"  # the same, but 0 where both arrays are equal
BINS = 32  # the histogram estimators sort the values of each array into so many bins
KRASKOV_CHANNELS = 32  # how many channels Kraskov's estimator looks at, evenly spread


@dataclass(frozen=True)
class Estimator:
    """A measure of how alike, or how far apart, two arrays of activations are.

    what: one phrase for the documentation. unit: of the estimate.
    labelled: the value follows from which entries are equal. Infinity is then a value like any other.
    additive: the value follows from the counts of label pairs alone. The arrays may then come in chunks, and the
    estimator's function takes the counts instead of the arrays. An additive estimator is labelled too.
    """

    name: str
    what: str
    source: str
    unit: str = PER_ENTRY
    labelled: bool = False
    additive: bool = False


@dataclass(frozen=True)
class Control:
    """Which pair of activations is measured: the real one, or one from which something was taken away.

    title: its name in figures. what: one phrase for the documentation.
    unrelated: the second array comes from the fine-tuned model with permuted channels, not from the model itself.
    other_text: the second array comes from another text of nearly the same length.
    gives_coefficients: the pipeline computes coefficients from this control, and a profile's method may name it.
    """

    name: str
    title: str
    what: str
    unrelated: bool = False
    other_text: bool = False
    gives_coefficients: bool = False

    @property
    def label(self) -> str:
        """The title, and that the control is a null where it is one."""
        return self.title if self.name == "none" else f"null: {self.title}"


ESTIMATORS = {
    estimator.name: estimator
    for estimator in (
        Estimator("plug-in", "every distinct bf16 value is a label (the paper's code)", "arXiv:2505.14009",
                  labelled=True, additive=True),
        Estimator("miller-madow", "`plug-in` less its bias to first order", "Miller 1955",
                  labelled=True, additive=True),
        Estimator("shuffle-corrected", "`plug-in` less its mean value with one side's entries shuffled", "–",
                  labelled=True),
        Estimator("equal-width", f"`plug-in` on {BINS} bins of equal width for each side", "–"),
        Estimator("equal-frequency", f"`plug-in` on {BINS} bins for each side that hold equally many entries", "–"),
        Estimator("kraskov", f"nearest neighbours, mean over up to {KRASKOV_CHANNELS} channels, tokens as samples",
                  "arXiv:cond-mat/0305641", unit=PER_CHANNEL),
        Estimator("gaussian", "canonical correlations of the shrunk joint covariance, tokens as samples",
                  "doi:10.1016/S0047-259X(03)00096-4", unit=PER_TOKEN),
        Estimator("cka", "linear centred kernel alignment", "arXiv:1905.00414", unit=SIMILARITY),
        Estimator("cosine", "mean cosine of the tokens' activations", "–", unit=SIMILARITY),
        Estimator("distance", "length of the difference over the length of the base's activations", "–",
                  unit=DISTANCE),
    )
}  # fmt: skip
CONTROLS = {
    control.name: control
    for control in (
        Control("none", "real pair", "base and fine-tuned activations as they are", gives_coefficients=True),
        Control("shuffled", "tokens shuffled",
                "the fine-tuned side's tokens permuted: channels keep their values, tokens no longer match",
                gives_coefficients=True),
        Control("other-sample", "another text",
                "the fine-tuned side from another text of nearly the same length, both cut to the shorter",
                other_text=True),
        Control("unrelated", "channels permuted",
                "the fine-tuned model with the channels of every tensor permuted: the same weights, nothing learnt",
                unrelated=True),
        Control("gaussian", "independent Gaussians",
                "independent standard normal numbers on both sides: any MI is bias of the estimate",
                gives_coefficients=True),
    )
}  # fmt: skip
COEFFICIENT_CONTROLS = tuple(control.name for control in CONTROLS.values() if control.gives_coefficients)
UNIFORM = "uniform"  # the mean of the real pair's λ, the same in every layer: a control of the coefficients alone
COEFFICIENT_SETS = (*COEFFICIENT_CONTROLS, UNIFORM)  # what the pipeline computes, and a profile's method may name
# What is subtracted from the MI before the sigmoid: a function of mi, an array (layers, samples) in nats.
SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray | float]] = {
    "layer": lambda mi: mi.max(axis=1, keepdims=True),  # the maximum over each layer's samples: the released code
    "global": lambda mi: float(mi.max()),  # the maximum over everything: §4.1 read literally
    "none": lambda mi: 0.0,  # nothing: Eq. 2 read literally
}
BY_GRADIENTS = ("fisher", "led", "sensitivity")
STATISTICS = ("aim", "regmean", *BY_GRADIENTS)  # what merge methods read; `importance.py` says what each is


def label_estimators() -> tuple[str, ...]:
    """Names of the estimators that look at labels alone: the paper's, and corrections of its bias."""
    return tuple(name for name, estimator in ESTIMATORS.items() if estimator.labelled)


def estimator_table() -> str:
    """The estimators as a Markdown table."""
    rows = (f"| `{e.name}` | {e.what} | {e.unit} | {e.source} |" for e in ESTIMATORS.values())
    return "\n".join(["| name | what | unit | source |", "|---|---|---|---|", *rows])


def control_table() -> str:
    """The controls as a Markdown table."""
    rows = (f"| `{c.name}` | {c.what} | {'yes' if c.gives_coefficients else 'no'} |" for c in CONTROLS.values())
    return "\n".join(["| name | what is compared | gives coefficients |", "|---|---|---|", *rows])
