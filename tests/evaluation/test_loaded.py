"""A model that stays loaded answers as the folder does whose tensors it has taken."""

import pytest
import torch
from helpers import recipe
from helpers_evaluation import FAST, SLOW

import acm
from acm.errors import UserError
from acm.evaluation.harness import stay_loaded
from acm.evaluation.loaded import frame_of
from acm.evaluation.tensors import checksum
from acm.merging.tensors import planned
from acm.merging.unwritten import Unwritten

ENGINE = acm.Engine(batch_size=4)
ASKED = {"tasks": ["abacus_easy"], "items": 6, "max_tokens": 20, "engine": ENGINE}


def source(folder, weight, *models, **extra):
    models = models or (FAST, SLOW)
    plan = planned(recipe("task_arithmetic", *models, parameters={"weight": weight}, **extra))
    return Unwritten(plan, folder / "merged")


@pytest.fixture(scope="module")
def held():
    return stay_loaded(FAST, ENGINE, 20, "known")


def test_its_records_are_those_of_the_folder_and_of_its_kept_batches(held, tmp_path, monkeypatch):
    folder = acm.merge(recipe("task_arithmetic", FAST, SLOW, parameters={"weight": 0.6}), tmp_path / "merged")
    expected = acm.evaluate(folder, keep=tmp_path / "kept", **ASKED)
    held.take(source(tmp_path / "a", 0.9))
    other = acm.evaluate(held, **ASKED)
    held.take(source(tmp_path / "b", 0.6))
    assert acm.evaluate(held, **ASKED).equals(expected) and not other.equals(expected)
    monkeypatch.setattr(held.lm, "generate_batch", lambda requests: 1 / 0)
    assert acm.evaluate(held, keep=tmp_path / "kept", **ASKED).equals(expected)


def test_what_it_was_not_loaded_for_is_refused(held):
    for changed in ({"engine": acm.Engine(batch_size=5)}, {"max_tokens": 21}):
        with pytest.raises(UserError, match=r"loaded with .* and a cap of 20 tokens"):
            acm.evaluate(held, **ASKED | changed)


def test_a_model_that_is_taken_by_half_is_not_asked(held, tmp_path):
    half = source(tmp_path, 0.3)
    stream = half.tensors()
    half.tensors = lambda: iter([next(stream), next(stream)])
    with pytest.raises(UserError, match="has no tensor"):
        held.take(half)
    with pytest.raises(UserError, match="has not taken all weights"):
        acm.evaluate(held, **ASKED)


def test_another_config_tokenizer_or_shape_does_not_fit(held, f32, variant, tmp_path):
    assert not held.misfit(source(tmp_path / "a", 0.3))
    assert "another config.json" in held.misfit(source(tmp_path / "b", 0.3, *f32[:2]))
    said = variant(FAST, "said", {"dtype": "bfloat16", "transformers_version": "1"})
    assert frame_of(said) == frame_of(FAST)  # an engine does not go by these
    more = variant(FAST, "more", tokenizer=lambda content: content["added_tokens"].pop())
    assert frame_of(more).keys() == frame_of(FAST).keys() and frame_of(more) != frame_of(FAST)
    shapes = source(tmp_path / "c", 0.3).shapes
    name = min(shapes)
    assert f"tensor {name} of the merge" in held.lm.misfit(shapes | {name: (1, 2)})
    assert "has no tensor" in held.lm.misfit({key: shape for key, shape in shapes.items() if key != name})


def test_numbers_that_the_dtype_cannot_hold_are_refused_as_from_a_folder(variant, tmp_path):
    def large(tensors):
        tensors["model.norm.weight"][0] = 1e30

    huge = variant(FAST, "huge", weights=large)
    held = stay_loaded(FAST, acm.Engine(dtype="float16"), 20, "known")
    with pytest.raises(UserError, match=r"tensor model.norm.weight of merged has NaN or infinite values in"):
        held.take(source(tmp_path, 0.0, huge, SLOW, dtype="float32"))
    with pytest.raises(UserError, match=r"tensor model.norm.weight of .* has NaN or infinite values in"):
        stay_loaded(huge, acm.Engine(dtype="float16"), 20)


def test_the_checksum_is_that_of_every_bit_name_and_shape():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2), "b": torch.nn.Linear(2, 2, bias=False)})
    sums = {checksum(model)}
    with torch.no_grad():
        model["a"].weight[1, 2] *= -1
        sums.add(checksum(model))
        model["a"].bias.zero_()
        sums.add(checksum(model))
        model["a"].bias.neg_()
        sums.add(checksum(model))  # −0 is not +0
    sums.add(checksum(model.to(torch.bfloat16)))
    model["c"] = model.pop("b")
    sums.add(checksum(model))
    assert len(sums) == 6
