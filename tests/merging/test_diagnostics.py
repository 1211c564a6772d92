"""Scores of task vectors against closed forms and numpy oracles; whole models; the command in its three formats."""

import itertools
import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import EMBEDDING, HEAD, ROWS
from safetensors.torch import save_file
from typer.testing import CliRunner

import acm
from acm.__main__ import app
from acm.checkpoints import ADAPTER
from acm.errors import UserError
from acm.lora import WEIGHTS
from acm.merging import parts
from acm.merging.diagnostics import PAIR, add_entries, expected_conflict, no_sums, pair_scores, pairs
from acm.merging.inspection import ALL, inspect
from acm.merging.spectra import Spectra, effective_rank, interference, spectra, stable_rank
from acm.reporting.inspection import SCORES, UNKNOWN, as_json, as_text, read_worth, worth_text


def summed(base, *models, cuts=()):
    """The sums of whole vectors, read in pieces that end at the cuts."""
    sums, stored = no_sums(len(models)), [np.asarray(x, np.float32) for x in (base, *models)]
    for start, stop in itertools.pairwise([0, *cuts, len(stored[0])]):
        add_entries([x[start:stop] for x in stored], sums)
    return sums


def scored(*deltas, base=None):
    """The scores of the first pair of these task vectors."""
    start = np.zeros(len(deltas[0])) if base is None else base
    sums = summed(start, *(start + np.asarray(delta) for delta in deltas))
    columns = dict(zip(PAIR, sums.pairs[0], strict=True)) | {"entries": len(start)}
    for side, own in (("first", sums.own[1]), ("second", sums.own[2])):
        columns |= {f"{side}_squares": own[0], f"{side}_sum": own[1]}
    return {name: float(value) for name, value in pair_scores(columns).items()}


def normals(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def matrices(count, rows, columns, seed=0):
    return [torch.from_numpy(x) for x in normals(count, rows, columns, seed=seed)]


# --- entries


def test_opposite_task_vectors_conflict_everywhere():
    delta = normals(500)
    found = scored(delta, -delta)
    assert found["sign_conflict"] == found["weighted_conflict"] == found["sign_expected"] == 1
    assert found["cosine"] == found["pearson"] == -1, "the sign stays, which Model Kinship's code drops"
    assert found["distance"] == pytest.approx(2 * np.linalg.norm(delta.astype(float)))


def test_equal_task_vectors_agree_everywhere():
    found = scored(normals(500), normals(500))
    assert found["cosine"] == found["pearson"] == 1
    assert found["sign_conflict"] == found["weighted_conflict"] == found["distance"] == found["sign_expected"] == 0


def test_scores_of_four_entries_by_hand():
    found = scored([1, -2, 0, 4], [3, 1, 5, -2])
    assert found["sign_conflict"] == 2 / 3, "three entries are non-zero in both, two of them differ"
    assert found["weighted_conflict"] == 3 / 4, "min(|δ|) is 1, 1 and 2"
    assert found["cosine"] == pytest.approx((3 - 2 - 8) / math.sqrt(21 * 39))
    assert found["pearson"] == pytest.approx(np.corrcoef([1, -2, 0, 4], [3, 1, 5, -2])[0, 1])
    assert found["distance"] == pytest.approx(math.sqrt(4 + 9 + 25 + 36))
    assert found["sign_half_width"] == pytest.approx(1.959964 / (2 * math.sqrt(3)))
    assert found["weighted_half_width"] == pytest.approx(1.959964 * math.sqrt(1 + 1 + 4) / (2 * 4))


def test_what_has_no_direction_has_no_score():
    nothing = scored([0, 0, 0], [1, -2, 3])
    unknown = {"cosine", "pearson", "sign_conflict", "weighted_conflict", "sign_half_width", "sign_expected"}
    assert all(math.isnan(nothing[name]) for name in unknown) and nothing["distance"] == pytest.approx(math.sqrt(14))
    constant = scored([0.1] * 7, [0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1])
    assert math.isnan(constant["pearson"]) and constant["cosine"] > 0.9


def test_independent_normals_conflict_within_the_band():
    inside, weighted = [], []
    for seed in range(200):
        found = scored(*normals(2, 400, seed=seed))
        inside.append(abs(found["sign_conflict"] - 0.5) <= found["sign_half_width"])
        weighted.append(abs(found["weighted_conflict"] - 0.5) <= found["weighted_half_width"])
    assert 0.90 <= np.mean(inside) <= 0.99 and 0.90 <= np.mean(weighted) <= 0.99


@pytest.mark.parametrize("r", [-0.8, -0.3, 0.0, 0.5, 0.95])
def test_correlated_normals_conflict_as_the_arc_cosine_says(r):
    x, y = normals(2, 200_000)
    found = scored(x, r * x + math.sqrt(1 - r * r) * y)
    assert found["pearson"] == pytest.approx(r, abs=0.01)
    assert found["sign_conflict"] == pytest.approx(math.acos(r) / math.pi, abs=0.005)
    assert found["sign_expected"] == pytest.approx(math.acos(found["pearson"]) / math.pi)
    assert expected_conflict(np.array([1.0, 0.0, -1.0])).tolist() == [0, 0.5, 1]


def test_tiny_and_huge_entries_are_neither_lost_nor_infinite():
    tiny = scored([1e-40, -1e-44, 2e-42], [1e-40, 1e-44, 2e-42])
    assert tiny["sign_conflict"] == 1 / 3 and tiny["cosine"] == pytest.approx(1)
    huge = summed([-3e38, 1], [3e38, 1], [3e38, 2])
    assert huge.own[1, 0] == pytest.approx(36e76, rel=1e-6) and np.isfinite(huge.pairs).all() and not huge.bad.any()


def test_cuts_change_no_bit():
    stored = normals(4, 20_000)
    whole = summed(*stored)
    for cuts in ((1,), (4095, 4096, 4097), (7, 8000, 8001, 19_999)):
        assert all(np.array_equal(a, b) for a, b in zip(whole, summed(*stored, cuts=cuts), strict=True))


def test_stored_numbers_of_every_dtype_are_summed():
    values = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    for dtype, bits in ((torch.bfloat16, torch.int16), (torch.float16, None)):
        rounded = values.to(dtype)
        stored = [x.view(bits).numpy().view(np.uint16) if bits else x.numpy() for x in rounded]
        sums = no_sums(2)
        add_entries(stored, sums)
        exact = summed(*rounded.float().numpy())
        assert all(np.array_equal(a, b) for a, b in zip(sums, exact, strict=True))


def test_numbers_that_are_not_finite_are_counted():
    sums = summed([1, np.nan, 2], [np.inf, 1, -np.inf], [1, 2, 3])
    assert sums.bad.tolist() == [1, 2, 0]


# --- matrices


def oracle(deltas, top):
    """Spectra from full decompositions, as the papers write them. deltas: arrays of full rank."""
    rows, columns = deltas[0].shape
    small, count = min(rows, columns), len(deltas)
    found = [np.linalg.svd(delta.astype(float), full_matrices=False) for delta in deltas]
    ranks = []
    for _, s, _ in found:
        p = s**2 / (s**2).sum()
        ranks.append([np.exp(-(p * np.log(p)).sum()), (s**2).sum() / s[0] ** 2])
    k = max(1, int(top * small))
    overlaps = []
    for (u, _, v), (x, _, y) in itertools.combinations(found, 2):
        left = np.linalg.svd(u[:, :k].T @ x[:, :k])[1]
        right = np.linalg.svd(v[:k] @ y[:k].T)[1]
        overlaps.append([(left**2).mean(), k / rows, (right**2).mean(), k / columns])
    each = int(small / count)
    u = np.hstack([u[:, :each] for u, _, _ in found])
    s = np.hstack([s[:each] for _, s, _ in found])
    v = np.vstack([v[:each] for _, _, v in found])
    eye = np.eye(len(s))
    measured = np.abs((u.T @ u - eye) @ np.diag(s) @ (v @ v.T - eye)).sum()
    return np.array(ranks), np.array(overlaps), np.array([measured, measured / s.sum()])


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (32, 32), (200, 6), (7, 1500)], ids=str)
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("top", [0.1, 0.35, 1.0])
def test_spectra_are_those_of_full_decompositions(shape, count, top):
    deltas = [0.01 * x for x in matrices(count, *shape, seed=sum(shape))]
    found, expected = spectra(deltas, top), oracle([x.numpy() for x in deltas], top)
    np.testing.assert_allclose(found.ranks, expected[0], rtol=1e-9)
    np.testing.assert_allclose(found.overlaps, expected[1], rtol=1e-7)
    np.testing.assert_allclose(found.interference[:2], expected[2], rtol=1e-7)


def test_ranks_of_a_diagonal_by_hand():
    squares = torch.tensor([4.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    entropy = 4 / 6 * math.log(6 / 4) + 2 / 6 * math.log(6)
    assert effective_rank(squares) == pytest.approx(math.exp(entropy)) and stable_rank(squares) == 6 / 4
    ((effective, stable),) = spectra([torch.diag(torch.tensor([2.0, -1.0, 1.0, 0.0]))], 0.1).ranks
    assert effective == pytest.approx(math.exp(entropy)) and stable == pytest.approx(6 / 4)
    assert spectra([torch.eye(5)], 0.1).ranks[0] == pytest.approx([5, 5])
    assert spectra([torch.outer(torch.arange(1.0, 6), torch.ones(3))], 0.1).ranks[0] == pytest.approx([1, 1])


def test_orthogonal_low_rank_task_vectors_do_not_interfere():
    first, second = torch.zeros(12, 8), torch.zeros(12, 8)
    first[0, 0], first[1, 1], second[2, 2], second[3, 3] = 3, 2, 5, 1
    found = spectra([first, second], 0.25)
    assert found.interference == pytest.approx([0, 0, found.interference[2]]) and found.interference[2] > 0
    assert found.overlaps[0] == pytest.approx([0, 2 / 12, 0, 2 / 8])


def test_interference_of_one_shared_direction_by_hand():
    first, second = torch.zeros(6, 4), torch.zeros(6, 4)
    first[0, 0], second[0, 0] = 3, 5  # Û and V̂ hold the same vector twice, so entries are σ of the other model
    assert spectra([first, second], 0.1).interference[:2] == pytest.approx([8, 1])
    second[0, 0], second[0, 1] = 0, 5  # the same output from another input: V̂ᵀV̂ − I is 0
    assert spectra([first, second], 0.1).interference[:2] == pytest.approx([0, 0])
    assert spectra([first, second], 0.1).overlaps[0] == pytest.approx([1, 1 / 6, 0, 1 / 4])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_equal_models_overlap_wholly_and_interfere_by_their_number(count):
    found = spectra(matrices(1, 20, 14) * count, 0.3)
    assert found.overlaps[:, [0, 2]] == pytest.approx(1) and found.interference[1] == pytest.approx((count - 1) ** 2)


@pytest.mark.parametrize("shape", [(60, 90), (80, 80)], ids=str)
@pytest.mark.parametrize("count", [2, 3])
def test_random_task_vectors_are_near_the_nulls(shape, count):
    several = [spectra(matrices(count, *shape, seed=seed), 0.2) for seed in range(8)]
    overlaps = np.mean([found.overlaps for found in several], axis=(0, 1))
    assert overlaps[0] == pytest.approx(overlaps[1], rel=0.05) and overlaps[2] == pytest.approx(overlaps[3], rel=0.05)
    measured = np.mean([found.interference for found in several], axis=0)
    assert measured[1] == pytest.approx(measured[2], rel=0.05)


def test_the_null_of_interference_is_the_mean_of_random_frames():
    rng, sigma = np.random.default_rng(0), [torch.arange(9.0, 0, -1).double(), torch.linspace(2, 1, 7).double()]
    found = []
    for _ in range(40):
        sides = []
        for m in (50, 30):
            first, second = (np.linalg.qr(rng.normal(size=(m, len(s))))[0] for s in sigma)
            sides.append({(0, 1): torch.from_numpy(first.T @ second)})
        found.append(interference(*sides, sigma, 50 * 30))
    measured = np.mean(found, axis=0)
    assert measured[1] == pytest.approx(measured[2], rel=0.03)


def test_a_rank_deficient_task_vector_has_no_arbitrary_directions():
    left, right = torch.from_numpy(normals(2, 30, 2)), torch.from_numpy(normals(2, 2, 20, seed=1))
    deltas = [(u.double() @ v.double()).float() for u, v in zip(left, right, strict=True)]
    found = spectra(deltas, 0.1)
    turned = [(left[0].double() @ torch.tensor([[0.0, 1], [1, 0]]).double() @ right[0][[1, 0]].double()).float()]
    assert all(np.allclose(x, y, rtol=1e-4) for x, y in zip(found, spectra([*turned, deltas[1]], 0.1), strict=True))
    assert (found.ranks <= 2 + 1e-6).all()


@pytest.mark.parametrize("shape", [(5, 1), (1, 5), (1, 1), (3, 3)], ids=str)
def test_odd_matrices_have_scores_or_none(shape):
    one, other = matrices(2, *shape)
    assert np.isfinite(spectra([one, other], 0.1).overlaps).all() and np.isfinite(spectra([one], 0.1).ranks).all()
    zero = spectra([one, torch.zeros(shape)], 0.1)
    assert np.isfinite(zero.ranks[0]).all() and np.isnan(zero.ranks[1]).all() and np.isnan(zero.overlaps).all()
    assert all(np.isnan(x).all() for x in spectra([torch.zeros(shape)] * 2, 0.1))
    assert all(np.isnan(x).all() for x in spectra([one, torch.full(shape, math.inf)], 0.1))


def test_more_models_than_directions_leave_no_triples():
    assert np.isnan(spectra(matrices(4, 3, 9), 0.1).interference).all()


def test_order_scale_sign_and_side_of_matrices():
    deltas = matrices(3, 30, 18)
    found = spectra(deltas, 0.2)
    swapped = spectra([deltas[1], deltas[0], deltas[2]], 0.2)
    np.testing.assert_allclose(swapped.overlaps, found.overlaps[[0, 2, 1]], rtol=1e-9)
    np.testing.assert_allclose(swapped.interference, found.interference, rtol=1e-9)
    scaled = spectra([-1e-4 * delta for delta in deltas], 0.2)
    np.testing.assert_allclose(scaled.ranks, found.ranks, rtol=1e-5)
    np.testing.assert_allclose(scaled.interference[1:], found.interference[1:], rtol=1e-5)
    turned = spectra([delta.T for delta in deltas], 0.2)
    np.testing.assert_allclose(turned.overlaps, found.overlaps[:, [2, 3, 0, 1]], rtol=1e-9)
    np.testing.assert_allclose(turned.interference, found.interference, rtol=1e-9)
    assert all(np.array_equal(x, y) for x, y in zip(found, spectra(deltas, 0.2), strict=True))


# --- whole models


def row(table, layer=ALL, kind=ALL, **who):
    """The one row of these models, layer and kind."""
    chosen = table[(table["layer"] == layer) & (table["kind"] == kind)]
    for column, value in who.items():
        chosen = chosen[chosen[column] == value]
    (found,) = chosen.to_dict("records")
    return found


def flat(held, names):
    return np.concatenate([held[name].double().numpy().ravel() for name in names])


@pytest.fixture(scope="module")
def found(f32):
    """The inspection of the pico models."""
    return inspect(f32[0], f32[1:], top=0.3)


@pytest.mark.parametrize("layer, kind, word", [
    (ALL, ALL, ""), ("0", ALL, "layers.0."), ("1", "down", "layers.1.mlp.down"), (ALL, "q", "q_proj"),
    (ALL, "norm", "norm"), (ALL, "head", "lm_head"), ("embed", "embedding", "embed"), ("norm", ALL, "model.norm"),
])  # fmt: skip
def test_scores_of_whole_models_are_numpys(found, f32, tensors, layer, kind, word):
    base, left, right = (tensors(folder) for folder in f32)
    names = [name for name in base if word in name]
    start = flat(base, names)
    one, two = flat(left, names) - start, flat(right, names) - start
    for model, delta, held in (("left", one, left), ("right", two, right)):
        scores = row(found.vectors, layer, kind, model=model)
        everything = np.linalg.norm(flat(held, base) - flat(base, base))
        assert scores["norm"] == pytest.approx(np.linalg.norm(delta), rel=1e-12)
        assert scores["relative_norm"] == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(start), rel=1e-12)
        assert scores["share"] == pytest.approx((delta**2).sum() / everything**2, rel=1e-12)
        assert scores["entries"] == len(start)
    scores = row(found.pairs, layer, kind)
    assert scores["pearson"] == pytest.approx(np.corrcoef(one, two)[0, 1], abs=1e-12)
    assert scores["cosine"] == pytest.approx(one @ two / np.linalg.norm(one) / np.linalg.norm(two), abs=1e-12)
    assert scores["distance"] == pytest.approx(np.linalg.norm(one - two), rel=1e-12)
    both, smaller = one * two != 0, np.minimum(abs(one), abs(two))
    assert scores["sign_conflict"] == pytest.approx((one * two < 0).sum() / both.sum(), rel=1e-12)
    assert scores["weighted_conflict"] == pytest.approx(smaller[one * two < 0].sum() / smaller.sum(), rel=1e-12)
    matrices = [n for n in names if base[n].dim() == 2 and n not in (EMBEDDING, HEAD)]
    if not matrices:
        assert math.isnan(scores["overlap_left"])
        return
    each = [oracle([(held[n] - base[n]).numpy() for held in (left, right)], 0.3) for n in matrices]
    ranks, overlaps, together = (np.mean(part, axis=0) for part in zip(*each, strict=True))
    scores = row(found.vectors, layer, kind, model="right")
    assert [scores["effective_rank"], scores["stable_rank"]] == pytest.approx(ranks[1], rel=1e-6)
    scores = row(found.pairs, layer, kind) | row(found.together, layer, kind)
    names = ["overlap_left", "overlap_left_null", "overlap_right", "overlap_right_null"]
    assert [scores[name] for name in names] == pytest.approx(overlaps[0], rel=1e-6)
    assert [scores["interference"], scores["relative_interference"]] == pytest.approx(together, rel=1e-6)


def test_shares_of_layers_and_of_kinds_make_the_whole(found):
    for by, other in (("layer", "kind"), ("kind", "layer")):
        parts_of = found.vectors[(found.vectors[by] != ALL) & (found.vectors[other] == ALL)]
        assert parts_of.groupby("model")["share"].sum().tolist() == pytest.approx([1, 1])
    layers = found.vectors.query("model == 'left' and kind == 'all'")["layer"].tolist()
    assert layers == [ALL, "embed", "0", "1", "norm", "lm_head"]


def test_neither_chunks_nor_threads_change_a_number(large, monkeypatch):
    """Two models in bfloat16, in several shards, with matrices of 256 rows."""
    expected = inspect(large[0], large[1:3], threads=1)
    for chunk, threads in ((1001, 3), (1 << 14, 2), (1 << 30, 1)):
        monkeypatch.setattr(parts, "CHUNK", chunk)
        again = inspect(large[0], large[1:3], threads=threads)
        for name in ("vectors", "pairs", "together"):
            pd.testing.assert_frame_equal(getattr(again, name), getattr(expected, name), check_exact=True)


def test_the_order_of_the_models_does_not_matter(f32, found):
    turned = inspect(f32[0], f32[:0:-1], top=0.3)
    columns = ["cosine", "pearson", "distance", "sign_conflict", "weighted_conflict", "overlap_left", "overlap_right"]
    np.testing.assert_allclose(turned.pairs[columns], found.pairs[columns], rtol=1e-9)
    np.testing.assert_allclose(turned.together.iloc[:, 2:], found.together.iloc[:, 2:], rtol=1e-9)


def test_equal_models_are_one(f32, tmp_path):
    same = shutil.copytree(f32[1], tmp_path / "same")
    scores = row(inspect(f32[0], [f32[1], same]).pairs)
    assert scores["cosine"] == pytest.approx(1) and scores["distance"] == scores["sign_conflict"] == 0
    assert scores["overlap_left"] == scores["overlap_right"] == pytest.approx(1)
    nothing = inspect(same, [f32[1]])
    assert row(nothing.vectors)["norm"] == 0 and math.isnan(row(nothing.vectors)["share"])
    assert any("equals same wherever it was sampled" in note for note in nothing.notes)
    assert "–" in as_text(nothing, [])


def test_with_one_model_there_are_no_pairs(f32):
    alone = inspect(f32[0], [f32[1]])
    assert alone.pairs.empty and alone.together.empty and row(alone.vectors)["effective_rank"] > 1
    text = as_text(alone, [])
    assert "with one fine-tuned model there is one task vector" in text and "sign conflict" not in text


def test_fast_leaves_the_decompositions_out(f32, found, monkeypatch):
    monkeypatch.setattr(parts, "decompose", None)
    quick = inspect(f32[0], f32[1:], fast=True)
    assert quick.vectors["effective_rank"].isna().all() and quick.together.empty
    pd.testing.assert_series_equal(quick.pairs["sign_conflict"], found.pairs["sign_conflict"])
    text = as_text(quick, [])
    assert "left out (--fast)" in text and "overlap of" not in text and "interference of" not in text


def test_embedding_and_head_are_decomposed_where_asked(f32, found):
    more = inspect(f32[0], f32[1:], top=0.3, embeddings=True)
    for kind in ("embedding", "head"):
        assert math.isnan(row(found.vectors, kind=kind, model="left")["effective_rank"])
        assert row(more.vectors, kind=kind, model="left")["effective_rank"] > 1
    assert "norm" not in set(more.together["kind"])


def test_vocabularies_of_unlike_size_are_compared_on_their_common_rows(worded, tensors):
    found = inspect(worded[0], worded[1:])
    base, left, _ = (tensors(folder) for folder in worded)
    delta = (left[EMBEDDING][:ROWS] - base[EMBEDDING]).double().norm()
    scores = row(found.vectors, kind="embedding", model="left")
    assert scores["entries"] == ROWS * 16 and scores["norm"] == pytest.approx(float(delta), rel=1e-9)
    assert f"note: rows of {EMBEDDING}: base {ROWS}, left 440, right 436; the first {ROWS} of each" in "".join(
        found.notes
    )


def test_a_tied_models_head_is_its_embedding(f32, tie, tensors):
    tied = tie(f32[1], "tied")
    found = inspect(f32[0], [f32[2], tied])
    base, own = tensors(f32[0]), tensors(tied)
    delta = (own[EMBEDDING] - base[HEAD]).double().norm()
    assert row(found.vectors, kind="head", model="tied")["norm"] == pytest.approx(float(delta), rel=1e-9)
    assert any("the head of tied is its embedding" in note for note in found.notes)
    every = inspect(tie(f32[0], "base"), [tied])
    assert "head" not in set(every.vectors["kind"])
    assert "share of ‖δ‖² in the head       –" in as_text(every, [])


def adapter(base, folder, seed, ranks=3):
    """A LoRA adapter of one matrix, and the matrix's task vector, float32."""
    folder.mkdir()
    stem, generator = "base_model.model.model.layers.0.mlp.down_proj", torch.Generator().manual_seed(seed)
    inputs = json.loads((base / "config.json").read_text())["intermediate_size"]
    a, b = torch.randn(ranks, inputs, generator=generator), 0.01 * torch.randn(16, ranks, generator=generator)
    save_file({f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}, folder / WEIGHTS)
    config = {"peft_type": "LORA", "r": ranks, "lora_alpha": ranks, "target_modules": ["layers.0.mlp.down_proj"]}
    (folder / ADAPTER).write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    return f"{base}+{folder}", b @ a


def test_an_adapter_is_read_as_the_model_that_it_makes(f32, tmp_path):
    named, delta = adapter(f32[0], tmp_path / "adapter", 0)
    found = inspect(f32[0], [f32[1], named])
    scores = row(found.vectors, "0", "down", model="adapter")
    assert scores["norm"] == pytest.approx(float(delta.norm()), rel=1e-4)
    assert scores["share"] == pytest.approx(1) and scores["effective_rank"] < 3 + 1e-3
    assert any("the adapter" in note and "is merged into" in note for note in found.notes)
    merged = {"merge_method": "linear", "models": [{"model": named}], "parameters": {"weight": 1}}
    whole = inspect(f32[0], [f32[1], acm.merge(merged, tmp_path / "whole")])
    np.testing.assert_allclose(whole.pairs.iloc[:, 4:], found.pairs.iloc[:, 4:], rtol=1e-6)


def test_rounding_gives_adapters_no_directions(f32, tmp_path):
    (one, first), (other, second) = (adapter(f32[0], tmp_path / name, seed) for seed, name in enumerate("ab"))
    found = inspect(f32[0], [one, other], top=1.0)
    scores = row(found.pairs, "0", "down") | row(found.together, "0", "down")
    assert scores["overlap_left_null"] == 3 / 16, "of sixteen directions, three are the adapter's own"
    expected = spectra([first, second], 1.0)
    assert scores["overlap_left"] == pytest.approx(expected.overlaps[0, 0], rel=1e-3)
    assert scores["relative_interference"] == pytest.approx(expected.interference[1], rel=1e-3)


# --- bad input


def test_models_that_do_not_fit_are_refused_as_in_a_merge(f32, variant, assert_refused, make_model, tmp_path):
    other = variant(f32[1], "other", {"rms_norm_eps": 1e-5})
    said = assert_refused("rms_norm_eps", models=None, left=other)
    with pytest.raises(UserError) as error:
        inspect(f32[0], [other])
    assert str(error.value) in said
    both = variant(f32[1], "both", {"rms_norm_eps": 1e-5, "hidden_act": "gelu"})
    with pytest.raises(
        UserError, match=r"these models do not fit:\n  .*rms_norm_eps|these models do not fit:\n  .*hidden_act"
    ):
        inspect(f32[0], [both])
    wide = make_model(tmp_path / "wide", hidden=32)
    with pytest.raises(UserError, match="was not fine-tuned from"):
        inspect(f32[0], [wide])


def test_numbers_that_are_not_finite_stop_it_in_one_sentence(f32, poisoned):
    for threads in (1, 3):
        with pytest.raises(UserError, match=rf"tensor {HEAD} holds 3 values that are NaN or infinite; fetch or train"):
            inspect(f32[0], [poisoned, f32[2]], threads=threads)


@pytest.mark.parametrize("top", [0, -0.1, 1.5, math.nan])
def test_a_fraction_outside_its_range_is_refused(f32, top):
    with pytest.raises(UserError, match=r"top: .* fraction in \(0, 1\]"):
        inspect(f32[0], f32[1:], top=top)


def test_two_models_of_one_name_are_refused(f32, tmp_path):
    again = shutil.copytree(f32[1], tmp_path / "left")
    with pytest.raises(UserError, match="names tell them apart"):
        inspect(f32[0], [f32[1], again])


# --- what is printed


WORTH = [
    {"of": "pair", "score": "cosine", "outcome": "accuracy", "families": 3, "merges": 40,
     "rank_correlation": 0.41, "low": 0.1, "high": 0.66,
     "p": 0.023, "in_kind": 0.1, "in_kind_low": -0.2, "in_kind_high": 0.4},
    {"of": "layer", "score": "cosine", "outcome": "length", "families": 2, "merges": 20,
     "rank_correlation": -0.2, "low": -0.5, "high": 0.1,
     "p": 1.0, "in_kind": None, "in_kind_low": None, "in_kind_high": None},
]  # fmt: skip


def test_what_a_score_was_worth_stands_beside_it(found, tmp_path):
    assert read_worth(tmp_path / "absent.json") == []
    (tmp_path / "worth.json").write_text(json.dumps(WORTH))
    worth = read_worth(tmp_path / "worth.json")
    pearson, cosine = (score for score in SCORES if score.name in ("pearson", "cosine"))
    assert (
        worth_text(pearson, worth) == UNKNOWN == "not validated" == worth_text(cosine, worth[1:])
    )  # that is of a layer
    assert worth_text(cosine, worth) == "1 of 1 outcome"
    assert worth_text(cosine, [row | {"p": 0.2} for row in worth[:1]] * 2) == "none of 2 outcomes"
    text = as_text(found, worth)
    first, *told = [re.split("  +", line) for line in text.splitlines() if line.startswith("cosine")]
    assert first[-1] == "1 of 1 outcome"
    assert told == [
        ["cosine", "pair", "accuracy", "+0.41 [+0.10, +0.66]", "+0.10 [-0.20, +0.40]", "0.023", "40", "3"],
        ["cosine", "layer", "length", "-0.20 [-0.50, +0.10]", "–", "1", "20", "2"],
    ]
    (line,) = [line for line in text.splitlines() if line.startswith("Pearson's r")]
    assert line.endswith(UNKNOWN) and "what the scores foretold" not in as_text(found, [])
    told = as_json(found, worth)
    assert told["scores"]["cosine"]["foretold"] == "1 of 1 outcome" and told["worth"] == WORTH


def test_the_command_prints_text(f32):
    done = CliRunner().invoke(app, ["inspect", *map(str, f32), "--threads", "1"])
    assert done.exit_code == 0
    for words in ("task vector of left", "all task vectors together", "what the scores foretold"):
        assert words in done.output
    assert "code drops the sign" in done.output and "independent 0.5 ±" in done.output and "lm_head" in done.output


def test_the_command_writes_markdown_and_json(f32, found, tmp_path):
    arguments = ["inspect", *map(str, f32), "--top", "0.3", "--out", str(tmp_path / "found")]
    printed = CliRunner().invoke(app, [*arguments, "--format", "markdown"]).output
    assert printed.startswith("inspection: ") and printed.count("\n") == 1
    text = (tmp_path / "found").read_text()
    assert "## left and right" in text and "| cosine " in text and r"min(\|δ_i\|, \|δ_j\|)" in text
    tables = [lines for lines in text.split("\n\n") if lines.startswith("|")]
    assert tables and all(len({line.replace(r"\|", "").count("|") for line in t.split("\n")}) == 1 for t in tables)
    assert CliRunner().invoke(app, [*arguments, "--format", "json"]).exit_code == 0
    told = json.loads((tmp_path / "found").read_text(), parse_constant=pytest.fail)
    assert told["base"] == "base" and told["finetuned"] == ["left", "right"] and told["settings"]["top"] == 0.3
    assert (
        len(told["vectors"]) == len(found.vectors)
        and told["vectors"][0]["norm"] == row(found.vectors, model="left")["norm"]
    )
    assert told["pairs"][0]["sign_conflict"] == row(found.pairs)["sign_conflict"]
    assert None in {entry["effective_rank"] for entry in told["vectors"]}


@pytest.mark.parametrize("arguments, says", [
    (["{base}", "{folder}/absent"], "does not exist"),
    (["{base}", "{left}", "--top", "2"], "--top: is 2.0"),
    (["{base}", "{left}", "--out", "{folder}"], "--out: '{folder}' is no file"),
    (["{base}", "{left}", "--format", "yaml"], None),
    (["{base}"], None),
])  # fmt: skip
def test_bad_arguments_end_in_a_sentence(f32, tmp_path, monkeypatch, arguments, says):
    monkeypatch.setattr(parts.Walk, "run", lambda self: pytest.fail("work was done"))
    names = {"base": f32[0], "left": f32[1], "folder": tmp_path}
    done = CliRunner().invoke(app, ["inspect", *(word.format(**names) for word in arguments)])
    assert done.exit_code != 0
    assert isinstance(done.exception, UserError | SystemExit)
    assert says is None or says.format(**names) in str(done.exception)


def test_a_name_cannot_forge_a_table(f32, tmp_path):
    odd = shutil.copytree(f32[1], tmp_path / "a|b<b>\x1b[31m")
    text = as_text(inspect(f32[0], [odd, f32[2]]), [], markdown=True)
    assert "\x1b" not in text and "<b>" not in text and r"a\|b" in text


def test_pairs_are_in_order():
    assert pairs(3) == [(0, 1), (0, 2), (1, 2)] and pairs(1) == []
    assert isinstance(spectra(matrices(1, 3, 3), 0.1), Spectra)
