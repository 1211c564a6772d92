"""Writes a recipe and its coefficients as mergekit's own YAML. It refuses what mergekit cannot reproduce, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from acm.adapters import Adapted
from acm.checkpoints import Checkpoint, layer_of
from acm.errors import UserError
from acm.merging.mergekit import OUTSIDE
from acm.merging.parameters import conditions, resolve
from acm.merging.plan import Plan
from acm.merging.settings import place
from acm.merging.weights import mergekit_differs

SAMPLED = 1_000_000  # entries from which mergekit's arcee_fusion takes the quantiles of a larger tensor


def mergekit_recipe(plan: Plan, folder: Path) -> str:
    """YAML for mergekit 0.1.5.

    folder: where the recipe's relative paths start. They become absolute, since mergekit reads them from the working
    directory. UserError for methods that mergekit lacks or does at random, and for settings that it has no word for.
    """
    recipe, method = plan.recipe, plan.recipe.method
    refuse_what_differs(plan)

    models: list[dict[str, Any]] = [
        {"model": reference(entry.model, model, folder), "parameters": parameters(plan, name, entry.parameters)}
        for entry, model, name in zip(recipe.finetuned, plan.models[1:], recipe.names, strict=True)
    ]
    shared = {k: v for k, v in recipe.parameters.items() if not (k == "weight" and recipe.coefficients is not None)}
    if method.coefficient and not method.coefficient.per_model and recipe.base_model:  # SLERP: lists the base, has `t`
        models = [
            {"model": reference(recipe.base_model, plan.base, folder)},
            *({"model": model["model"]} for model in models),
        ]
        if plan.inputs.coefficients is not None:
            shared[method.coefficient.name] = along_layers(plan, plan.inputs.coefficients[recipe.names[0]])
    content: dict[str, Any] = {
        "merge_method": recipe.merge_method,
        "base_model": reference(recipe.base_model, plan.base, folder)
        if recipe.base_model and (method.needs_base or method.from_zero)
        else None,
        "models": models,
        "parameters": flat(plan, shared),
        "dtype": "float32",
        "out_dtype": plan.config["dtype"],
        "tokenizer_source": tokenizer_source(plan),
        "chat_template": recipe.chat_template,
    }
    return yaml.safe_dump({k: v for k, v in content.items() if v not in (None, {}, [])}, sort_keys=False)


def reference(name: str, model: Checkpoint, folder: Path) -> str | dict[str, Any]:
    """A model as mergekit reads it: text, or a mapping where a folder's path has marks that mergekit splits text at."""
    parts = [name] if (folder / name).is_dir() else name.split("+")
    if isinstance(model, Adapted) and len(parts) == 1:  # mergekit wants the adapter's base named
        parts = [str(model.base.folder), name]
    paths = [str((folder / part).resolve()) if (folder / part).is_dir() else part for part in parts]
    if not any(mark in path for path in paths if path.startswith("/") for mark in "+@"):
        return "+".join(paths)
    return {key: {"path": path} for key, path in zip(("model", "lora"), paths, strict=False)}


def refuse_what_differs(plan: Plan) -> None:
    """UserError that names everything in a plan that mergekit would do otherwise."""
    recipe, method, several = plan.recipe, plan.recipe.method, len(plan.recipe.finetuned) > 1
    coefficients = recipe.coefficients is not None
    election = recipe.election or ("unweighted" if coefficients else "weighted")
    padding = recipe.tokenizer_source is not None and padded(plan)
    reasons = {
        f"merge_method {recipe.merge_method}": method.mergekit != "same",
        "scope: global": recipe.scope == "global",
        "election: unweighted with several models": method.elects and several and election == "unweighted",
        "tie_word_embeddings": recipe.tie_word_embeddings is not None,
        "models whose heads are tied and untied": len({model.tied for model in plan.models}) > 1,
        "embeddings of unlike length or order": plan.alignment.maps is not None,
        "`tokenizer_source` with padding rows, which it drops": padding,
        "folders with an index beside model.safetensors, wrapped names or a tied head that is stored": any(
            map(mergekit_differs, plan.models)
        ),
        "several adapters on one model": any(
            isinstance(m, Adapted) and isinstance(m.base, Adapted) for m in plan.models
        ),
        f"coefficients with {recipe.merge_method}": coefficients and method.coefficient is None,
        **method_reasons(plan),
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise UserError(f"mergekit cannot reproduce this recipe: it has no equal of {'; '.join(found)}.")


def method_reasons(plan: Plan) -> dict[str, bool]:
    """What mergekit does otherwise within a method that both have → whether the plan has it."""
    method, settings = plan.recipe.method, [job.settings for job in plan.jobs]
    coefficients, flag = plan.recipe.coefficients is not None, method.normalizer
    ratios = coefficients and method.from_zero
    divided = f"{flag and flag.name}: true with coefficients, which divides by the number of models"
    sampled = f"{method.name} of tensors above {SAMPLED:,} entries, of which it draws a sample"
    return {
        divided: coefficients and normalizes(plan),
        "coefficients of 0 for all models": ratios and any(not any(own.coefficients) for own in settings),
        "coefficients of a single model": ratios and len(plan.recipe.finetuned) == 1,
        "weights_only: true": any(own.numbers.get("weights_only") for own in settings),
        sampled: method.name == "arcee_fusion" and any(job.size > SAMPLED for job in plan.jobs),
    }


def padded(plan: Plan) -> bool:
    """Whether the embedding has rows without a token."""
    found = plan.companions[plan.alignment.source].vocabulary
    return found is None or plan.alignment.rows != len(set(found.ids.values())) + len(plan.alignment.added)


def tokenizer_source(plan: Plan) -> str | None:
    """The recipe's tokenizer source. A model is named by its absolute path."""
    given = plan.recipe.tokenizer_source
    return given if given in (None, "base", "union") else str(plan.models[plan.alignment.source].folder.resolve())


def normalizes(plan: Plan) -> bool:
    """Whether the sum is divided."""
    flag = plan.recipe.method.normalizer
    return flag is not None and plan.recipe.setting(flag.name)


def parameters(plan: Plan, name: str, own: dict[str, Any]) -> dict[str, Any]:
    """A model's parameters, λ as its weight."""
    coefficients, replaced = plan.inputs.coefficients, plan.recipe.method.coefficient
    own = flat(plan, own)
    if coefficients is None or replaced is None or not replaced.per_model:
        return own
    return own | {replaced.name: along_layers(plan, coefficients[name])}


def along_layers(plan: Plan, coefficients: dict[str, float]) -> list[dict[str, Any]]:
    """λ as mergekit writes it: a filter for each layer outside the blocks, then a list with a value for each block."""
    present = [layer for layer, name in OUTSIDE.items() if any(name in job.name for job in plan.jobs)]
    outside = [{"filter": OUTSIDE[layer], "value": coefficients[layer]} for layer in present]
    return [*outside, {"value": [coefficients[str(i)] for i in range(plan.blocks)]}]


def flat(plan: Plan, given: dict[str, Any]) -> dict[str, Any]:
    """Parameters whose filters lie within filters, as of several slices, with a filter for each tensor instead."""

    def nested(setting: Any) -> bool:
        return any(isinstance(item["value"], list) and any(isinstance(v, dict) for v in item["value"])
                   for item in conditions(setting))  # fmt: skip

    def listed(setting: Any) -> list[dict[str, Any]]:
        found = {job.name: resolve(setting, job.name, place(layer_of(job.name), plan.blocks)) for job in plan.jobs}
        return [{"filter": name, "value": value} for name, value in found.items() if value is not None]

    return {key: listed(setting) if nested(setting) else setting for key, setting in given.items()}
