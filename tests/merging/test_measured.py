"""OTA, OBIM and LED, which mask by what a calibration knows, against oracles that sort, and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from helpers import HEAD, recipe, same, with_files, write_files
from safetensors.torch import load_file, save_file
from tensor_cases import BASE, FIRST, SECOND, assert_close, grams, merge, randn

import acm
from acm.errors import UserError
from acm.merging import plain
from acm.merging.registry import METHODS

OTA = {"power": 0.5, "eps": 1e-26}
WEIGHTS = [0.7, 1.2]
INFORMATION = torch.tensor([1.0, 4.0, 1.0, 16.0])  # × FIRST²: 9, 4, 4, 4
OTHER = torch.tensor([9.0, 1.0, 0.0, 4.0])  # × SECOND²: 36, 16, 0, ¼


@pytest.fixture(scope="module")
def files(f32, tensors, tmp_path_factory):
    """A folder of random statistics, and what it holds: {kind: {model: content}}."""
    folder = tmp_path_factory.mktemp("statistics")
    return folder, write_files(folder, tensors, *f32)


@pytest.fixture
def both(f32, merged, tensors, files):
    """Merges by a method with weights; gives (name, found, θ_0, [λ_i δ_i], statistics) of each tensor, as arrays."""

    def run(method, parameters, folders=f32):
        content = recipe(method, *folders, parameters=parameters)
        for entry, weight in zip(with_files(content, files[0])["models"], WEIGHTS, strict=False):
            entry["parameters"]["weight"] = weight
        found, (base, *models) = merged(content), map(tensors, folders)
        kinds = ["base_statistics", "entries"] if method == "led" else [METHODS[method].statistics]
        for name, tensor in found.items():
            deltas = [w * (m[name] - base[name]).double().numpy() for w, m in zip(WEIGHTS, models, strict=False)]
            held = [files[1][kind][model.name].get(name) for kind in kinds for model in folders[1:]]
            held = [None if one is None else one.double().numpy() for one in held]
            yield name, tensor.numpy(), base[name].double().numpy(), deltas, held

    return run


def top(scores, density):
    """Where scores are among the int(density · entries) largest, at least one, by sorting."""
    return scores >= np.sort(scores, axis=None)[-max(1, int(density * scores.size))]


def close(found, expected, name):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("density, power", [(0.4, 0.5), (0.1, 1.0), (1.0, 0.25)])
def test_ota_against_sorting(both, density, power):
    for name, found, base, deltas, information in both("ota", {"density": density, "power": power}):
        kept = [top(f * d**2, density) for f, d in zip(information, deltas, strict=True)]
        weights = [(f**power + 1e-26) * mask for f, mask in zip(information, kept, strict=True)]
        mass = sum(weights)
        merged = sum(w * d for w, d in zip(weights, deltas, strict=True)) / np.where(mass > 0, mass, 1)
        close(found, base + merged, name)
        assert density == 1 or (mass == 0).any() or found.size < 20


def test_ota_by_hand():
    """Half of FIRST stays but ties with its last, so all; of SECOND the first two. Roots of F: 1, 2, 1, 4 and 3, 1."""
    found = merge("ota", [FIRST, SECOND], [1.0, 1.0], density=0.5, statistics=[INFORMATION, OTHER], numbers=OTA)
    assert_close(found, BASE + torch.tensor([(3 - 3 * 2) / 4, (-1 * 2 - 4) / 3, 2.0, 0.5]))


def test_ota_of_one_model_trims_by_saliency():
    base, delta, information = randn(50), randn(50, seed=1), randn(50, seed=2) ** 2
    for density, kept in ((1.0, 50), (0.4, 20), (0.01, 1)):
        found = merge("ota", [delta], [0.7], base, density, statistics=[information], numbers=OTA)
        mask = torch.zeros(50).index_fill(0, (information * delta**2).argsort(descending=True)[:kept], 1.0)
        assert_close(found, base + 0.7 * mask * delta)


@pytest.mark.parametrize("scale", [1e-20, 1e-30])
def test_ota_takes_moments_as_small_as_adams(scale):
    deltas, moments = [1e-5 * randn(200, seed=i) for i in (1, 2)], [randn(200, seed=i) ** 2 for i in (3, 4)]
    small = [(scale * m.double()).float() for m in moments]
    for numbers in (OTA, OTA | {"eps": 0.0}):
        options = {"base": torch.zeros(200), "density": 0.4, "numbers": numbers}
        expected = merge("ota", deltas, [1.0, 1.0], statistics=moments, **options)
        found = merge("ota", deltas, [1.0, 1.0], statistics=small, **options)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)
    blind = merge("ota", deltas, [1.0, 1.0], torch.zeros(200), statistics=small, numbers=OTA | {"eps": 1e-8})
    assert_close(1e5 * blind, 1e5 * (deltas[0] + deltas[1]) / 2, 0.02)  # a plain mean


def test_ota_of_equal_models_and_where_all_lose_an_entry():
    base, delta, information = randn(30), randn(30, seed=1), randn(30, seed=2) ** 2
    found = merge("ota", [delta, delta], WEIGHTS, base, 0.3, statistics=[information] * 2, numbers=OTA)
    kept = (information * delta**2).argsort(descending=True)
    assert_close(found[kept[:9]], (base + 0.95 * delta)[kept[:9]])
    assert torch.equal(found[kept[9:]], base[kept[9:]])


def test_ota_without_information_is_the_mean():
    for statistics in ([None, None], [INFORMATION, None], [torch.zeros(4)] * 2):
        found = merge("ota", [FIRST, SECOND], [0.3, 0.9], density=0.5, statistics=statistics, numbers=OTA)
        assert_close(found, BASE + (0.3 * FIRST + 0.9 * SECOND) / 2)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_obim_against_sorting(both, density):
    for name, found, base, deltas, energies in both("obim", {"density": density}):
        if energies[0] is None:
            close(found, base + sum(deltas) / 2, name)
            continue
        expected, free = base.copy(), np.ones_like(base, dtype=bool)
        for delta, energy in zip(deltas, energies, strict=True):
            taken = top(delta**2 * energy, density) & free
            expected[taken] += delta[taken]
            free &= ~taken
        close(found, expected, name)
        assert density == 1 or free.any()


def test_obim_of_one_model_is_a_trim_weighted_by_the_inputs():
    base, delta, ((inputs,), _) = randn(6, 5), randn(6, 5, seed=1), grams(10, 0)
    rms = inputs.square().mean(0).sqrt()
    found = merge("obim", [delta], [0.7], base, 0.3, statistics=[inputs.square().sum(0)])
    kept = torch.zeros(30).index_fill(0, (delta.abs() * rms).flatten().argsort(descending=True)[:9], 1.0).view(6, 5)
    assert_close(found, base + 0.7 * kept * delta)
    assert_close(merge("obim", [delta], [0.7], base, statistics=[torch.ones(5)]), base + 0.7 * delta)
    plainly = merge("ties", [delta], [0.7], base, 0.3)
    assert_close(merge("obim", [delta], [0.7], base, 0.3, statistics=[torch.ones(5)]), plainly)


def test_obim_lets_the_first_model_choose_and_never_adds_up():
    base, deltas = torch.zeros(4, 5), [randn(4, 5, seed=i) for i in (1, 2, 3)]
    found = merge("obim", deltas, [1.0] * 3, base, 0.4, statistics=[torch.ones(5)] * 3)
    assert all(value in (0.0, *entries) for value, *entries in zip(*map(torch.flatten, (found, *deltas)), strict=True))
    first = merge("obim", deltas[:1], [1.0], base, 0.4, statistics=[torch.ones(5)])
    assert (first != 0).sum() == 8 and torch.equal(found[first != 0], first[first != 0])
    assert torch.equal(merge("obim", deltas[:1] * 3, [1.0] * 3, base, 0.4, statistics=[torch.ones(5)] * 3), first)


def test_obim_takes_no_entry_whose_input_or_weight_is_zero():
    base, deltas, used = torch.zeros(4, 5), [randn(4, 5, seed=i) for i in (1, 2)], torch.tensor([1.0, 1, 0, 0, 1])
    found = merge("obim", deltas, [1.0, 1.0], base, 1.0, statistics=[used, 1 - used])
    assert torch.equal(found, torch.where(used > 0, *deltas))
    found = merge("obim", deltas, [0.0, 1.0], base, 1.0, statistics=[torch.ones(5)] * 2)
    assert torch.equal(found, deltas[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_obim_reads_grams_of_half_precision(f32, files, merged, tmp_path, dtype):
    exact = tmp_path / "exact.safetensors"
    held = {name: gram.to(dtype) for name, gram in load_file(files[0] / "gram-left.safetensors").items()}
    save_file(held, tmp_path / "half.safetensors")
    save_file({name: gram.float() for name, gram in held.items()}, exact)
    half, full = (
        recipe("obim", *f32[:2], parameters={"density": 0.2, "statistics": str(tmp_path / f"{name}.safetensors")})
        for name in ("half", "exact")
    )
    assert same(merged(half), merged(full))


@pytest.mark.parametrize("folders", [2, 3])
@pytest.mark.parametrize("rate", [0.5, 0.1, 1.0])
def test_led_against_sorting(both, f32, rate, folders):
    n = folders - 1
    for name, found, base, deltas, scores in both("led", {"rate": rate}, f32[:folders]):
        important = [top(score, rate) & (score > 0) for score in scores]
        elected = [a & b for a, b in zip(important[:n], important[n:], strict=True)]
        expected = base.copy()
        for i in range(n):
            others = np.any([elected[j] for j in range(n) if j != i], axis=0) if n > 1 else np.zeros_like(elected[0])
            expected += np.where(elected[i] & ~others, deltas[i], 0)
        close(found, expected, name)


def test_led_by_hand():
    """Half of four: base and FIRST elect 0 and 2; base and SECOND 1 and 2; entry 2 is contested."""
    scores = [[4, 1, 3, 2], [1, 3, 4, 2], [9, 5, 8, 0], [0, 7, 6, 2]]
    statistics = [torch.tensor(own, dtype=torch.float32) for own in scores]
    for sign in (1, -1):
        numbers = {"rate": [0.5, 0.5]}
        found = merge("led", [FIRST, SECOND], [1.0, 0.5], statistics=[sign * f for f in statistics], numbers=numbers)
        assert_close(found, BASE + torch.tensor([3.0, -2.0, 0.0, 0.0]))
    found = merge("led", [FIRST, SECOND], [1.0, 0.5], statistics=statistics, numbers={"rate": [0.25, 0.75]})
    assert_close(found, BASE + torch.tensor([3.0, -2.0, 0.5, -0.125]))


def test_led_of_one_model_masks_it():
    base, delta, scores = randn(40), randn(40, seed=1), [randn(40, seed=i).abs() for i in (2, 3)]
    kept = [torch.zeros(40).index_fill(0, score.argsort(descending=True)[:16], 1.0) for score in scores]
    found = merge("led", [delta], [0.7], base, statistics=scores, numbers={"rate": [0.4]})
    assert_close(found, base + 0.7 * kept[0] * kept[1] * delta)
    assert_close(merge("led", [delta], [0.7], base, statistics=scores, numbers={"rate": [1.0]}), base + 0.7 * delta)


def test_led_elects_nothing_that_has_no_score():
    seen = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0, 0.0])
    numbers = {"rate": [0.5, 0.5]}
    found = merge("led", [FIRST, SECOND], [1.0, 1.0], statistics=[*seen, *seen], numbers=numbers)
    assert_close(found, BASE + torch.tensor([3.0, -4.0, 0.0, 0.0]))
    both = merge("led", [FIRST, SECOND], [1.0, 1.0], statistics=[seen[0]] * 4, numbers=numbers)
    assert torch.equal(both, BASE)


@pytest.mark.parametrize("lacking", range(4))
def test_obim_and_led_without_statistics_are_the_mean(lacking):
    scores = [FIRST.abs(), SECOND.abs()] * 2
    scores[lacking] = None
    expected = BASE + (0.3 * FIRST + 0.9 * SECOND) / 2
    assert_close(merge("led", [FIRST, SECOND], [0.3, 0.9], statistics=scores, numbers={"rate": [0.5] * 2}), expected)
    assert_close(merge("obim", [FIRST, SECOND], [0.3, 0.9], statistics=[None, None]), expected)


def test_led_takes_one_file_of_the_bases_scores_for_all_models(f32, files, merged):
    shared = str(files[0] / "base_statistics-left.safetensors")
    content = with_files(recipe("led", *f32, parameters={"rate": 0.5}), files[0])
    for entry in content["models"]:
        entry["parameters"]["base_statistics"] = shared
    expected = merged(content)
    for entry in content["models"]:
        del entry["parameters"]["base_statistics"]
    content["parameters"]["base_statistics"] = shared
    assert same(merged(content), expected)


def test_led_reads_each_models_rate_and_the_order_in_a_recipe_changes_nothing(f32, files, merged):
    content = with_files(recipe("led", *f32), files[0])
    for entry, rate in zip(content["models"], (0.2, 0.6), strict=True):
        entry["parameters"]["rate"] = rate
    found = merged(content)
    assert not same(found, merged(with_files(recipe("led", *f32, parameters={"rate": 0.2}), files[0])))
    content["models"].reverse()
    assert same(merged(content), found)


@pytest.mark.parametrize("method, change, words", [
    ("led", {"base_statistics": None}, ["needs `base_statistics`"]), ("led", {"statistics": None}, ["`statistics`"]),
    ("led", {"rate": 0}, ["the fraction of most important entries, in (0, 1], not 0"]),
    ("led", {"base_statistics": 5}, ["base_statistics must be a file's path"]),
    ("led", {"base_statistics": "gram"}, ["gram-left", "the statistics of model.layers"]),
    ("obim", {"statistics": "inputs"}, ["inputs-left", "the statistics of model.layers"]),
    ("obim", {"density": None}, ["needs `density`"]), ("obim", {"density": 1.5}, ["in (0, 1], not 1.5"]),
    ("ota", {"power": 0}, ["above 0"]), ("ota", {"eps": -1e-9}, ["at least 0"]), ("ota", {"density": 0}, ["density"]),
    ("ota", {"power": float("inf")}, ["finite"]), ("ota", {"statistics": "gram"}, ["gram-left"]),
])  # fmt: skip
def test_what_is_missing_or_out_of_range_is_refused(f32, files, tmp_path, method, change, words):
    content = with_files(recipe(method, *f32[:2], parameters=dict(METHODS[method].example)), files[0])
    for key, value in change.items():
        for held in (content["parameters"], content["models"][0]["parameters"]):
            held.pop(key, None)
        if isinstance(value, str):
            value = str(files[0] / f"{value}-left.safetensors")
        content["parameters"] |= {} if value is None else {key: value}
    with pytest.raises(UserError) as error:
        acm.merge(content, tmp_path / "out")
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("method, own", [
    ("ota", {"power": 0.3, "density": 0.2}), ("obim", {"density": 0.6}), ("led", {"rate": 0.7}),
])  # fmt: skip
def test_chunks_and_threads_change_no_byte(f32, files, tmp_path, tensors, monkeypatch, method, own):
    count = itertools.count()

    def run(threads):
        content = with_files(recipe(method, *f32, parameters=own), files[0])
        return tensors(acm.merge(content, tmp_path / str(next(count)), threads=threads))

    expected = run(1)
    for chunk, threads in ((32, 3), (224, 1)):
        monkeypatch.setattr(plain, "CHUNK", chunk)
        assert same(run(threads), expected)


@pytest.mark.parametrize("method, statistics", [
    ("ota", [INFORMATION, OTHER]), ("obim", [INFORMATION, OTHER]), ("led", [INFORMATION, OTHER] * 2),
])  # fmt: skip
def test_nan_raises_nothing_and_stays_where_it_is(method, statistics):
    options = {"statistics": statistics, "density": 0.5, "numbers": OTA | {"rate": [1.0, 1.0]}}
    base = BASE.expand(3, 4)
    deltas = [FIRST.repeat(3, 1), SECOND.repeat(3, 1)]
    if method != "obim":
        options["statistics"] = [f.expand(3, 4) for f in statistics]
    clean = merge(method, deltas, [1.0, 1.0], base, **options)
    deltas[0][1, 2] = float("nan")
    found = merge(method, deltas, [1.0, 1.0], base, **options)
    assert found[0].isfinite().all() and clean.isfinite().all()
    for number in (float("nan"), float("inf")):
        odd = [f.clone() for f in options["statistics"]]
        odd[0].view(-1)[0] = number
        assert merge(method, deltas, [1.0, 1.0], base, **options | {"statistics": odd}).shape == (3, 4)


def test_rows_of_the_head_without_information_are_kept_where_all_ties_are(f32, files, merged, tensors):
    """Of entries without information all tie, at density 1; each has the weight ε."""
    content = with_files(recipe("ota", *f32, parameters={"density": 1.0}), files[0])
    found, (base, left, right) = merged(content), map(tensors, f32)
    torch.testing.assert_close(found[HEAD][3:5], base[HEAD][3:5] + ((left[HEAD] + right[HEAD]) / 2 - base[HEAD])[3:5])
