"""Estimates the mutual information (MI) of two arrays of activations, by the paper's estimator and by others.

    variable   paper   shape          meaning
    x          A_0^k   (tokens, d)    activations of layer k in the base model, any float dtype
    y          A_i^k   as x           activations of the same layer and tokens in fine-tuned model i
    mi         I_i^k   ()             mutual information, nats (Eq. 1 of arXiv 2505.14009)
    n                  ()             entries: tokens · d
    K_x, K_y           ()             distinct values of x, of y
    K_xy               ()             distinct pairs of values

The paper's code takes every distinct bf16 value as a label and pairs x and y entry by entry. This is the plug-in
estimate. Its bias is about (K_xy − K_x − K_y + 1) / 2n, and grows as samples get fewer. The null controls of
`controls.py` show the bias. Some estimators here correct it; others estimate MI in another way, or measure similarity.

Each estimator is one function here. :func:`estimates` binds the function to its row in `registry.py`. The row says what
the function is given. An additive estimator gets sums over label pairs (:class:`acm.calibration.counts.PairSums`). Any
other estimator gets x and y as tensors of shape (tokens, d).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from acm.calibration import defaults
from acm.calibration.arrays import checked, labels, permuted
from acm.calibration.counts import PairSums, pair_sums
from acm.calibration.registry import BINS, ESTIMATORS, KRASKOV_CHANNELS
from acm.errors import unknown

KRASKOV_NEIGHBOURS = 3  # nearest neighbours that Kraskov's estimator looks at
SHUFFLES = 2  # the shuffle correction subtracts the mean estimate over this many shuffles

Function = TypeVar("Function", bound=Callable[..., float])
FUNCTIONS: dict[str, Callable[..., float]] = {}  # estimator → its function


def estimates(name: str) -> Callable[[Function], Function]:
    """Bind a function to the estimator of this name in the registry."""

    def bind(function: Function) -> Function:
        FUNCTIONS[name] = function
        return function

    return bind


def mutual_information(x: np.ndarray | Tensor, y: np.ndarray | Tensor, estimator: str = defaults.ESTIMATOR) -> float:
    """Mutual information I(x; y), the entries of x and y being paired samples (Eq. 1 of arXiv 2505.14009).

    x, y: NumPy arrays or torch tensors of one shape and one dtype: bf16, f16, f32 or f64. The last axis holds channels,
    all other axes hold tokens; an array of one axis has one channel. Tensors on a GPU are counted there.
    estimator: a name from ``acm.calibration.registry.ESTIMATORS``.

    ``plug-in``, the paper's, takes every distinct value as a label: +0 and −0 are one value, infinity is a value. It
    equals ``sklearn.metrics.mutual_info_score`` of the flattened values. ``kraskov``, ``gaussian``, ``cka`` and
    ``cosine`` take tokens as samples.

    Returns nats for each entry, channel or token, as the estimator's ``unit`` says; ``cka`` and ``cosine`` are
    similarities, ``distance`` is a share of x's length, and these have no unit. NaN where an estimator needs more
    tokens than there are.

    Raises ValueError for unlike shapes or dtypes, empty arrays, 2³¹ entries or more, NaN, an unknown estimator, and for
    infinity where the estimator is not ``labelled``.

    Activations of one layer in a base model and in a fine-tuned one, two tokens of four channels:

    >>> import numpy as np
    >>> import acm
    >>> base = np.array([[0.0, 0.5, 0.5, 1.0], [1.0, 0.0, 0.5, 0.5]])
    >>> finetuned = np.array([[0.0, 0.5, 0.5, 0.5], [0.5, 0.0, 0.5, 0.5]])

    The fine-tuned model says of each entry whether the base has 0 there, and no more:

    >>> round(acm.mutual_information(base, finetuned), 4)
    0.5623

    The MI of an array with itself is its entropy:

    >>> round(acm.mutual_information(base, base), 4)
    1.0397

    A correction of the bias, and a similarity:

    >>> round(acm.mutual_information(base, finetuned, "miller-madow"), 4)
    0.6248
    >>> round(acm.mutual_information(base, finetuned, "cosine"), 4)
    0.9428
    """
    if estimator not in ESTIMATORS:
        raise unknown("estimator", estimator, ESTIMATORS)
    row = ESTIMATORS[estimator]
    left, right = checked(x, y, finite=not row.labelled)
    if row.additive:
        return information_of_sums(pair_sums(labels(left), labels(right)), estimator)
    channels = left.shape[-1] if left.ndim > 1 else 1
    return FUNCTIONS[estimator](left.reshape(-1, channels), right.reshape(-1, channels))


def information_of_sums(sums: PairSums, estimator: str) -> float:
    """The estimate, in nats, from sums over label pairs. UserError for an estimator that is not additive."""
    additive = [name for name, row in ESTIMATORS.items() if row.additive]
    if estimator not in additive:
        raise unknown("estimator that takes counts", estimator, additive)
    return FUNCTIONS[estimator](sums)


@estimates("plug-in")
def plug_in(sums: PairSums) -> float:
    """Every distinct value is a label: the released code of arXiv 2505.14009. Nats, at least 0."""
    return max(0.0, sums.information)


@estimates("miller-madow")
def miller_madow(sums: PairSums) -> float:
    """Plug-in less its bias to first order, (K_xy − K_x − K_y + 1) / 2n (Miller 1955). Nats, may be negative."""
    return sums.information - (sums.surplus + 1) / (2 * sums.entries)


@estimates("shuffle-corrected")
def shuffle_corrected(x: Tensor, y: Tensor) -> float:
    """Plug-in less its mean over seeded shuffles of y's entries. Shuffles leave nothing but bias. Nats, may be < 0."""
    a, b = labels(x), labels(y)
    rng = np.random.default_rng(0)
    nulls = [plug_in(pair_sums(a, permuted(b, rng))) for _ in range(SHUFFLES)]
    return plug_in(pair_sums(a, b)) - float(np.mean(nulls))


@estimates("equal-width")
def equal_width(x: Tensor, y: Tensor) -> float:
    """Plug-in on BINS bins of equal width between each array's extremes. Nats."""
    return binned(x, y, lambda values: np.linspace(values.min(), values.max(), BINS + 1)[1:-1])


@estimates("equal-frequency")
def equal_frequency(x: Tensor, y: Tensor) -> float:
    """Plug-in on BINS bins that hold equally many entries of each array. Nats."""
    return binned(x, y, lambda values: np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))


def binned(x: Tensor, y: Tensor, edges: Callable[[np.ndarray], np.ndarray]) -> float:
    """Plug-in with bins as labels. edges: values of one array → the inner edges of its bins."""
    flat = [side.flatten().double() for side in (x, y)]
    inner = [torch.from_numpy(edges(side.cpu().numpy())).to(side.device) for side in flat]
    a, b = (torch.bucketize(side, bins, out_int32=True, right=True) for side, bins in zip(flat, inner, strict=True))
    on_cpu = x.device.type == "cpu"
    return plug_in(pair_sums(a.numpy().astype(np.uint16), b.numpy().astype(np.uint16)) if on_cpu else pair_sums(a, b))


@estimates("kraskov")
def kraskov(x: Tensor, y: Tensor) -> float:
    """Mean over channels of the k-nearest-neighbour estimate (arXiv cond-mat/0305641), tokens as samples. Nats.

    The estimate of a channel is scikit-learn's. NaN where there are too few tokens.
    """
    from sklearn.feature_selection import mutual_info_regression

    if len(x) <= KRASKOV_NEIGHBOURS + 1:
        return float("nan")
    spread = np.linspace(0, x.shape[1] - 1, min(KRASKOV_CHANNELS, x.shape[1]))
    found = []
    for channel in np.unique(spread.astype(int)):
        a, b = (side[:, channel].double().cpu().numpy() for side in (x, y))
        found.append(mutual_info_regression(a[:, None], b, n_neighbors=KRASKOV_NEIGHBOURS, random_state=0)[0])
    return float(np.mean(found))


@estimates("gaussian")
def gaussian(x: Tensor, y: Tensor) -> float:
    """MI of Gaussian tokens: −½ Σ log(1 − ρ²) over the canonical correlations ρ. Nats, a sum over channels.

    The correlations are those of the shrunk joint covariance: Ledoit–Wolf shrinkage of the standardized joint
    covariance towards the identity (doi 10.1016/S0047-259X(03)00096-4). Shrinkage scales the cross-covariance too, so
    that few tokens give little information rather than all. Whitening happens in the space that the tokens span,
    which costs tokens³, not channels³. Constant channels count for nothing. NaN where there are too few tokens.
    """
    if len(x) < 3:
        return float("nan")
    sides = [standardized(values) for values in (x, y)]
    if not all(side.size for side in sides):
        return 0.0
    shrinkage = ledoit_wolf(np.hstack(sides))
    (left, f), (right, g) = (whitened(side, shrinkage) for side in sides)
    rho = (1 - shrinkage) * np.linalg.svd(f[:, None] * (left.T @ right) * g, compute_uv=False)
    return abs(float(0.5 * np.log1p(-np.square(np.clip(rho, 0, 1 - 1e-12))).sum()))


def centred(values: Tensor) -> Tensor:
    """Channels of mean 0, f64; constant ones are 0 to the last bit."""
    values = values.double()
    values = values - values[0]
    return values - values.mean(0)


def standardized(values: Tensor) -> np.ndarray:
    """Channels of mean 0 and variance 1, without the constant ones."""
    numbers: np.ndarray = centred(values).cpu().numpy()
    scale = numbers.std(axis=0)
    varying: np.ndarray = numbers[:, scale > 0] / scale[scale > 0]
    return varying


def ledoit_wolf(values: np.ndarray) -> float:
    """The weight of the identity in the shrunk covariance of standardized channels.

    The value is scikit-learn's, at the cost of rows² · channels.
    """
    (rows, channels), squares = values.shape, (values**2).sum(axis=1)
    second = ((values @ values.T if rows < channels else values.T @ values) ** 2).sum() / rows**2
    noise, spread = ((squares**2).sum() / rows - second) / rows, second - channels
    return float(min(noise, spread) / spread) if min(noise, spread) > 0 else 0.0


def whitened(values: np.ndarray, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors of the rows, and standard deviation over shrunk standard deviation along each."""
    left, s, _ = np.linalg.svd(values, full_matrices=False)
    variance = s**2 / len(values)
    shrunk = (1 - shrinkage) * variance + shrinkage  # the target of standardized channels is the identity
    spanned = variance > 1e-12 * variance.max()  # the rest is rounding, which whitening without shrinkage would blow up
    return left, np.sqrt(np.divide(variance, shrunk, out=np.zeros_like(shrunk), where=spanned))


@estimates("cka")
def cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment (arXiv 1905.00414), a similarity in [0, 1]. NaN where all tokens are alike."""
    x, y = centred(x), centred(y)
    if len(x) <= x.shape[1]:
        k, m = x @ x.T, y @ y.T
        shared = (k * m).sum()
    else:  # the same sums in channels² numbers rather than tokens²
        k, m = x.T @ x, y.T @ y
        shared = (x.T @ y).square().sum()
    norm = float(k.norm() * m.norm())
    return float(shared) / norm if norm else float("nan")


@estimates("cosine")
def cosine(x: Tensor, y: Tensor) -> float:
    """Mean cosine of the tokens, a similarity in [−1, 1]. A token of zeros counts 0."""
    return float(torch.nn.functional.cosine_similarity(x.double(), y.double(), dim=-1, eps=1e-300).mean())


@estimates("distance")
def distance(x: Tensor, y: Tensor) -> float:
    """‖y − x‖ / ‖x‖, the L2 norms of all entries together, at least 0. NaN where x holds zeros alone."""
    length = float(x.double().norm())
    return float((y.double() - x.double()).norm()) / length if length else float("nan")
