"""Writes what lies beside a merge's weights: config, tokenizer, recipe, coefficients and the model card."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import acm
from acm.adapters import Adapted
from acm.checkpoints import ADAPTER, Checkpoint
from acm.escaping import code, prose
from acm.files import write_json, write_text
from acm.headers import TensorInfo
from acm.merging.chat import chosen_template, write_template
from acm.merging.companions import ADDED, GENERATION, TOKENIZER, TOKENIZER_CONFIG, Companions
from acm.merging.plan import Plan
from acm.merging.settings import layer_order
from acm.reading import read_json

REVISION = re.compile(r"models--(.+?)--(.+?)/snapshots/([0-9a-f]{40})")


def write_companions(folder: Path, plan: Plan, hash_inputs: bool = False) -> None:
    """Everything that a model folder holds beside its weights. hash_inputs: as in :func:`origin`."""
    source = plan.companions[plan.alignment.source]
    write_json(folder / "config.json", plan.config, indent=2)
    if plan.generation == source.json(GENERATION) and plan.generation:
        shutil.copyfile(source.files[GENERATION], folder / GENERATION)
    elif plan.generation:
        write_json(folder / GENERATION, plan.generation, indent=2)
    write_tokenizer(source, folder, plan.alignment.added)
    template = chosen_template(plan.recipe.chat_template, plan.companions)
    if template and template != source.templates.get("default"):
        write_template(folder, template)
    write_text(folder / "recipe.yml", recipe_text(plan))
    if plan.inputs.coefficients:
        content = {
            model: {layer: found[layer] for layer in sorted(found, key=layer_order)}
            for model, found in plan.inputs.coefficients.items()
        }
        write_json(folder / "coefficients.json", {"coefficients": content})
    write_text(folder / "README.md", printable(model_card(plan, hash_inputs)))


def printable(text: str) -> str:
    """The text with what UTF-8 cannot hold written out; names of tensors and models are not ours."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_tokenizer(source: Companions, out: Path, added: list[dict[str, Any]]) -> None:
    """The source's tokenizer and processor files, without what names code, and with further added tokens."""
    for name, path in source.files.items():
        if name in ("config.json", GENERATION):
            continue
        (out / name).parent.mkdir(exist_ok=True)
        content = source.json(name) if path.suffix == ".json" and name != TOKENIZER else {}
        if "auto_map" in content:
            replaced = {"tokenizer_class": "PreTrainedTokenizerFast"} if name == TOKENIZER_CONFIG else {}
            write_json(out / name, {k: v for k, v in content.items() if k != "auto_map"} | replaced, indent=2)
        else:
            shutil.copyfile(path, out / name)
    if not added:
        return
    content = read_json(out / TOKENIZER)
    content["added_tokens"] = [*(content.get("added_tokens") or []), *added]
    write_text(out / TOKENIZER, json.dumps(content, ensure_ascii=False))
    if (out / TOKENIZER_CONFIG).is_file():
        config = read_json(out / TOKENIZER_CONFIG)
        if config.get("added_tokens_decoder"):
            config["added_tokens_decoder"] |= {str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in added}
            write_json(out / TOKENIZER_CONFIG, config, indent=2, ensure_ascii=False)
    if (out / ADDED).is_file():
        write_json(out / ADDED, read_json(out / ADDED) | {e["content"]: e["id"] for e in added}, ensure_ascii=False)


def recipe_text(plan: Plan) -> str:
    """The recipe as YAML, without what is at its default."""
    return yaml.safe_dump(plan.recipe.model_dump(exclude_none=True, exclude_defaults=True), sort_keys=False)


def origin(model: Checkpoint, hash_inputs: bool) -> str:
    """Which model this is: its hub revision, else size and hash of the headers. Of an adapter, its base's too.

    hash_inputs: a hash of the contents too.
    """
    if isinstance(model, Adapted):
        own, config = identified(model.folder, model.changed, True), (model.folder / ADAPTER).read_bytes()
        setting = f"adapter, {ADAPTER} sha256 `{hashlib.sha256(config).hexdigest()[:16]}`"
        return f"{setting}, {own}; merged into {code(model.base.name)}: {origin(model.base, hash_inputs)}"
    return identified(model.folder, model.tensors, hash_inputs)


def identified(folder: Path, tensors: Mapping[str, TensorInfo], hash_inputs: bool) -> str:
    """:func:`origin` of the files of some tensors."""
    files = sorted({info.file for info in tensors.values()})
    if found := REVISION.search(str(folder.absolute())):
        text = f"hub revision `{found[3]}` of `{found[1]}/{found[2]}`"
    else:
        described = json.dumps(
            {n: [i.dtype, i.shape, i.file.name, i.start, i.stop] for n, i in sorted(tensors.items())}
        )
        digits = hashlib.sha256(described.encode()).hexdigest()[:16]
        text = f"{sum(f.stat().st_size for f in files)} bytes, headers sha256 `{digits}`"
    if hash_inputs:
        digest = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        text += f", contents sha256 `{digest.hexdigest()}`"
    return text


def model_card(plan: Plan, hash_inputs: bool) -> str:
    """A card with Hugging Face metadata, the recipe, the identity of every input and what was chosen."""
    models = list({tuple(model.folders): model for model in plan.models}.values())
    header = yaml.safe_dump(
        {"base_model": [model.name for model in models], "library_name": "transformers", "tags": ["merge", "acm"]}
    )
    listed = "\n".join(f"- {code(model.name)}: {origin(model, hash_inputs)}" for model in models)
    noted = "\n".join(f"- {prose(finding)}" for finding in plan.findings if "GB are free" not in finding.text)
    recipe, method = recipe_text(plan), plan.recipe.method
    fence = max(["```", *(f"{ticks}`" for ticks in re.findall("`{3,}", recipe))], key=len)
    by_layer = "" if plan.recipe.coefficients is None else " with coefficients by layer"
    known = {"acm": " with ACM coefficients (arXiv:2505.14009)", "": by_layer}
    by_layer = known.get(plan.inputs.rule, f"{by_layer}, rule `{plan.inputs.rule}`")
    return (
        f"---\n{header}---\n\n# {method.title}{by_layer}\n\n"
        f"Merged by acm {acm.__version__}, method [{method.paper}]({method.url}).\n\n"
        f"## Inputs\n\n{listed}\n\n## Recipe\n\n{fence}yaml\n{recipe}{fence}\n"
        + (f"\n## Findings\n\n{noted}\n" if noted else "")
    )
