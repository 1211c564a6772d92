"""The fused kernels against the plain torch functions and torch's own rounding: the same bytes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from acm.merging import fused
from acm.merging.magnitudes import trim_bounds
from acm.merging.methods import FUNCTIONS, PREPARE, merge_tensor
from acm.merging.primitives import count_magnitudes, narrow, widen
from acm.merging.registry import METHODS
from acm.merging.settings import Settings, key_of

FUSED = [name for name, row in METHODS.items() if row.kernel]

SIZES = (1, 5, 4095, 4096, 4097, 100_000)
STORED = {"bfloat16": np.uint16, "float32": np.float32}
KINDS = {
    "bfloat16": ["bfloat16"] * 4,
    "float32": ["float32"] * 4,
    "mixed": ["bfloat16", "float32", "float16", "bfloat16"],
}
# Zero, denormals, 1, small and large numbers, as the upper halves of float32.
ODD = np.array([0, 1, 0x7F, 0x80, 0x3F80, 0x0400, 0x7000, 0x4B80], np.uint32) << 16
SETTINGS = {
    "plain": {},
    "normalized": {"divisors": [1.0] * 3, "scaling": 0.7, "normalize": True, "election": "unweighted",
                   "density": [0.9, 0.05, 1.0]},
    "by weight": {"scaling": -1.3, "normalize": True, "rescale": False, "density": [0.5, 0.3, 1e-4],
                  "gamma": [0.2, 0.0, 0.01]},
    "opposite": {"coefficients": [0.4, -0.4, 0.0], "normalize": True, "density": [1.0] * 3},
    "sparse": {"scaling": 1.5, "election": "unweighted", "density": [1e-3, 0.4, 0.6], "gamma": [0.3, 0.7, 0.0]},
}  # fmt: skip


def bits(values):
    """The bit patterns of stored numbers."""
    return values.view({2: np.uint16, 4: np.uint32}[values.itemsize])


def data(size, dtypes, seed=0):
    """A base and models near it, as stored, with signed zeros, denormals, large numbers and task vectors of 0."""
    rng, signs = np.random.default_rng(seed), np.array([0, 1 << 31], np.uint32)
    base = rng.normal(0, 0.05, size).astype(np.float32)
    found = []
    for i, dtype in enumerate(dtypes):
        values = base + np.float32(0 if i == 0 else 0.01) * rng.normal(0, 1, size).astype(np.float32)
        same, odd = rng.random(size) < 0.1, rng.random(size) < 0.1
        values[same] = base[same]
        values[odd] = (rng.choice(ODD, odd.sum()) | rng.choice(signs, odd.sum())).view(np.float32)
        if dtype == "float32":
            values[odd] = (values[odd].view(np.uint32) | rng.integers(0, 2, odd.sum(), np.uint32)).view(np.float32)
        limit = 6e4 if dtype == "float16" else float("inf")
        found.append(narrow(torch.from_numpy(values).clamp(-limit, limit), dtype))
    return found


def settings_for(method, models, size, **options):
    """Settings of a flat tensor. options: fields, lists of three."""
    defaults = {"coefficients": [0.7, -0.4, 1.1], "density": [0.3, 0.6, 0.9], "gamma": [0.05] * 3, "rescale": True,
                "keys": [key_of(0, "tensor", name) for name in "abc"]}  # fmt: skip
    found = defaults | options
    found.setdefault("divisors", found["coefficients"])
    if "gamma" not in METHODS[method].parameters:
        del found["gamma"]
    cut = {name: value[:models] if isinstance(value, list) else value for name, value in found.items()}
    return Settings(shape=(size,), **cut)


def prepared(method, stored, s):
    """The settings with what the engine finds first: through the kernels where they can."""
    if METHODS[method].trims:
        count = lambda buckets: fused.count_magnitudes([stored], len(stored) - 1, buckets)  # noqa: E731
        return replace(s, prepared=trim_bounds(s, stored[0].size, count))
    if method in PREPARE:
        base, *models = map(widen, stored)
        return replace(s, prepared=PREPARE[method](lambda: [(base, models)], s))
    return s


def by_kernel(method, stored, s, dtype):
    """The bits that the kernels make."""
    out, bad = np.empty(stored[0].size, STORED[dtype]), np.zeros(len(stored), np.int64)
    fused.run(method, stored, prepared(method, stored, s), out, bad)
    assert not bad.any()
    return bits(out)


def by_torch(method, stored, s, dtype):
    """The bits that plain torch makes."""
    base, *models = map(widen, stored)
    return bits(narrow(merge_tensor(method, base, models, s), dtype))


CASES = [(name, count) for name in FUSED for count in (1, 2, 3) if count <= (METHODS[name].models[1] or count)]


def test_the_kernels_work_on_flat_chunks():
    assert FUSED and {METHODS[name].chunks for name in FUSED} == {"flat"}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("method, models", CASES)
def test_kernels_give_the_bytes_of_torch(method, models, kind):
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    for size in SIZES:
        stored = data(size, KINDS[kind][: models + 1], seed=size)
        for name, options in SETTINGS.items():
            if METHODS[method].average and name == "opposite":
                options = options | {"normalize": False}
            s = settings_for(method, models, size, **options)
            found, expected = by_kernel(method, stored, s, dtype), by_torch(method, stored, s, dtype)
            assert np.array_equal(found, expected), (size, name, np.flatnonzero(found != expected)[:5])


@pytest.mark.parametrize("method", FUSED)
def test_float32_sources_narrow_to_the_bytes_of_torch(method):
    models = min(2, METHODS[method].models[1] or 2)
    stored = data(10_000, KINDS["float32"][: models + 1])
    s = settings_for(method, models, 10_000, **SETTINGS["normalized"])
    assert np.array_equal(by_kernel(method, stored, s, "bfloat16"), by_torch(method, stored, s, "bfloat16"))


@pytest.mark.parametrize("start", [0, 12_345, 2**32 - 50, 2**33 - 4100])
@pytest.mark.parametrize("method", [name for name in FUSED if METHODS[name].random])
def test_kernels_drop_by_the_place_in_the_tensor(method, start):
    stored = data(9000, KINDS["bfloat16"][:3])
    s = replace(settings_for(method, 2, 9000), start=start)
    whole = by_kernel(method, stored, s, "bfloat16")
    assert np.array_equal(whole, by_torch(method, stored, s, "bfloat16"))
    chunks = [
        by_kernel(method, [raw[a:b] for raw in stored], replace(s, start=start + a), "bfloat16")
        for a, b in ((0, 33), (33, 5000), (5000, 9000))
    ]
    assert np.array_equal(np.concatenate(chunks), whole)


def test_zero_task_vectors_and_zero_weights_leave_the_base_but_for_the_sign_of_zero():
    base = data(5000, ["bfloat16"])[0]
    for method in (name for name in FUSED if METHODS[name].kernel == "deltas" and not METHODS[name].single):
        s = settings_for(method, 2, 5000, density=[0.5, 0.5], rescale=True)
        found, expected = (make(method, [base] * 3, s, "bfloat16") for make in (by_kernel, by_torch))
        assert np.array_equal(found, expected) and torch.equal(widen(found), widen(base))


def test_weights_that_sum_to_zero_divide_as_in_torch():
    stored = data(5, KINDS["float32"][:3])
    s = settings_for("linear", 2, 5, coefficients=[0.4, -0.4], normalize=True)
    assert np.array_equal(by_kernel("linear", stored, s, "float32"), by_torch("linear", stored, s, "float32"))


def copied(stored, dtype):
    """The numbers in this dtype, and how many are not finite."""
    out, bad = np.empty(stored.size, STORED[dtype]), np.zeros(1, np.int64)
    fused.copy(stored, out, bad)
    return out, bad[0]


def patterns():
    """float32 bit patterns: all upper halves with lower halves at and beside the halfway point, and random ones."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    near = [upper | np.uint32(low) for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    return np.concatenate([*near, np.random.default_rng(0).integers(0, 1 << 32, 300_000, np.uint32)]).view(np.float32)


def test_rounding_to_bfloat16_is_that_of_torch():
    values = patterns()
    finite = np.isfinite(values)
    found, bad = copied(values, "bfloat16")
    assert bad == (~finite).sum() > 0
    kept = ~np.isnan(values)
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(found[kept], expected[kept]) and widen(found)[~kept].isnan().all()
    assert np.array_equal(found, narrow(torch.from_numpy(values), "bfloat16"))


def test_rounding_to_bfloat16_is_to_the_nearest_and_to_even():
    values = patterns()
    values = values[abs(values) < 1e38]
    found = copied(values, "bfloat16")[0]
    down, up = (values.view(np.uint32) >> 16).astype(np.uint16), (values.view(np.uint32) >> 16).astype(np.uint16) + 1
    exact = values.astype(np.float64)
    below, above = (abs(widen(side).double().numpy() - exact) for side in (down, up))
    expected = np.where(below < above, down, np.where(above < below, up, np.where(down % 2 == 0, down, up)))
    assert np.array_equal(found, expected)


def test_copies_are_the_very_bits():
    words = np.arange(1 << 16, dtype=np.uint16)
    nan = widen(words).isnan().numpy()
    found, bad = copied(words, "bfloat16")
    assert np.array_equal(found[~nan], words[~nan]) and widen(found)[nan].isnan().all() and bad == nan.sum() + 2
    wide = copied(words, "float32")[0]
    assert np.array_equal(bits(wide)[~nan], words[~nan].astype(np.uint32) << 16)
    values = patterns()
    nan = np.isnan(values)
    found, bad = copied(values, "float32")
    assert np.array_equal(bits(found)[~nan], bits(values)[~nan]) and np.isnan(found[nan]).all()
    assert bad == (~np.isfinite(values)).sum()


BAD = np.array([np.nan, np.inf, -np.inf], np.float32)


def untrimmed(method, models, least=0.0):
    """Settings of 9000 entries with bounds of |δ|, or with factors, that were not looked for."""
    bounds = np.array([[least, np.inf]] * models, np.float32)
    prepared = (0.3, 0.7) if METHODS[method].kernel == "arc" else bounds
    return replace(settings_for(method, models, 9000), prepared=prepared)


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
@pytest.mark.parametrize("method, models", CASES)
def test_not_finite_numbers_are_counted_by_source(method, models, kind):
    stored = data(9000, KINDS[kind][: models + 1])
    places = [range(i, 9000, 500 * (i + 1)) for i in range(models + 1)]
    for raw, chosen in zip(stored, places, strict=True):
        raw[chosen.start : chosen.stop : chosen.step] = narrow(torch.from_numpy(np.resize(BAD, len(chosen))), kind)
    out, bad = np.empty(9000, STORED[kind]), np.arange(models + 1)
    fused.run(method, stored, untrimmed(method, models), out, bad)
    expected = [i + len(chosen) for i, chosen in enumerate(places)]
    assert bad.tolist() == ([0, *expected[1:]] if METHODS[method].average else expected)


@pytest.mark.parametrize("method, models", CASES)
def test_results_are_not_finite_where_those_of_torch_are_not(method, models):
    stored = data(9000, KINDS["float32"][: models + 1])
    for i, raw in enumerate(stored):
        raw[i * 1000 : i * 1000 + 30] = np.resize(BAD, 30)
    s, out = untrimmed(method, models, 0.001), np.empty(9000, np.float32)
    fused.run(method, stored, s, out, np.zeros(models + 1, np.int64))
    base, *others = map(widen, stored)
    np.testing.assert_array_equal(out, FUNCTIONS[method](base, others, s).numpy())


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("size", SIZES)
def test_histograms_are_those_of_torch(kind, size):
    stored = data(size, KINDS[kind])
    pieces = [[raw[a : a + 7001] for raw in stored] for a in range(0, size, 7001)]
    chunks = [(base, models) for base, *models in ([widen(raw) for raw in piece] for piece in pieces)]
    coarse = fused.count_magnitudes(pieces, 3, None)
    assert np.array_equal(coarse, count_magnitudes(lambda: chunks, 3, None)) and (coarse.sum(axis=1) == size).all()
    buckets = np.stack([coarse.argmax(axis=1), np.zeros(3, np.int64), [0x7F7F, 0x3F80, 1]], axis=1)
    fine = fused.count_magnitudes(pieces, 3, buckets)
    assert np.array_equal(fine, count_magnitudes(lambda: chunks, 3, buckets))
    assert np.array_equal(fine.sum(axis=-1), np.take_along_axis(coarse, buckets, axis=1))


@pytest.mark.parametrize("source", [np.float16, np.float32])
def test_copies_of_half_and_single_precision_keep_the_numbers(source):
    stored, out = np.array([1.5, -0.0, 0.25, -3.0], source), np.empty(4, np.float32)
    fused.copy(stored, out, np.zeros(1, np.int64))
    assert out.tobytes() == stored.astype(np.float32).tobytes()
