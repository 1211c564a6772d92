"""Checkers of lesson 3: entropy, mutual information and its estimates."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import mutual_info_score

from acm.calibration.information import mutual_information
from acm.course import Answer, exercise, need, need_not, read, same


def shares(labels: np.ndarray) -> np.ndarray:
    """The share of each label that occurs."""
    return np.unique(labels, return_counts=True)[1] / len(labels)


def entropy_of(labels: np.ndarray) -> float:
    """Entropy of the labels, nats."""
    p = shares(labels)
    return float(-(p * np.log(p)).sum())


def dice(seed: int, n: int, sides: int = 6, copied: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Two label arrays, a share of the second copied from the first."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(sides, size=n), rng.integers(sides + 1, size=n)
    return a, np.where(rng.random(n) < copied, a, b)


@exercise("3.1")
def entropy_of_a_sample(entropy: Answer) -> str:
    labels = np.repeat([-3, 0, 5, 9], [1, 2, 5, 12])
    p = shares(labels)
    found = float(read(entropy(labels.copy()), "The entropy"))
    expected = entropy_of(labels)
    n = len(labels)
    counted = n * (expected - np.log(n))  # −Σ c ln c
    need(not np.isclose(found, counted), "These are counts, not shares: divide by their sum.")
    need(not np.isclose(found, -expected), "The sign is wrong: an entropy is never negative.")
    need(not np.isclose(found, expected / np.log(2)), "This is in bits; the natural logarithm gives nats.")
    need(not np.isclose(found, -np.log(p).sum()), "Each ln p needs its weight p.")
    need(not np.isclose(found, np.log(4)), "This is ln K, right only if all labels are equally frequent.")
    otherwise = f"Of 1, 2, 5 and 12 labels of a kind the entropy is {expected:.3f} nats, and yours gives {found:.3f}."
    same(found, expected, "the entropy", otherwise)
    same(entropy(np.zeros(7, int)), 0.0, "the entropy", "A label that is certain has entropy 0.")
    return "0 for certainty, ln K for K equal chances."


@exercise("3.2")
def information_of_a_sample(information: Answer) -> str:
    a, b = dice(0, 400)
    found = float(read(information(a.copy(), b.copy()), "The MI"))
    expected = mutual_info_score(a, b)
    together, apart = entropy_of(a * 10 + b), entropy_of(a) + entropy_of(b)
    joined = "The pair is more than both arrays joined end to end; it has as many entries as each."
    wide = "Two different pairs get one number: b takes the values 0 to b.max(), so b.max() + 1 of them."
    mistakes = {
        wide: apart - entropy_of(a * b.max() + b),
        "A product does not tell pairs apart.": apart - entropy_of(a * b),
        "The sign is wrong: MI is never negative.": -expected,
        "This is the entropy of the pair; MI is H(X) + H(Y) less that.": together,
        "This is H(X) + H(Y); the entropy of the pair is to be subtracted.": apart,
        "Different pairs get one number: a sum of labels does not tell pairs apart.": apart - entropy_of(a + b),
        joined: apart - entropy_of(np.concatenate([a, b])),
        "This is in bits; the natural logarithm gives nats.": expected / np.log(2),
    }
    need_not(found, mistakes)
    counts = np.unique(np.stack([a, b]), return_counts=True)[1]
    single = [apart + (p * np.log(p)).sum() for p in (counts / len(a), counts / 2)]
    otherwise = "Each pair must be one label: `np.unique` without `axis` takes single numbers."
    need(not np.isclose(found, single).any(), otherwise)
    same(found, expected, "the MI", f"scikit-learn gives {expected:.4f} nats, and yours {found:.4f}.")
    same(information(a, a), entropy_of(a), "the MI", "I(X; X) should be H(X).")
    c, d = dice(1, 300, 40)
    otherwise = "With many labels two different pairs get the same number."
    same(information(c, d), mutual_info_score(c, d), "the MI", otherwise)
    return "scikit-learn agrees."


@exercise("3.3")
def enough_samples(samples_needed: Answer) -> str:
    found = float(read(samples_needed(20, 60, 0.01), "The number of samples"))
    mistakes = {
        "This takes K_x · K_y; the formula has (K_x − 1)(K_y − 1).": np.ceil(20 * 60 / 0.02),
        "The 2 of 2n is missing.": np.ceil(19 * 59 / 0.01),
        "The 2 belongs in the denominator.": np.ceil(2 * 19 * 59 / 0.01),
    }
    need_not(found, mistakes)
    need(found == 56_050, f"For 20 and 60 labels and a bias of 0.01 nats n should be 56050, and is {found:g}.")
    otherwise = "Round up: with fewer samples the bias is above what was asked."
    need(float(read(samples_needed(6, 6, 0.011), "The number of samples")) == 1137, otherwise)
    even = float(read(samples_needed(11, 11, 0.5), "The number of samples"))
    need(even == 100, "Where the division comes out even, no sample is to be added.")
    return "pairs of labels cost samples."


@exercise("3.4")
def miller_and_madow(corrected: Answer) -> str:
    a, b = dice(2, 120, 15)
    a = a * 3  # labels with gaps
    plain, expected = mutual_info_score(a, b), mutual_information(a.astype(float), b.astype(float), "miller-madow")
    found = float(read(corrected(plain, a.copy(), b.copy()), "The corrected MI"))
    k = [len(np.unique(v)) for v in (a, b, a * 100 + b)]
    largest = "It takes the largest label for the number of labels; count those that occur."
    mistakes = {
        "The sign is turned round: the bias is positive, so it is subtracted.": 2 * plain - expected,
        "The + 1 is missing: each of three entropies has K − 1.": plain - (k[2] - k[0] - k[1]) / 240,
        "It divides by n; the bias is over 2n.": plain - (k[2] - k[0] - k[1] + 1) / 120,
        "It counts all pairs that are possible; only those that occur count.": plain - (k[0] - 1) * (k[1] - 1) / 240,
        largest: plain - (k[2] - a.max() - b.max() - 1) / 240,
        "It is cut off at 0; leave negative values, or the mean is biased again.": 0.0 if expected < 0 else np.nan,
    }
    need_not(found, mistakes)
    same(found, expected, "the corrected MI", f"Miller and Madow give {expected:.4f} nats here, and yours {found:.4f}.")
    u, v = np.arange(24) // 6, np.arange(24) % 6  # every pair once: plug-in 0
    otherwise = "Where the correction exceeds the plug-in MI the result is negative; leave it so."
    same(corrected(0.0, u, v), -15 / 48, "the corrected MI", otherwise)
    return "to first order the bias is gone; it needs pairs that repeat."


@exercise("3.5")
def shuffled_null(null: Answer) -> str:
    a, b = dice(3, 200)
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def measure(x: np.ndarray, y: np.ndarray) -> float:
        seen.append((np.array(x), np.array(y)))
        return mutual_info_score(x, y)

    given = a.copy(), b.copy()
    found = read(null(measure, *given, 30, 5), "The null", None)
    need(np.array_equal(given[1], b), "Your function shuffled `b` itself; shuffle a copy.")
    need(np.array_equal(given[0], a), "Your function changed `a`.")
    need(found.shape == (30,), f"There should be 30 values, one for each shuffle; the shape is {found.shape}.")
    otherwise = "A shuffled array holds each label as often as before: draw without replacement."
    need(all(np.array_equal(np.sort(y), np.sort(b)) for _, y in seen), otherwise)
    real = mutual_info_score(a, b)
    otherwise = "All values are that of the pair itself: shuffle one side, not both in the same way."
    need(not np.allclose(found, real), otherwise)
    need(len(np.unique(found.round(12))) > 1, "All values are equal: make a new shuffle for each, from one generator.")
    need(found.mean() < real / 2, "The null is as high as the pair itself: matching entries still go together.")
    otherwise = "Two calls with one seed differ: make the generator from `seed` inside the function."
    need(np.allclose(found, null(measure, a, b, 30, 5)), otherwise)
    need(not np.allclose(found, null(measure, a, b, 30, 6)), "Every seed gives the same shuffles: use `seed`.")
    return "what is left after shuffling is bias."


@exercise("3.6")
def mi_without_pairing(without_pairing: Answer) -> str:
    x, y = torch.randn((2, 900), generator=torch.Generator().manual_seed(0)).bfloat16()
    a, b = x.double().numpy(), y.double().numpy()
    found = float(read(without_pairing(a.copy(), b.copy()), "The value"))
    hx, hy, log = entropy_of(a), entropy_of(b), np.log(900)
    mistakes = {
        "ln n is to be subtracted.": hx + hy + log,
        "ln n is missing: it is the entropy of the pairs where all are distinct.": hx + hy,
        "n is the number of entries, not of distinct values.": hx + hy - np.log(len(np.unique(a))),
    }
    need_not(found, mistakes)
    others = [hx + hy - np.log2(900), hx + hy - np.log10(900), *((hx + hy - log) / np.log([2, 10]))]
    need(not np.isclose(found, others).any(), "log10 or log2 took the place of the natural logarithm.")
    expected = mutual_information(x, y)
    otherwise = f"The plug-in MI of this pair, all pairs distinct, is {expected:.4f} nats, and yours gives {found:.4f}."
    same(found, hx + hy - log, "the value", otherwise)
    shuffled = np.random.default_rng(0).permutation(b)
    same(without_pairing(a, shuffled), found, "the value", "Shuffling one side should change nothing.", atol=1e-9)
    return f"plug-in MI gives {expected:.3f} nats here, and so do you, without a look at the pairs."


@exercise("3.7")
def explained_by_length(explained: Answer) -> str:
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, 200, size=80)
    values = 9 - 0.8 * np.log(tokens) + 0.1 * rng.standard_normal(80)
    pair = explained(tokens.copy(), values.copy())
    need(isinstance(pair, tuple | list | np.ndarray) and len(pair) == 2, "Return a pair, slope and R².")
    slope, r2 = (float(read(v, what)) for v, what in zip(pair, ("The slope", "R²"), strict=True))
    x = np.log(tokens)
    expected = np.polyfit(x, values, 1)
    r = np.corrcoef(x, values)[0, 1]
    need(not np.isclose(slope, r**2), "Slope comes first, R² second.")
    need(not np.isclose(slope, expected[1]), "This is the intercept; np.polyfit gives the slope first.")
    otherwise = "The line is against the tokens; take their logarithm."
    need(not np.isclose(slope, np.polyfit(tokens, values, 1)[0]), otherwise)
    need(not np.isclose(slope, expected[0] * np.log(10)), "The logarithm is to base 10; take the natural one.")
    otherwise = "The axes are exchanged: MI goes up, ln tokens to the right."
    need(not np.isclose(slope, np.polyfit(values, x, 1)[0]), otherwise)
    same(slope, expected[0], "the slope", f"The slope should be {expected[0]:.3f} here, and is {slope:.3f}.")
    need(not np.isclose(r2, r), "This is the correlation; R² is its square.")
    otherwise = "R² is that of the line against the tokens; take their logarithm."
    need(not np.isclose(r2, np.corrcoef(tokens, values)[0, 1] ** 2), otherwise)
    need(not np.isclose(r2, 100 * r**2), "R² is a share, not percent.")
    same(r2, r**2, "R²", f"R² should be {r**2:.3f} here, and is {r2:.3f}.")
    return "a straight line in ln tokens, and what it explains."
