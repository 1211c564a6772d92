"""A merge method with a parameter of its own is one function and one row: nothing else needs to know of it."""

import pytest
import torch
from helpers import example, names, recipe, run, same
from tensor_cases import BASE, FIRST, assert_close, merge

import acm
from acm.errors import UserError
from acm.merging import functions, registry
from acm.merging.functions import implements
from acm.merging.plan import make_plan
from acm.merging.primitives import task_vectors, weighted_sum
from acm.merging.recipe import load_recipe
from acm.merging.registry import METHODS, MergeMethod, Parameter

CLIPPED = MergeMethod(
    "clipped", "Clipped task arithmetic", "https://example.org/clipped", "θ_0 + Σ λ_i clip(δ_i, −limit, limit)",
    "a clip", "1 pass",
    (registry.WEIGHT, Parameter("limit", "a change, above 0", lambda v: v > 0, per_model=True, slider=(0.01, 2.0))),
    example={"weight": 0.5, "limit": 0.01},
)  # fmt: skip


@pytest.fixture(autouse=True)
def clipped(monkeypatch):
    """The method, registered for one test."""
    for names_of in (registry.METHODS, functions.FUNCTIONS):
        monkeypatch.setitem(names_of, "clipped", None)  # so that it is forgotten afterwards
    METHODS["clipped"] = CLIPPED

    @implements("clipped")
    def merge_clipped(base, finetuned, s):
        """θ_0 + Σ λ_i clip(δ_i, −limit_i, limit_i)."""
        limits = s.numbers["limit"]
        deltas = [d.clamp(-limit, limit) for d, limit in zip(task_vectors(base, finetuned), limits, strict=True)]
        return base.float() + weighted_sum(s.coefficients, deltas)


def test_its_function_gets_its_parameter():
    assert_close(merge("clipped", [FIRST], [0.5], numbers={"limit": [1.0]}), BASE + 0.5 * FIRST.clamp(-1, 1))


def test_a_recipe_gives_each_model_its_own_along_the_layers(f32, merged, tensors):
    content = recipe("clipped", *f32, parameters={"weight": 0.5, "limit": [0.01, 0.02]})
    content["models"][1]["parameters"] = {"limit": 0.005}
    found, (base, left, right) = merged(content), map(tensors, f32)
    for name, limit in (("model.norm.weight", 0.01), ("model.layers.1.mlp.up_proj.weight", 0.02)):
        changes = [(model[name] - base[name]).clamp(-most, most) for model, most in ((left, limit), (right, 0.005))]
        torch.testing.assert_close(found[name], base[name] + 0.5 * sum(changes), rtol=0, atol=1e-7)


@pytest.mark.parametrize("change, words", [
    ({"limit": 0}, "limit is a change, above 0, not 0"),
    ({"limit": "wide"}, "limit must be a number"),
    ({"limit": float("inf")}, "limit must be a finite number"),
    ({"limt": 1}, "Did you mean 'limit'"),
])  # fmt: skip
def test_its_parameter_is_checked(f32, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        acm.merge(recipe("clipped", *f32, parameters={"weight": 0.5} | change), tmp_path / "out")
    with pytest.raises(UserError, match="needs `limit`"):
        acm.merge(recipe("clipped", *f32, parameters={"weight": 0.5}), tmp_path / "out")
    assert not names(tmp_path)


def test_the_check_is_ready_and_promises_no_time(f32):
    plan = make_plan(*load_recipe(example("clipped", f32))).check()
    assert len(plan.jobs) == 27 and not any("two cores" in finding.text for finding in plan.findings)


def test_acms_coefficients_replace_its_weight_and_zero_copies_the_base(f32, merged, tensors):
    by_weight = merged(example("clipped", f32))
    content = recipe("clipped", *f32, parameters={"limit": 0.01})
    assert same(merged(content | {"coefficients": [0.5]}), by_weight)
    assert same(merged(content | {"coefficients": [0.0]}), tensors(f32[0]))


def test_it_is_listed_in_the_docs():
    assert "| Clipped task arithmetic | `clipped` | θ_0 + Σ λ_i clip" in registry.table()
    assert "`{weight: 0.5, limit: 0.01}`" in registry.table()


def test_another_process_has_never_heard_of_it(tmp_path):
    status, stdout, _ = run("-m", "acm", "methods", cwd=tmp_path)
    assert status == 0 and "`linear`" in stdout and "clipped" not in stdout
