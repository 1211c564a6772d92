"""Other coefficients than ACM's: what they keep, and what they change."""

import shutil

import numpy as np
import pytest
import torch
from questions.made_up import LAMBDA, LAYERS
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

from acm.calibration.coefficients import uniform
from acm.calibration.nulls import permuted
from acm.checkpoints import layer_of
from acm.questions import variants


@pytest.mark.parametrize("seed", range(5))
def test_variants_keep_layers_values_and_mean(seed):
    rng = np.random.default_rng(seed)
    given = dict(zip(LAYERS, rng.random(len(LAYERS)).tolist(), strict=True))
    found = uniform(given)
    assert list(found) == LAYERS and list(found.values()) == pytest.approx([np.mean(list(given.values()))] * 9)
    for other in (
        permuted(given, seed),
        variants.reversed_order(given),
        variants.ranked(given, dict(zip(LAYERS, rng.random(9), strict=True))),
    ):
        assert other.keys() == given.keys() and sorted(other.values()) == sorted(given.values())
        assert all(type(value) is float for value in other.values())


def test_permutations_follow_from_the_seed_alone():
    assert permuted(LAMBDA, 3) == permuted(LAMBDA, 3)
    assert len({tuple(permuted(LAMBDA, seed).values()) for seed in range(20)}) == 20


def test_reversed_turns_every_rank_round_and_back():
    turned = variants.reversed_order(LAMBDA)
    assert spearmanr([LAMBDA[k] for k in LAYERS], [turned[k] for k in LAYERS]).statistic == pytest.approx(-1)
    assert variants.reversed_order(turned) == LAMBDA


def test_ranked_goes_with_the_score_and_is_the_identity_by_own_value():
    scores = {layer: -i for i, layer in enumerate(LAYERS)}
    dealt = variants.ranked(LAMBDA, scores)
    assert [dealt[layer] for layer in LAYERS] == sorted(LAMBDA.values(), reverse=True)
    assert variants.ranked(LAMBDA, LAMBDA) == LAMBDA


def test_chosen_sets_some_layers():
    assert variants.chosen(LAMBDA, ["2", "3"], 0.0, 1.0) == {layer: float(layer not in "23") for layer in LAYERS}


@pytest.mark.parametrize("kind", ["f32", "bf16"])
def test_magnitudes_are_the_norms_of_the_tensors(kind, request, tensors):
    base, left, _ = request.getfixturevalue(kind)
    ours, theirs = tensors(base), tensors(left)
    sums = {}
    for name, x in ours.items():
        d, n = sums.get(layer_of(name), (0.0, 0.0))
        x, y = x.double(), theirs[name].double()
        sums[layer_of(name)] = d + (y - x).square().sum().item(), n + x.square().sum().item()
    found = variants.magnitudes(base, left)
    assert found == pytest.approx({layer: (d / n) ** 0.5 for layer, (d, n) in sums.items()}, rel=1e-6)
    assert set(found) == {"embed", "0", "1", "norm", "lm_head"}
    assert set(variants.magnitudes(base, base).values()) == {0.0}


def test_magnitude_of_a_tied_head_is_the_embeddings_and_of_more_rows_that_of_the_shared(f32, tmp_path):
    base, left, _ = f32
    for i, source in enumerate((base, left)):
        shutil.copytree(source, tmp_path / str(i))
        parts = load_file(source / "model.safetensors")
        del parts["lm_head.weight"]
        if i:
            parts["model.embed_tokens.weight"] = torch.cat(
                [parts["model.embed_tokens.weight"], torch.full((3, 16), 99.0)]
            )
        save_file(parts, tmp_path / str(i) / "model.safetensors", {"format": "pt"})
    tied, plainly = variants.magnitudes(tmp_path / "0", tmp_path / "1"), variants.magnitudes(base, left)
    assert tied["lm_head"] == tied["embed"] == pytest.approx(plainly["embed"])
    assert set(variants.ranked(dict.fromkeys(plainly, 0.5), tied)) == set(plainly)
