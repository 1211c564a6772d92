"""What the registry knows of a merge method and of its parameters. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

Value = float | bool | str | None


@dataclass(frozen=True)
class Parameter:
    """A key of a recipe's ``parameters``.

    default: what holds where the recipe gives nothing; a text: the method works a number out, as the text says; None:
    the recipe must give it.
    test, meaning: which numbers are in range, and the same in words, as the end of "density is …".
    kind: a ``number``, which may differ between layers; a ``flag``, true or false; ``statistics``, the path of
    safetensors that a calibration wrote; ``layers``, the path of a JSON file with a number for each model and layer.
    per_model: whether each model may have its own. everywhere: whether all tensors share one value.
    setting: the field of :class:`acm.merging.settings.Settings` that holds it; without one ``Settings.numbers`` does.
    slider: the least and the most that an explorer offers.
    """

    name: str
    meaning: str = ""
    test: Callable[[float], bool] = lambda _: True
    default: Value = None
    kind: Literal["number", "flag", "statistics", "layers"] = "number"
    per_model: bool = False
    everywhere: bool = False
    setting: str = ""
    slider: tuple[float, float] = (0.0, 1.0)

    def defaulting(self, default: Value) -> Parameter:
        """The same parameter with another default."""
        return replace(self, default=default)

    @property
    def is_file(self) -> bool:
        """Whether its value is the path of a file."""
        return self.kind in ("statistics", "layers")


def fraction(name: str, meaning: str, **more: Any) -> Parameter:
    """A parameter in (0, 1]."""
    return Parameter(name, f"{meaning}, in (0, 1]", lambda v: 0 < v <= 1, slider=(0.01, 1.0), **more)


def closed(name: str, **more: Any) -> Parameter:
    """A parameter in [0, 1]."""
    return Parameter(name, "in [0, 1]", lambda v: 0 <= v <= 1, **more)


WEIGHT = Parameter("weight", per_model=True, setting="coefficients")
T = Parameter("t", setting="coefficients")
LAMBDA = Parameter("lambda", default=1.0, setting="scaling", slider=(0.0, 2.0))
NORMALIZE = Parameter("normalize", default=False, kind="flag", setting="normalize")
RESCALE = Parameter("rescale", default=True, kind="flag", setting="rescale")
DENSITY = fraction("density", "the fraction kept", default=1.0, per_model=True, setting="density")
GAMMA = Parameter("gamma", "the fraction of largest entries dropped, in [0, 1)", lambda v: 0 <= v < 1, 0.01,
                  per_model=True, setting="gamma", slider=(0.0, 0.5))  # fmt: skip
EPSILON = Parameter("epsilon", "half the spread of the keep probability, in [0, 1)", lambda v: 0 <= v < 1, 0.15,
                    per_model=True, setting="epsilon", slider=(0.0, 0.49))  # fmt: skip
RANK = fraction("rank", "the fraction of singular values kept")
MU = Parameter("mu", "a threshold, at least 0", lambda v: v >= 0)
ITERATIONS = Parameter("iterations", "a whole number from 1 to 999", lambda v: 1 <= v < 1000 and v == int(v), 10)
TEMPERATURE = Parameter("temperature", "above 0", lambda v: v > 0)
ALPHA = closed("alpha")
OMEGA = closed("omega", default=0.4)
STATISTICS = Parameter("statistics", kind="statistics", per_model=True)
SENSITIVITY = Parameter("sensitivity", kind="layers")
# Parameters that change no result of a method that does not take them. int8_mask: how mergekit saves memory. mergekit
# lets every method have the rest, so its recipes do.
IGNORED = {"int8_mask": Parameter("int8_mask", kind="flag")}
SHARED = (WEIGHT, T, LAMBDA, NORMALIZE, RESCALE, DENSITY, GAMMA, EPSILON)
FLAGS = ("filter_wise", "embed_slerp", "smooth", "allow_negative_weights")
IDLE = IGNORED | {found.name: found for found in SHARED} | {name: Parameter(name, kind="flag") for name in FLAGS}

EMBEDDINGS = Parameter("embeddings", default=False, kind="flag")  # whether embedding and head count as matrices too
EACH = WEIGHT.defaulting(1.0)  # of methods whose task vectors λ_i scales first

ARITHMETIC = (WEIGHT, NORMALIZE, LAMBDA)
SPARSE = (*ARITHMETIC, DENSITY)


@dataclass(frozen=True)
class MergeMethod:
    """A merge method, but for its function.

    alone: what it becomes with one task vector. cost: passes over the inputs, and decompositions of matrices.
    reading: what of the rule is our reading, since its source leaves it open; empty: nothing.
    takes: its parameters. example: numbers for those of them that make a valid recipe (files come from a calibration).
    models: least and most besides the base.
    chunks: what its function gets at a time: ``flat`` chunks of a tensor, whole ``rows``, or the ``whole`` tensor.
        ``bands`` are thousands of rows of a matrix with no fewer rows than columns, and else the whole tensor.
    whole_if: the parameter that makes it take whole tensors where it is above 0; empty: none.
    Embedding and head come flat to a method for which they are no matrices (:data:`EMBEDDINGS`).
    needs_base: whether a recipe must name the base. If not, the base is one of the models where the recipe lists it.
    from_zero: of a method that needs no base: its task vectors start at a base that the recipe names, else at 0. A base
    that is named is then never one of the models.
    average: a mean of the models and not of task vectors. ACM's λ cannot weigh it, a base that is named is always one
    of the models, and a model that has all the weight is copied.
    copies: whose bytes the result has at λ = 0 or 1: the ``base``'s at 0; the ``base or model``'s, at 0 or at 1 for a
    single model; ``nothing``, since the method changes the base too.
    trims: whether it keeps entries by their size, so that `scope: global` may rank all tensors together.
    elects: whether it elects a sign for each entry. random: whether it draws a mask from the recipe's seed.
    kernel: the fused loop of `fused.py` that merges by it; empty: plain torch alone.
    statistics: what a calibration knows of a tensor that it reads: a number for each of its ``entries``, for each of
    its ``inputs``, the ``gram`` matrix of its inputs, or the ``diagonal`` of that alone. base_statistics: whether they
    are the base's alone.
    speed: GB of output a second, two models, two cores, files in memory (benchmarks/merge.md); None: not measured.
    mergekit: ``same`` result in float32, equal ``in distribution``, or none of its methods (empty).
    """

    name: str
    title: str
    paper: str
    formula: str
    alone: str
    cost: str
    takes: tuple[Parameter, ...] = ()
    example: dict[str, float | bool] = field(default_factory=dict)
    models: tuple[int, int | None] = (1, None)
    chunks: Literal["flat", "rows", "bands", "whole"] = "flat"
    whole_if: str = ""
    needs_base: bool = True
    from_zero: bool = False
    average: bool = False
    copies: Literal["base", "base or model", "nothing"] = "base"
    trims: bool = False
    elects: bool = False
    random: bool = False
    kernel: Literal["", "average", "arc", "deltas"] = ""
    statistics: Literal["", "entries", "inputs", "gram", "diagonal"] = ""
    base_statistics: bool = False
    speed: float | None = None
    reading: str = ""
    mergekit: Literal["", "same", "in distribution"] = ""

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Its parameters by name."""
        return {parameter.name: parameter for parameter in self.takes}

    @property
    def defaults(self) -> dict[str, Value]:
        """Parameter → its default; None where a recipe must give it."""
        return {parameter.name: parameter.default for parameter in self.takes}

    @property
    def coefficient(self) -> Parameter | None:
        """The parameter that ACM's λ replaces; None where λ has none to replace and scales the task vectors."""
        return next((parameter for parameter in self.takes if parameter.setting == "coefficients"), None)

    @property
    def normalizer(self) -> Parameter | None:
        """The flag by which sums are divided by those of the divisors; None where it has none."""
        return next((parameter for parameter in self.takes if parameter.setting == "normalize"), None)

    @property
    def needs_sum(self) -> bool:
        """Whether weights that sum to 0 cannot be normalized; other methods then leave their sums undivided."""
        return self.average or self.from_zero

    @property
    def takes_coefficients(self) -> bool:
        """Whether ACM's λ can weigh it: whether it has task vectors."""
        return not self.average

    @property
    def reads_files(self) -> bool:
        """Whether it needs files beside the models."""
        return any(parameter.is_file for parameter in self.takes)

    @property
    def calibrated(self) -> str:
        """The statistic of a calibration that it reads (:mod:`acm.calibration.importance`); empty: none."""
        entries = "led" if "base_statistics" in self.parameters else "fisher"
        kinds = {"": "", "entries": entries, "gram": "regmean", "diagonal": "regmean", "inputs": "aim"}
        return kinds[self.statistics]

    @property
    def single(self) -> bool:
        """Whether it merges one model into the base, and no more."""
        return self.models == (1, 1)

    @property
    def idle(self) -> dict[str, Parameter]:
        """Parameters that a recipe may give although they change nothing."""
        known = IDLE if self.mergekit else IGNORED
        return {name: parameter for name, parameter in known.items() if name not in self.parameters}

    @property
    def url(self) -> str:
        """Where the paper is."""
        return self.paper if "://" in self.paper else f"https://arxiv.org/abs/{self.paper.removeprefix('arXiv:')}"
