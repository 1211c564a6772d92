"""Lists the layer rules by name: what each reads, its formula and parameters, its source, and what of it is our guess.

A layer rule gives every layer of a fine-tuned model one coefficient λ. ACM's is one of them; the others are its rivals.
All write the same ``coefficients.json``, so every merge method takes any of them.

    symbol      meaning
    l           layer: ``embed``, ``0`` … ``L−1``, ``norm``, ``lm_head``
    λ_l         coefficient of the layer's task vector
    θ_0,l       the base's weights of the layer
    δ_l         the fine-tuned model's weights of the layer less the base's
    ‖·‖         length of all entries of a layer together, L2
    a_0, a_i    activations of base and fine-tuned model at the layer, one text; the same that ACM's MI is measured on
    σ           the sigmoid
    λ′          coefficients of another pair of models
    ρ_l         rank of the layer, from −1 (lowest) to 1 (highest); equal ones have their mean

A new rule is a row of ``RULES`` here, and a function in `layer_rules.py`. The command line, the table of the
documentation and the tests read the row. Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from acm.calibration import defaults
from acm.calibration.registry import CONTROLS, ESTIMATORS, SHIFTS, UNIFORM
from acm.errors import UserError, brief, unknown

LARGEST = 1e100  # of a parameter; its square is a finite number too

Value = float | int | str
Input = Literal["table", "models", "sensitivity", "found"]


@dataclass(frozen=True)
class Parameter:
    """A number or word that a rule takes.

    default: what holds where nothing is given. None: it must be given, unless ``otherwise`` says what holds without it.
    kind: a ``number``, a ``whole`` number or a ``word``. choices: the words that are known; empty: any.
    test, meaning: which numbers are in range, and the same in words, as the end of "a is …".
    """

    name: str
    default: Value | None = None
    meaning: str = ""
    test: Callable[[float], bool] = lambda _: True
    kind: Literal["number", "whole", "word"] = "number"
    choices: Collection[str] = ()
    otherwise: str = ""

    @property
    def shown(self) -> str:
        """The parameter with its default, for the documentation."""
        default = "must be given" if self.default is None else f"{self.default}"
        return f"`{self.name}` ({self.otherwise or default})"


@dataclass(frozen=True)
class Rule:
    """A layer rule.

    reads: what λ follows from, a phrase for the documentation. needs: the inputs that must be named: the ``table`` of a
    calibration, the ``models``, a file of ``sensitivity``, coefficients ``found`` for another pair.
    estimator: whose rows of the table it reads; empty: its parameter says so.
    takes: its parameters. reading: what of the rule is our guess, since its source leaves it open; empty: nothing.
    scaled: whether its λ may be brought to a given mean. Others are compared as they are: ACM's λ, and any that may be
    below 0.
    """

    name: str
    reads: str
    formula: str
    source: str
    needs: tuple[Input, ...]
    takes: tuple[Parameter, ...] = ()
    estimator: str = ""
    reading: str = ""
    scaled: bool = True


def above(name: str, default: float) -> Parameter:
    """A number above 0."""
    return Parameter(name, default, "above 0", lambda value: value > 0)


def count(name: str, default: int, least: int) -> Parameter:
    """A whole number from ``least`` to a million."""
    words = f"a whole number from {least} to a million"
    return Parameter(name, default, words, lambda value: least <= value <= 10**6, "whole")


def word(name: str, default: str, choices: Collection[str] = ()) -> Parameter:
    """A word, out of a few where choices are given."""
    return Parameter(name, default, kind="word", choices=choices)


FITTED = (
    "the whole rule; a and b are fitted to the λ that a search found on the embedded models, at the length where one λ "
    "has 75 % of its best accuracy"
)
A = Parameter("a")
B = Parameter("b", otherwise="1 − a")
SHARE = ("in [0, 1]", lambda value: 0 <= value <= 1)
FIM = (
    count("sequences", 8, 1), count("length", 64, 2), count("seed", 0, 0), word("entries", "mean", ("mean", "sum")),
    word("scale", "none", ("none", "deviation")), above("slope", 1.0), Parameter("offset", 0.0),
    above("factor", 1.0), above("tolerance", 0.05), word("dtype", defaults.DTYPE), word("device", defaults.DEVICE),
)  # fmt: skip
RULES = {
    rule.name: rule
    for rule in (
        Rule("acm", "MI table", "λ_l = 1 − mean over texts of σ(t · (MI_l − shift))", "arXiv:2505.14009", ("table",),
             (Parameter("t", defaults.T), word("shift", defaults.SHIFT, SHIFTS),
              word("estimator", defaults.ESTIMATOR, ESTIMATORS)), scaled=False),
        Rule("lines", "number of blocks", "λ_l = a + b · l / (L − 1) in the blocks, a outside", "arXiv:2410.17146",
             ("models",), (A, B), scaled=False),
        Rule("moved", "coefficients of another pair, and the number of blocks",
             "λ_l = λ′ at the depth l / (L − 1), on a line between the blocks of the other pair; embedding, norm and "
             "head keep theirs", "–", ("models", "found"),
             (Parameter("model", kind="word", otherwise="the only one of the file"),), reading="the whole rule",
             scaled=False),
        Rule("equal_norm", "weights", "λ_l = c / ‖δ_l‖; 0 where δ_l is 0", "arXiv:2501.01230", ("models",),
             (above("c", 0.07),)),
        Rule("magnitude", "weights", "λ_l = r_l / max over layers of r, r_l = ‖δ_l‖ / ‖θ_0,l‖", "–", ("models",),
             reading="the whole rule"),
        Rule("effective_rank", "weights, decomposed",
             "λ_l = R(θ_0,l) / R(δ_l), R: mean over the layer's tensors, weighted by size, of exp(−Σ p log p), "
             "p: squared singular values over their sum; 0 where δ_l is 0",
             "arXiv:2602.09413", ("models",),
             reading="known from a summary: the ratio and p are LARV's. Ours are the mean over tensors, a vector as a "
             "matrix of one row, and λ as the ratio itself, where LARV sorts layers into tiers"),
        Rule("fim", "gradients of the base on random tokens, and weights",
             "λ_l = factor · σ(slope · (offset − z_l)), z_l = log s_l less its mean over layers (scale: over its "
             "deviation), s_l = F_l · ‖δ_l‖², F_l: squared gradients, mean over sequences, mean or sum over the "
             "layer's entries",
             "arXiv:2603.21705", ("models",), FIM,
             reading="known from summaries, which say: 8 sequences of 64 random tokens, the mean of squared gradients, "
             "s_l, log-normalised, a sigmoid. Ours are the loss (of the sequence's own next tokens), scale, slope, "
             "offset and factor. Merged layers whose norm is off by more than 5 % are rescaled; we read: λ_l is "
             "lowered until ‖θ_0,l + λ_l δ_l‖ is within tolerance of ‖θ_0,l‖. Another factor of 0.7 is said to be of "
             "gate projections alone; one λ for a whole layer cannot express it"),
        Rule("sensitivity", "sensitivities of a calibration",
             "λ_l = 2 α σ((α s_i,l − (1 − α) s_0,l) / T) in the blocks, α outside; α: alpha, T: temperature",
             "arXiv:2502.12420", ("models", "sensitivity"),
             (Parameter("alpha", 0.7, *SHARE), above("temperature", 2.0)),
             reading="the weight that `merge_method: sens` gives to δ; the one that it gives to θ_0 is left out"),
        Rule("sensitivity_ranks", "sensitivities of a calibration",
             "λ_l = a + b · ρ_l, ρ_l: rank of α s_i,l − (1 − α) s_0,l among all layers, outside the blocks 0", "–",
             ("models", "sensitivity"),
             (Parameter("a", 0.14), Parameter("b", -0.49), Parameter("alpha", 0.7, *SHARE)), reading=FITTED,
             scaled=False),
        Rule("mi_ranks", "MI table, estimator `shuffle-corrected`",
             "λ_l = a + b · ρ_l, ρ_l: rank of the mean over texts of MI_l less its value with shuffled entries", "–",
             ("table",), (Parameter("a", 0.14), Parameter("b", 0.32)), estimator="shuffle-corrected", reading=FITTED,
             scaled=False),
        Rule("cka", "MI table, estimator `cka`", "λ_l = 1 − mean over texts of CKA(a_0, a_i)", "–", ("table",),
             estimator="cka", reading="the whole rule, on the similarity of arXiv:1905.00414"),
        Rule("activation_shift", "MI table, estimator `distance`", "λ_l = mean over texts of ‖a_i − a_0‖ / ‖a_0‖", "–",
             ("table",), estimator="distance", reading="the whole rule"),
    )
}  # fmt: skip
NONE = "none"
# Controls of the coefficients alone, for every rule; what each takes away. They keep the mean over the layers.
LAYER_CONTROLS = {
    UNIFORM: "the mean of λ over the layers, in every layer",
    "permuted": "the same λ, dealt to the layers at random: blocks, embedding, norm and head alike",
    "reversed": "the λ of the blocks from last to first; embedding, norm and head keep theirs",
}
TABLE_CONTROLS = tuple(name for name in CONTROLS if name != NONE)  # of rules that read the MI table


def find(name: str) -> Rule:
    """The rule of this name. UserError for an unknown one."""
    if name not in RULES:
        raise unknown("rule", name, RULES)
    return RULES[name]


def check_control(rule: Rule, control: str) -> None:
    """UserError for an unknown control, and for one of the MI table where the rule reads none."""
    if control not in (NONE, *LAYER_CONTROLS, *TABLE_CONTROLS):
        raise unknown("control", control, (NONE, *LAYER_CONTROLS, *TABLE_CONTROLS))
    if control in TABLE_CONTROLS and "table" not in rule.needs:
        known = ", ".join((NONE, *LAYER_CONTROLS))
        raise UserError(f"the control {control} is of MI tables, and the rule {rule.name} reads none; take {known}.")


def settings_of(rule: Rule, given: Mapping[str, object]) -> dict[str, Value]:
    """All parameters of a rule by name. One that is not given has its default, or is absent where it has none.

    UserError for an unknown name, a value of another kind or out of range, and a parameter that must be given.
    """
    known = {parameter.name: parameter for parameter in rule.takes}
    for name in given:
        if name not in known:
            if not known:
                raise UserError(f"the rule {rule.name} takes no parameters, so no {name}; leave it out.")
            raise unknown(f"parameter of {rule.name}", name, known)
    found: dict[str, Value] = {}
    for name, parameter in known.items():
        if name in given:
            found[name] = checked(rule, parameter, given[name])
        elif parameter.default is not None:
            found[name] = parameter.default
        elif not parameter.otherwise:
            raise UserError(f"the rule {rule.name} needs `{name}`; give it, as in --set {name}=0.3.")
    return found


def checked(rule: Rule, parameter: Parameter, value: object) -> Value:
    """A value that the parameter may have; UserError for any other."""
    where = f"{parameter.name} of {rule.name}"
    if parameter.kind == "word":
        if not isinstance(value, str):
            raise UserError(f"{where} must be a word, not {brief(value)}.")
        if parameter.choices and value not in parameter.choices:
            raise unknown(where, value, parameter.choices)
        return value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML reads 1e-3 as text
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{where} must be a number, not {brief(value)}.")
    if not abs(value) <= LARGEST:
        raise UserError(f"{where} must be a finite number of at most {LARGEST:g}, not {brief(value)}.")
    if (parameter.kind == "whole" and value != math.floor(value)) or not parameter.test(value):
        raise UserError(f"{where} is {parameter.meaning}, not {brief(value)}.")
    return int(value) if parameter.kind == "whole" else float(value)


def rule_table() -> str:
    """The rules as a Markdown table."""
    lines = [
        "| rule | what it reads | formula | parameters (default) | source | our reading |",
        "|---|---|---|---|---|---|",
    ]
    for rule in RULES.values():
        takes = ", ".join(parameter.shown for parameter in rule.takes) or "–"
        cells = (f"`{rule.name}`", rule.reads, rule.formula, takes, rule.source, rule.reading or "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def layer_control_table() -> str:
    """The controls of coefficients as a Markdown table."""
    rows = (f"| `{name}` | {what} |" for name, what in LAYER_CONTROLS.items())
    return "\n".join(["| name | λ |", "|---|---|", *rows])
