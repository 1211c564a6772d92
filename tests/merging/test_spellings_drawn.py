"""Drawn recipes: mergekit reads and writes each, and finds the same number for every tensor."""

import copy
from itertools import pairwise

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mergekit.config import ConfigReader, MergeConfiguration, OutputModuleDefinition
from mergekit.merge_methods.base import ParameterScope, ParameterSpec
from mergekit.parameter_resolver import resolve_parameter

from acm.checkpoints import layer_of
from acm.errors import UserError
from acm.merging.recipe import load_recipe
from acm.merging.settings import place

DEPTH = 5
INSIDE = [f"model.layers.{i}.{part}.weight" for i in range(DEPTH) for part in ("mlp.up_proj", "self_attn.q_proj")]
BEFORE, AFTER = ["model.embed_tokens.weight"], ["model.norm.weight", "lm_head.weight"]
SPECS = {
    "weight": ParameterSpec("weight", float, ParameterScope.NON_BASE),
    "density": ParameterSpec("density", float, ParameterScope.NON_BASE, default=1.0),
    "lambda": ParameterSpec("lambda", float, ParameterScope.SHARED, default=1.0),
    "normalize": ParameterSpec("normalize", bool, ParameterScope.SHARED, default=True),
}
OWN = ("weight", "density")


def forms(value):
    """Spellings of a number."""
    return st.sampled_from([value, str(value), f"{value:.6e}", f" {value}"])


def setting(leaf):
    """What a parameter may be: a value, a list along the layers, or conditions."""
    scalar = st.one_of(leaf, st.lists(leaf, min_size=1, max_size=4))
    condition = st.fixed_dictionaries(
        {"value": scalar},
        optional={"filter": st.sampled_from(["mlp", "self_attn", "*", "layers.1.", "norm", "lm_head"])},
    )
    return st.one_of(scalar, condition, st.lists(condition, min_size=1, max_size=3))


NUMBERS = setting(st.integers(1, 40).map(lambda n: n / 40).flatmap(forms) | st.just(1))
FLAGS = setting(st.sampled_from([True, False, 1, 0, 1.0, 0.0, "true", "false", "yes", "off"]))
ALL = {"weight": NUMBERS, "density": NUMBERS, "lambda": NUMBERS, "normalize": FLAGS}


def parameters(names):
    """Some parameters, or an empty block, or none."""
    return st.none() | st.fixed_dictionaries({}, optional={name: ALL[name] for name in names})


@st.composite
def recipes(draw):
    """A recipe of TIES, its layers in one or several slices, or as models, with or without modules."""
    ends = sorted(draw(st.sets(st.integers(1, DEPTH - 1), max_size=3)) | {0, DEPTH})
    body = {}
    if draw(st.booleans()):
        body["models"] = [{"model": m, "parameters": draw(parameters(OWN))} for m in ("left", "right")]
    else:
        body["slices"] = [
            {
                "sources": [
                    {"model": model, "layer_range": list(found), "parameters": draw(parameters(OWN))}
                    for model in draw(st.permutations(["left", "base", "right"]))
                ],
                "parameters": draw(parameters(ALL)),
            }
            for found in pairwise(ends)
        ]
    if draw(st.booleans()):
        body = {"modules": {"default": body | {"parameters": draw(parameters(ALL))}}}
    shared = (draw(parameters(ALL)) or {}) | {"weight": draw(NUMBERS)}
    return {"merge_method": "ties", "base_model": "base", "parameters": shared} | body


def slices_of(config):
    """The slices of a configuration, each with the reader of its parameters, as mergekit's planner makes them."""
    module = (config.modules or {}).get("default") or OutputModuleDefinition(slices=config.slices, models=config.models)
    if module.models:
        sources = [{**dict(model), "layer_range": (0, DEPTH)} for model in module.models]
        module = OutputModuleDefinition.model_validate(
            {"slices": [{"sources": sources}], "parameters": module.parameters}
        )
    return [ConfigReader(config=config, t=0, slice_out=part, module=module) for part in module.slices]


def found_by_mergekit(config, name, tensor, model):
    """The number that mergekit gives a tensor of one of the models; None where it misses one."""
    readers = slices_of(config)
    layer, t = layer_of(tensor), 0.0
    reader = readers[0] if layer == "embed" else readers[-1]
    if layer.isdecimal():
        ranges = [reader.slice_out.sources[0].layer_range for reader in readers]
        number = next(i for i, (start, stop) in enumerate(ranges) if start <= int(layer) < stop)
        reader, (start, stop) = readers[number], ranges[number]
        t = (int(layer) - start) / (stop - start - 1) if stop - start > 1 else 1
    reference = next(s.model for s in reader.slice_out.sources if str(s.model) == model) if name in OWN else None
    sources = reader.with_t(t).parameter_sources(reference)
    try:
        return resolve_parameter(SPECS[name], sources, tensor_name=tensor, t=t)
    except RuntimeError:
        return None


def found_here(recipe, name, tensor, model):
    """The number that a recipe of ours gives it; None where it misses one."""
    entry = next(entry for entry in recipe.finetuned if entry.model == model)
    try:
        return recipe.setting(name, entry if name in OWN else None, tensor, place(layer_of(tensor), DEPTH))
    except UserError:
        return None


@settings(max_examples=150, deadline=None)
@given(recipes())
def test_every_tensor_gets_the_number_that_mergekit_gives_it(content):
    config = MergeConfiguration.model_validate(content)
    found, back = load_recipe(content)[0], load_recipe(yaml.safe_load(config.to_yaml()))[0]
    for tensor in BEFORE + INSIDE + AFTER:
        for name in SPECS:
            for model in ("left", "right"):
                ours, theirs = (found_here(recipe, name, tensor, model) for recipe in (found, back))
                assert ours == theirs
                assert ours == pytest.approx(found_by_mergekit(config, name, tensor, model), abs=1e-12), (tensor, name)


LEAVES = (st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just(10**400), st.binary())
JUNK = st.recursive(
    st.one_of(LEAVES),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=2),
    max_leaves=4,
)


def places_in(content, place=()):
    """The place of every value within a recipe."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*place, key)
        yield from places_in(value, (*place, key))


@settings(max_examples=400, deadline=None)
@given(recipes(), st.data())
def test_junk_anywhere_in_a_recipe_is_refused_in_words_or_read(content, data):
    content |= {
        "tokenizer": {"source": "base"},
        "chat_template": "auto",
        "coefficients": {"left": [1], "right": {"0": 1}},
    }
    *parents, last = data.draw(st.sampled_from(list(places_in(content))))
    holder = content = copy.deepcopy(content)
    for key in parents:
        holder = holder[key]
    junk = data.draw(JUNK)
    if isinstance(holder, dict) and data.draw(st.booleans()):
        holder[data.draw(st.text(max_size=3) | st.integers())] = junk
    else:
        holder[last] = junk
    try:
        load_recipe(content)
    except UserError as error:
        assert "\n\n" not in str(error) and "pydantic" not in str(error)
