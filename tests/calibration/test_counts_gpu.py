"""What a GPU computes in calibration: counts by sorting, estimates of arrays that lie there, many at once."""

from collections import Counter

import numpy as np
import pytest
import torch

import acm
from abacus import CHECKPOINTS
from acm.calibration import layerwise, lockstep
from acm.calibration.arrays import labels, permuted
from acm.calibration.controls import Sides, check_norms, measure
from acm.calibration.counts import pair_sums
from acm.calibration.counts_gpu import distinct_pairs, sums_on_gpu
from acm.calibration.registry import CONTROLS, ESTIMATORS
from acm.calibration.together import LABELS, batches, measure_together
from acm.errors import UserError

BASE, FINETUNED = CHECKPOINTS / "abacus-fast", {"slow": CHECKPOINTS / "abacus-slow"}
TEXTS = ["17+5=22", "question: leo has 49 pears. he gives away 29. how many pears are left? answer:", "3*4="]
needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]


def arrays(dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((40, 30), generator=generator)
    y = x.round(decimals=1) + 0.1 * torch.randn((40, 30), generator=generator).round(decimals=1)
    x[0], x[1], y[0] = 0.0, -0.0, -0.0  # one value
    return x.to(dtype), y.to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_sums_by_sorting_are_those_of_the_loops(dtype):
    a, b = map(labels, arrays(dtype))
    small = dtype in (torch.bfloat16, torch.float16)
    on_gpu = [torch.from_numpy(side.astype(np.int32 if small else np.int64)) for side in (a, b)]
    expected = pair_sums(a, b)
    found = type(expected)(*sums_on_gpu(*on_gpu))
    assert (found.entries, found.surplus) == (expected.entries, expected.surplus)
    assert found.pairs == pytest.approx(expected.pairs, rel=1e-13)
    assert found.singles == pytest.approx(expected.singles, rel=1e-13)
    assert found.information == pytest.approx(expected.information, abs=1e-12)


def test_large_labels_of_16_bits_stay_apart():
    a, b = torch.tensor([65535, 65535, 32768, 0, 0], dtype=torch.int32), torch.tensor([65535, 0, 0, 32768, 32768]).int()
    keys, counts, _ = distinct_pairs(a, b)
    found = {(key >> 16 & 0xFFFF, key & 0xFFFF): n for key, n in zip(keys.tolist(), counts.tolist(), strict=True)}
    assert found == Counter(zip(a.tolist(), b.tolist(), strict=True))


def test_an_order_depends_on_the_number_of_labels_alone():
    given = np.arange(50, dtype=np.uint16)[::-1].copy()
    first = permuted(given, np.random.default_rng(3))
    second = permuted(torch.from_numpy(given.astype(np.int32)), np.random.default_rng(3))
    assert first.tolist() == second.tolist() != given.tolist()


@pytest.mark.parametrize("most", [1000, 10_000, 10**9])
@pytest.mark.parametrize("estimators", [("plug-in", "miller-madow"), ("plug-in", "cosine")])
def test_measuring_many_together_gives_the_same(most, estimators, monkeypatch):
    given = {"controls": tuple(CONTROLS), "estimators": estimators}
    expected = acm.calibrate(BASE, FINETUNED, TEXTS, **given)
    monkeypatch.setattr(lockstep.Walk, "together", most)  # as on a GPU: the next layer's weights come ahead too
    found = acm.calibrate(BASE, FINETUNED, TEXTS, threads=2, **given)
    numbers = ["value", "norm_base", "norm_finetuned"]
    assert found.drop(columns=numbers).equals(expected.drop(columns=numbers))
    assert found[numbers].to_numpy() == pytest.approx(expected[numbers].to_numpy(), rel=1e-12, abs=1e-12)


def test_an_infinite_activation_among_many_is_named():
    x, y = arrays(torch.bfloat16)
    y[3, 4] = float("inf")
    good, bad = measure_together([(x, x), (x, y)], ["plug-in"])
    check_norms(*good.norms)
    with pytest.raises(ValueError, match="NaN or infinity"):
        check_norms(*bad.norms)


def test_a_batch_holds_one_width_and_no_more_than_fits():
    cost = 10 * 30 + LABELS
    shapes = [(10, 30)] * 5 + [(10, 40), (10, 30)]
    assert batches(shapes, 2 * cost) == [[0, 1], [2, 3], [4], [5], [6]]
    assert batches(shapes, 1) == [[0], [1], [2], [3], [4], [5], [6]] and batches([]) == []


@pytest.mark.parametrize("estimators", [("plug-in",), ("plug-in", "cosine")])
def test_an_overflow_is_one_sentence_whatever_is_estimated(estimators, monkeypatch):
    monkeypatch.setattr(lockstep.Walk, "together", 10**9)
    monkeypatch.setattr(layerwise, "to_bf16", lambda values: values.detach().to(torch.bfloat16) * torch.inf)
    with pytest.raises(UserError, match=r"slow, layer embed, text 1: activations hold NaN or infinity"):
        acm.calibrate(BASE, FINETUNED, TEXTS[:1], controls=("none",), estimators=estimators)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [pytest.param(d, marks=needs_gpu) for d in (torch.bfloat16, torch.float32)])
def test_an_estimate_is_the_same_on_a_gpu(estimator, dtype):
    x, y = arrays(dtype)
    expected = acm.mutual_information(x, y, estimator)
    assert acm.mutual_information(x.cuda(), y.cuda(), estimator) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("control", [pytest.param(c, marks=needs_gpu) for c in CONTROLS])
@pytest.mark.parametrize("most", [100, 1 << 28])
def test_a_control_is_the_same_on_a_gpu_in_chunks_or_whole(control, most, monkeypatch):
    monkeypatch.setattr("acm.calibration.controls.GPU_ENTRIES", most)
    x, y = arrays(torch.bfloat16)
    names = ("plug-in", "miller-madow")
    expected = measure(control, Sides(x, y), "key", names, entries=100)
    found = measure(control, Sides(x.cuda(), y.cuda()), "key", names, entries=100)
    assert found.values == pytest.approx(expected.values, abs=1e-9)
    assert found.norms == pytest.approx(expected.norms, rel=1e-9)


@pytest.mark.parametrize("dtype", [pytest.param(d, marks=needs_gpu) for d in ("float32", "bfloat16")])
def test_coefficients_hardly_depend_on_the_device(dtype):
    found = {}
    for device in ("cpu", "cuda"):
        table = acm.calibrate(BASE, FINETUNED, TEXTS, device=device, dtype=dtype)
        mi = table[table["control"] == "none"].pivot_table("value", "layer", "sample", sort=False)
        found[device] = acm.layer_coefficients(mi.to_numpy())
    assert found["cuda"] == pytest.approx(found["cpu"], abs=2e-3 if dtype == "float32" else 2e-2)
