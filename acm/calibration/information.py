"""Mutual information of two activation arrays: the paper's estimate, corrections of its bias, and rivals.

    variable   paper   shape          meaning
    x          A_0^k   (tokens, d)    activations of layer k in the base model, any float dtype
    y          A_i^k   as x           activations of the same layer and tokens in fine-tuned model i
    mi         I_i^k   ()             mutual information, nats (Eq. 1 of arXiv 2505.14009)
    n                  ()             entries: tokens · d
    a, b               (n,)           labels: whole numbers that stand for the values of x and y
    K                  ()             distinct labels: of x, of y, of pairs

The paper's code takes every distinct bf16 value as a label and pairs x and y entry by entry. Its bias is about
(K_xy − K_x − K_y + 1) / 2n, which grows as samples get fewer: see the null controls in :mod:`acm.calibration.walk`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numba import njit

from acm.errors import unknown

BINS = 32  # of the histogram estimators, for each array
NEIGHBOURS = 3  # of Kraskov's estimator
CHANNELS = 32  # that Kraskov's estimator looks at, evenly spread
SHUFFLES = 2  # shuffles whose mean the shuffle correction subtracts
MOST = (1 << 31) - 1  # entries of an array: pairs are counted in int32
CODED = (torch.bfloat16, torch.float16)  # their codes are labels
DTYPES = (*CODED, torch.float32, torch.float64)


def mutual_information(x: np.ndarray | torch.Tensor, y: np.ndarray | torch.Tensor, estimator: str = "plug-in") -> float:
    """Mutual information I(x; y) in nats, the entries of x and y being paired samples; for other units see ESTIMATORS.

    x, y: same shape and dtype: bf16, f16, f32 or f64. ``plug-in`` labels distinct values (+0 and −0 are one; infinity is a value); it
    equals ``sklearn.metrics.mutual_info_score`` on the flattened values. ``kraskov``, ``gaussian``, ``cka`` and ``cosine`` take rows
    as samples and the last axis as channels (arrays of one axis are one channel).
    Raises ValueError for unlike shapes or dtypes, empty arrays, 2³¹ entries or more, NaN or an unknown estimator, and for infinity if
    the estimator takes more than labels (LABELLED).
    """
    if estimator not in ESTIMATORS:
        raise unknown("estimator", estimator, ESTIMATORS)
    x, y = checked(x, y, finite=estimator not in LABELLED)
    channels = x.shape[-1] if x.ndim > 1 else 1
    return ESTIMATORS[estimator](x.reshape(-1, channels), y.reshape(-1, channels))


def checked(
    x: np.ndarray | torch.Tensor, y: np.ndarray | torch.Tensor, finite: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as tensors on the CPU; ValueError for what no estimator takes and, with ``finite``, for infinity."""
    x, y = as_tensor(x), as_tensor(y)
    if x.dtype != y.dtype or x.dtype not in DTYPES:
        raise ValueError(f"x and y must have one dtype, bf16, f16, f32 or f64, not {x.dtype} and {y.dtype}.")
    if x.shape != y.shape or x.numel() == 0:
        raise ValueError(
            f"x and y must have one shape and at least one entry, not {tuple(x.shape)} and {tuple(y.shape)}."
        )
    if x.numel() > MOST:
        raise ValueError(f"x and y may have {MOST} entries at most, not {x.numel()}.")
    extremes = torch.stack([extreme for v in (x, y) for extreme in v.aminmax()])  # four times as fast as isnan on all
    if extremes.isnan().any():
        raise ValueError("activations hold NaN; the model or its dtype is at fault.")
    if finite and extremes.isinf().any():
        raise ValueError(f"activations hold infinity, which only {', '.join(sorted(LABELLED))} take.")
    return x, y


def as_tensor(values: np.ndarray | torch.Tensor) -> torch.Tensor:
    """On the CPU, without gradient; arrays that torch cannot share (read-only, reversed, of foreign byte order) are copied."""
    if isinstance(values, np.ndarray):
        values = np.require(values, values.dtype.newbyteorder("="), ["C", "W"])
    return torch.as_tensor(values).detach().cpu()


def plug_in(x: torch.Tensor, y: torch.Tensor) -> float:
    """Every distinct value is a label (the released code of arXiv 2505.14009). Nats, ≥ 0."""
    return information(*pair_sums(labels(x), labels(y)))


def miller_madow(x: torch.Tensor, y: torch.Tensor) -> float:
    """Plug-in less its bias to first order, (K_xy − K_x − K_y + 1) / 2n (Miller 1955). Nats, may be negative."""
    return information(*pair_sums(labels(x), labels(y)), corrected=True)


def shuffle_corrected(x: torch.Tensor, y: torch.Tensor) -> float:
    """Plug-in less its mean over seeded shuffles of y's entries, which leave nothing but bias. Nats, may be negative."""
    a, b = labels(x), labels(y)
    rng = np.random.default_rng(0)
    nulls = [information(*pair_sums(a, rng.permutation(b))) for _ in range(SHUFFLES)]
    return information(*pair_sums(a, b)) - float(np.mean(nulls))


def equal_width(x: torch.Tensor, y: torch.Tensor) -> float:
    """Plug-in on BINS bins of equal width between each array's extremes. Nats."""
    return binned(x, y, lambda values: np.linspace(values.min(), values.max(), BINS + 1)[1:-1])


def equal_frequency(x: torch.Tensor, y: torch.Tensor) -> float:
    """Plug-in on BINS bins that hold equally many entries of each array. Nats."""
    return binned(x, y, lambda values: np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))


def binned(x: torch.Tensor, y: torch.Tensor, edges: Callable[[np.ndarray], np.ndarray]) -> float:
    flat = [v.double().numpy().ravel() for v in (x, y)]
    return information(*pair_sums(*(np.searchsorted(edges(v), v, side="right").astype(np.uint16) for v in flat)))


def kraskov(x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean over channels of the k-nearest-neighbour estimate (arXiv cond-mat/0305641; scikit-learn's), rows being samples. Nats.

    NaN where there are too few rows.
    """
    from sklearn.feature_selection import mutual_info_regression

    if len(x) <= NEIGHBOURS + 1:
        return float("nan")
    chosen = np.unique(np.linspace(0, x.shape[1] - 1, min(CHANNELS, x.shape[1])).astype(int))
    pairs = ((x[:, c].double().numpy(), y[:, c].double().numpy()) for c in chosen)
    return float(
        np.mean([mutual_info_regression(a[:, None], b, n_neighbors=NEIGHBOURS, random_state=0)[0] for a, b in pairs])
    )


def gaussian(x: torch.Tensor, y: torch.Tensor) -> float:
    """−½ Σ log(1 − ρ²) over canonical correlations ρ of the shrunk joint covariance: MI of Gaussian rows. Nats, sum over channels.

    Ledoit–Wolf shrinkage of the standardized joint covariance towards the identity (doi 10.1016/S0047-259X(03)00096-4); it scales the
    cross-covariance too, so that few rows give little information rather than all. Whitened in the space that the rows span: costs
    rows³, not channels³. Constant channels count for nothing. NaN where there are too few rows.
    """
    if len(x) < 3:
        return float("nan")
    parts = [standardized(v) for v in (x, y)]
    if not all(part.size for part in parts):
        return 0.0
    shrinkage = ledoit_wolf(np.hstack(parts))
    (left, f), (right, g) = (whitened(part, shrinkage) for part in parts)
    rho = (1 - shrinkage) * np.linalg.svd(f[:, None] * (left.T @ right) * g, compute_uv=False)
    return abs(float(0.5 * np.log1p(-np.square(np.clip(rho, 0, 1 - 1e-12))).sum()))


def centred(values: torch.Tensor) -> torch.Tensor:
    """Channels of mean 0, f64; constant ones are 0 to the last bit."""
    values = values.double()
    values = values - values[0]
    return values - values.mean(0)


def standardized(values: torch.Tensor) -> np.ndarray:
    """Channels of mean 0 and variance 1, without the constant ones."""
    values = centred(values).numpy()
    scale = values.std(axis=0)
    return values[:, scale > 0] / scale[scale > 0]


def ledoit_wolf(values: np.ndarray) -> float:
    """The weight of the identity in the shrunk covariance of standardized channels: scikit-learn's, at the cost of rows² · channels."""
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


def cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Linear centred kernel alignment of the rows (arXiv 1905.00414): a similarity in [0, 1], no MI. NaN for constant rows."""
    x, y = centred(x), centred(y)
    if len(x) <= x.shape[1]:
        k, m = x @ x.T, y @ y.T
        shared = (k * m).sum()
    else:  # the same sums in channels² numbers rather than rows²
        k, m = x.T @ x, y.T @ y
        shared = (x.T @ y).square().sum()
    norm = float(k.norm() * m.norm())
    return float(shared) / norm if norm else float("nan")


def cosine(x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean cosine of the rows: a similarity in [−1, 1], no MI. A row of zeros counts 0."""
    return float(torch.nn.functional.cosine_similarity(x.double(), y.double(), dim=-1, eps=1e-300).mean())


ESTIMATORS = {
    "plug-in": plug_in, "miller-madow": miller_madow, "shuffle-corrected": shuffle_corrected, "equal-width": equal_width,
    "equal-frequency": equal_frequency, "kraskov": kraskov, "gaussian": gaussian, "cka": cka, "cosine": cosine,
}  # fmt: skip
ADDITIVE = {"plug-in", "miller-madow"}  # follow from counts alone, so they can be had from parts: see PairCounts
LABELLED = {*ADDITIVE, "shuffle-corrected"}  # follow from which values are equal


def labels(values: torch.Tensor) -> np.ndarray:
    """Label of each value, flat: bf16 and f16 by their 65,536 codes (uint16), others by rank (int64)."""
    values = values.flatten()
    if values.dtype in CODED:
        return (values + 0.0).view(torch.int16).numpy().view(np.uint16)  # + 0.0 turns −0 into +0
    return np.unique(values.numpy() + 0.0, return_inverse=True)[1]


def information(n: int, pairs: float, singles: float, surplus: int, corrected: bool = False) -> float:
    """log n + (Σ c_xy log c_xy − Σ c_x log c_x − Σ c_y log c_y) / n; corrected: less Miller and Madow's bias.

    surplus: K_xy − K_x − K_y. The plain value is never negative; rounding may be.
    """
    value = float(np.log(n) + (pairs - singles) / n)
    return value - (surplus + 1) / (2 * n) if corrected else max(0.0, value)


class PairCounts:
    """Counts of label pairs gathered part by part; memory goes with the distinct pairs, not with the entries.

    For logits (tokens × 150,000), which need not be held at once.
    """

    def __init__(self) -> None:
        self.keys, self.counts, self.dtype = np.zeros(0, np.uint32), np.zeros(0, np.int64), None

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Count a part: same shape; bf16 or f16, all parts alike. ValueError as in :func:`mutual_information`."""
        x, y = checked(x, y)
        self.dtype = self.dtype or x.dtype
        if x.dtype not in CODED or x.dtype != self.dtype:
            raise ValueError(f"parts must all be bf16 or all f16, not {self.dtype} and {x.dtype}.")
        a, b = labels(x), labels(y)
        found = np.unique((a.astype(np.uint32) << 16) | b, return_counts=True)
        keys, counts = (np.concatenate(pair) for pair in zip((self.keys, self.counts), found, strict=True))
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order].astype(np.int64), prepend=-1))
        self.keys, self.counts = keys[order][starts], np.add.reduceat(counts[order], starts)

    def information(self, estimator: str) -> float:
        """The MI of all parts together, in nats; for the estimators in ADDITIVE. ValueError for others, and without a part."""
        if estimator not in ADDITIVE:
            raise unknown("estimator from parts", estimator, ADDITIVE)
        if not self.keys.size:
            raise ValueError("no pairs were counted.")
        sides = [np.bincount(side, self.counts) for side in (self.keys >> 16, self.keys & 0xFFFF)]
        pairs, *singles = (float(np.sum(c * np.log(c))) for c in (c[c > 0] for c in (self.counts, *sides)))
        surplus = len(self.keys) - sum(int((side > 0).sum()) for side in sides)
        return information(int(self.counts.sum()), pairs, sum(singles), surplus, estimator == "miller-madow")


def pair_sums(a: np.ndarray, b: np.ndarray) -> tuple[int, float, float, int]:
    """Of two label arrays: n, Σ c log c over pairs and over single labels, and K_xy − K_x − K_y. The order of entries changes no bit."""
    counts = label_counts(a, b, int(a.max()) + 1, int(b.max()) + 1)
    visits = pair_visits(a, b, counts[0], len(counts[1]))
    singles = sum(float(np.sum(c * np.log(c))) for c in (c[c > 0] for c in counts))
    c_log_c = (c := np.arange(len(visits) + 1)) * np.log(np.maximum(c, 1))
    return (
        len(a),
        float(np.sum(visits * np.diff(c_log_c))),
        singles,
        int(visits[0]) - sum(int((c > 0).sum()) for c in counts),
    )


@njit(nogil=True, cache=True)
def label_counts(a, b, width_a, width_b):
    """Counts of the labels of each side; ``np.bincount`` would copy them to int64 first."""
    left, right = np.zeros(width_a, np.int64), np.zeros(width_b, np.int64)
    for i in range(a.size):
        left[a[i]] += 1
        right[b[i]] += 1
    return left, right


@njit(nogil=True, cache=True)
def pair_visits(a, b, counts, width):
    """How often a pair was met that had been met 0, 1, 2 … times before.

    Sorts b by a (counting sort), then counts it within each group in a table that is cleared by what was touched.
    """
    ends = np.zeros(counts.size + 1, np.int64)
    ends[1:] = np.cumsum(counts)
    grouped, place = np.empty_like(b), ends[:-1].copy()
    for i in range(a.size):
        grouped[place[a[i]]] = b[i]
        place[a[i]] += 1
    table, visits = np.zeros(width, np.int32), np.zeros(counts.max(), np.int64)
    for group in range(counts.size):
        part = grouped[ends[group] : ends[group + 1]]
        for label in part:
            visits[table[label]] += 1
            table[label] += 1
        for label in part:
            table[label] = 0
    return visits
