"""The estimators that look at more than labels, against scikit-learn, NumPy and closed forms."""

import numpy as np
import pytest
import torch
from helpers_calibration import DTYPES, normal, pair
from sklearn.covariance import ledoit_wolf
from sklearn.feature_selection import mutual_info_regression
from sklearn.metrics import mutual_info_score

from acm.calibration import information
from acm.calibration.information import mutual_information
from acm.calibration.registry import BINS

# ---- histograms


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_equal_width_is_that_of_numpy_histograms(seed, dtype):
    x, y = (v.astype(dtype) for v in normal(seed, 300, 3, rho=0.7))
    table = np.histogram2d(x.ravel().astype(float), y.ravel().astype(float), bins=BINS)[0]
    assert mutual_information(x, y, "equal-width") == pytest.approx(
        mutual_info_score(None, None, contingency=table), abs=1e-9
    )


@pytest.mark.parametrize("seed", range(5))
def test_equal_frequency_is_that_of_numpy_histograms(seed):
    x, y = normal(seed, 300, 3, rho=0.7)
    edges = [np.quantile(v, np.linspace(0, 1, BINS + 1)) for v in (x, y)]
    table = np.histogram2d(x.ravel(), y.ravel(), bins=edges)[0]
    assert mutual_information(x, y, "equal-frequency") == pytest.approx(
        mutual_info_score(None, None, contingency=table), abs=1e-9
    )


@pytest.mark.parametrize("estimator", ["equal-width", "equal-frequency"])
def test_histograms_fill_all_their_bins(estimator):
    x = torch.arange(BINS * 100.0)
    assert mutual_information(x, x, estimator) == pytest.approx(np.log(BINS), abs=1e-12)
    assert mutual_information(x, -x, estimator) == pytest.approx(np.log(BINS), abs=1e-12)


@pytest.mark.parametrize("estimator", ["equal-width", "equal-frequency"])
@pytest.mark.filterwarnings("error")
def test_histograms_of_constant_arrays_share_nothing(estimator):
    x, _ = pair(5, (7, 11), torch.bfloat16)
    constant = torch.full_like(x, -0.3)
    assert mutual_information(constant, x, estimator) == mutual_information(constant, constant, estimator) == 0


def test_equal_frequency_depends_on_ranks_alone():
    x, y = normal(8, 500, 2, rho=0.5)
    assert mutual_information(np.exp(x), y**3, "equal-frequency") == pytest.approx(
        mutual_information(x, y, "equal-frequency"), abs=0.02
    )


# ---- Kraskov


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_kraskov_is_the_mean_of_scikit_learn_over_channels(dtype):
    x, y = (torch.tensor(v).to(dtype) for v in normal(0, 200, 4, rho=0.8))
    a, b = x.double().numpy(), y.double().numpy()
    each = [mutual_info_regression(a[:, [c]], b[:, c], n_neighbors=3, random_state=0)[0] for c in range(4)]
    assert mutual_information(x, y, "kraskov") == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_kraskov_of_normal_numbers(rho):
    x, y = normal(1, 1500, 4, rho=rho)
    assert mutual_information(x, y, "kraskov") == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.04)


def test_kraskov_looks_at_channels_evenly_spread():
    x, y = normal(2, 30, 63, rho=0.8)
    expected = mutual_information(x[:, ::2], y[:, ::2], "kraskov")
    x[:, 1::2], y[:, 1::2] = 0, 5
    assert mutual_information(x, y, "kraskov") == expected


# ---- Gaussian


def log_det(x, y):
    """½ (log det S_x + log det S_y − log det S) of scikit-learn's shrunk covariance, without constant channels."""
    sides = [v[:, v.std(0) > 1e-9] for v in (x, y)]
    sides = [(v - v.mean(0)) / v.std(0) for v in sides]
    joint, d = ledoit_wolf(np.hstack(sides), assume_centered=True)[0], sides[0].shape[1]
    return 0.5 * sum(
        sign * np.linalg.slogdet(s)[1] for sign, s in ((1, joint[:d, :d]), (1, joint[d:, d:]), (-1, joint))
    )


@pytest.mark.parametrize("shape", [(3, 1), (3, 7), (10, 10), (20, 60), (60, 20), (500, 1), (4, 100)])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.999])
def test_gaussian_is_the_log_determinant_of_the_shrunk_covariance(shape, rho):
    x, y = normal(sum(shape), *shape, rho=rho)
    mixing = np.random.default_rng(0).standard_normal((shape[1], shape[1]))
    assert mutual_information(x, y, "gaussian") == pytest.approx(log_det(x, y), rel=1e-8, abs=1e-9)
    assert mutual_information(x @ mixing, y @ mixing, "gaussian") == pytest.approx(
        log_det(x @ mixing, y @ mixing), rel=1e-8, abs=1e-9
    )


@pytest.mark.parametrize("shape", [(12, 30), (100, 6)])
def test_gaussian_leaves_constant_channels_out(shape):
    x, y = normal(1, *shape, rho=0.7)
    expected = mutual_information(x, y, "gaussian")
    for constant in (0.0, 0.1, 1e6):
        column = np.full((shape[0], 2), constant)
        found = mutual_information(np.hstack([column, x]), np.hstack([y, column]), "gaussian")
        assert found == pytest.approx(expected, rel=1e-9)
        assert found == pytest.approx(log_det(np.hstack([column, x]), np.hstack([y, column])), rel=1e-8)
    assert mutual_information(np.full(shape, 0.1), y, "gaussian") == 0
    assert mutual_information(np.full(shape, 0.1), np.full(shape, 0.1), "gaussian") == 0


@pytest.mark.parametrize("rho", [0.0, 0.3, -0.6, 0.95])
def test_gaussian_of_many_normal_rows(rho):
    x, y = normal(5, 20_000, 3, rho=rho)
    assert mutual_information(x, y, "gaussian") == pytest.approx(-1.5 * np.log(1 - rho**2), abs=0.04)
    assert mutual_information(x[:, 0], y[:, 0], "gaussian") == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.02)


def test_gaussian_does_not_depend_on_units():
    x, y = normal(6, 30, 5, rho=0.5)
    scale = 10.0 ** np.arange(-8, 2, 2)
    found = mutual_information(x * scale + 3 * scale, -7 * y + 1, "gaussian")
    assert found == pytest.approx(mutual_information(x, y, "gaussian"), rel=1e-8)


def test_gaussian_counts_a_small_channel_beside_a_huge_one():
    x, y = normal(7, 400, 1, rho=0.8)
    a, b = normal(8, 400, 1)
    found, expected = (
        mutual_information(np.hstack([x, scale * a]), np.hstack([y, scale * b]), "gaussian") for scale in (1e14, 1)
    )
    assert found == pytest.approx(expected, rel=1e-9)
    assert found > 0.3


def test_gaussian_counts_channels_that_say_the_same_once():
    x = torch.tensor([1.0, -1.0] * 10)[:, None]
    y = torch.tensor([1.0, 1.0, -1.0, -1.0] * 5)[:, None]
    once = mutual_information(x, x, "gaussian")
    assert once > 10
    assert mutual_information(x.repeat(1, 2), x.repeat(1, 2), "gaussian") == pytest.approx(once, rel=1e-6)
    assert mutual_information(x.repeat(1, 2), y.repeat(1, 2), "gaussian") == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (30, 30), (2000, 2)])
def test_shrinkage_is_that_of_scikit_learn(shape):
    x = np.random.default_rng(1).standard_normal(shape) @ np.random.default_rng(2).standard_normal((shape[1], shape[1]))
    x = information.standardized(torch.tensor(x))
    assert information.ledoit_wolf(x) == pytest.approx(ledoit_wolf(x, assume_centered=True)[1], rel=1e-9)


# ---- similarities


@pytest.mark.parametrize("shape", [(5, 30), (30, 5), (12, 12), (50, 1)])
def test_cka_is_the_ratio_of_hsic(shape):
    x, y = normal(1, *shape, rho=0.4)
    h = np.eye(shape[0]) - 1 / shape[0]

    def hsic(a, b):
        return np.trace(h @ a @ a.T @ h @ b @ b.T)

    assert mutual_information(x, y, "cka") == pytest.approx(hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)), rel=1e-10)


@pytest.mark.parametrize("shape", [(20, 6), (6, 20)])
def test_cka_is_invariant_to_rotation_scale_and_shift(shape):
    x, y = normal(2, *shape, rho=0.4)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((shape[1], shape[1])))[0]
    expected = mutual_information(x, y, "cka")
    assert mutual_information(x @ rotation * 3 + 1, -0.01 * y, "cka") == pytest.approx(expected, rel=1e-9)
    assert mutual_information(x, 2 * x @ rotation, "cka") == pytest.approx(1, rel=1e-9)
    assert 0 < expected < 1


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_cka_of_constant_rows_is_nan(dtype):
    x, y = pair(3, (49, 4), dtype)
    assert np.isnan(mutual_information(torch.full_like(x, 0.1), y, "cka"))
    assert np.isnan(mutual_information(x, y[:1].expand(49, 4), "cka"))


def test_cka_of_many_rows_holds_no_square_of_them():
    x, y = normal(4, 200_000, rho=0.6)
    assert mutual_information(x, y, "cka") == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-9)


@pytest.mark.parametrize("scale", [1, 1e-12, 1e12])
def test_cosine_is_the_mean_over_rows(scale):
    x, y = normal(5, 20, 6, rho=0.4)
    each = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert mutual_information(scale * x, scale * y, "cosine") == pytest.approx(each.mean(), rel=1e-12)
    assert mutual_information(scale * x, -scale * x, "cosine") == pytest.approx(-1, rel=1e-12)


def test_cosine_of_a_row_of_zeros_counts_nothing():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert mutual_information(x, x, "cosine") == pytest.approx(0.5, abs=1e-12)
