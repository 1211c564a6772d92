"""Who proposes the next candidate: a sampler of Optuna, made anew for each candidate from the candidate's own number.

So a search that stops and goes on proposes what it would have proposed without the stop.

    sampler   proposes                                                                    genes
    cmaes     from a normal distribution that follows the best (arXiv:1604.00772)         two or more
    tpe       where good candidates are denser than bad ones                              any
    nsga2     crosses the front of accuracy and length; it needs no target                any
    random    anywhere between the bounds: the control of equal budget                    any
    grid      21 even values, then between the neighbours that differ most                one λ
"""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from acm.errors import UserError, unknown
from acm.searching.spaces import Space

SAMPLERS = ("cmaes", "tpe", "nsga2", "random")  # of a search; the grid is of plain interpolation
EVEN = 21  # values of the grid before it is refined
START, STEP = 0.5, 0.1  # of CMA-ES: λ of its first mean; first standard deviation, a fraction of the bounds

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Grid(BaseSampler):
    """One gene: EVEN values from low to high, then the middle of the two neighbours that differ most.

    They differ in accuracy (as a fraction) and in length (as a fraction of the longest).
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: there is one gene."""
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Nothing, as above."""
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, of: BaseDistribution) -> float:
        """The next value."""
        assert isinstance(of, FloatDistribution)
        if trial.number < EVEN:
            return of.low + (of.high - of.low) * trial.number / (EVEN - 1)
        told = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        points = sorted((found.params[name], found.values[0] / 100, found.values[1]) for found in told)
        longest = max(tokens for _, _, tokens in points) or 1.0
        asked = {found.params.get(name) for found in study.get_trials(deepcopy=False, states=[TrialState.RUNNING])}
        gaps = [
            (math.hypot(b[1] - a[1], (b[2] - a[2]) / longest), (a[0] + b[0]) / 2) for a, b in itertools.pairwise(points)
        ]
        return max([gap for gap in gaps if gap[1] not in asked] or gaps)[1]  # another process may be at one


class Numbered(BaseSampler):
    """A sampler that is made anew for each candidate, from the names of arm and seed and the candidate's number.

    What it draws gene by gene, it draws from the gene's name too: else all genes of a candidate would be equal. kind,
    space: as of :func:`sampler_of`.
    """

    def __init__(self, kind: str, space: Space, seed: int) -> None:
        self.kind, self.space, self.seed = kind, space, seed

    def of(self, study: Study, trial: FrozenTrial, gene: str = "") -> BaseSampler:
        """The sampler of this candidate, or of one of its genes."""
        return sampler_of(self.kind, self.space, f"{study.study_name}/{self.seed}/{trial.number}{gene}")

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Optuna's."""
        return self.of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Optuna's."""
        return self.of(study, trial).sample_relative(study, trial, space)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, of: BaseDistribution) -> Any:
        """Optuna's; the first candidate of CMA-ES is its centre."""
        if self.kind == "cmaes" and trial.number == 0:
            return center(name, self.space.genes[name], self.space)
        return self.of(study, trial, f"/{name}").sample_independent(study, trial, name, of)


def sampler_of(kind: str, space: Space, name: str) -> BaseSampler:
    """The sampler of a candidate. kind: of :data:`SAMPLERS`. name: gives the seed."""
    own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
    if kind == "grid":
        return Grid()
    if kind == "random":
        return RandomSampler(seed=own)
    if kind == "tpe":
        return TPESampler(seed=own, multivariate=True)
    if kind == "nsga2":
        return NSGAIISampler(seed=own)
    start = {gene: center(gene, bounds, space) for gene, bounds in space.genes.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Optuna 6 will not take x0 and sigma0
        return CmaEsSampler(x0=start, sigma0=STEP, seed=own)


def center(gene: str, bounds: tuple[float, float], space: Space) -> float:
    """Where CMA-ES begins: at one λ in all layers; a further parameter in the middle of its bounds."""
    low, high = bounds
    if gene in space.also or not low <= START <= high or low == -high:
        return (low + high) / 2
    return START


def check_sampler(kind: str, space: Space, targets: Sequence[float]) -> None:
    """UserError for a sampler that is unknown, or that does not go with the genes or the targets."""
    if kind not in SAMPLERS:
        raise unknown("sampler", kind, SAMPLERS)
    count = len(space.genes)
    if not count:
        raise UserError("the fine-tuned models have the base's numbers in every layer, so there is nothing to search.")
    if kind == "cmaes" and count < 2:
        raise UserError(f"sampler cmaes needs two genes, and genome {space.genome} has one; choose tpe.")
    if kind == "nsga2" and targets:
        raise UserError("sampler nsga2 searches the whole front of accuracy and length; leave out the target.")
