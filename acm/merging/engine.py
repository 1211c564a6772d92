"""Runs a recipe over checkpoints, shard by shard: float32 arithmetic, storage in the output dtype.

The paper's code merges in bf16; float32 differs from it by rounding alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from itertools import groupby
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

import acm
from acm import checkpoints
from acm.checkpoints import check_finite, check_same_shape, identity, layer_of, model_folder, opened, weight_files
from acm.errors import UserError
from acm.merging.recipe import Recipe, load_recipe, read_coefficients


def merge(recipe: str | Path | dict | Recipe, out: str | Path, folder: Path | None = None) -> Path:
    """Merge as the recipe says into the model folder ``out``, which appears complete or not at all.

    recipe: path, dict or Recipe. folder: where its relative paths start (default: the recipe file's folder, else the
    working directory). Returns ``out``. Raises UserError for a bad recipe, a missing, unlike or broken
    model, or an ``out`` that exists.
    """
    recipe, home = load_recipe(recipe)
    folder = folder or home
    out = Path(out)
    if out.exists():
        raise UserError(f"output folder {out} exists; remove it or name another.")
    base = model_folder(folder / (recipe.base_model or recipe.models[0].model))
    finetuned = {Path(e.model).name: model_folder(folder / e.model) for e in recipe.finetuned}
    for model in finetuned.values():
        check_same_shape(base, model)
    coefficients = None
    if recipe.coefficients:
        layers = {layer_of(tensor) for tensor in weight_files(base)}
        coefficients = read_coefficients(folder / recipe.coefficients, list(finetuned), layers)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    made = [parent for parent in out.parents if not parent.exists()]
    part.mkdir(parents=True)
    try:
        write_weights(part, recipe, base, finetuned, coefficients)
        write_companions(part, recipe, base, finetuned, coefficients)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # another merge may have begun in it
                parent.rmdir()
        raise
    return out


def write_weights(part: Path, recipe: Recipe, base: Path, finetuned: dict[str, Path],
                  coefficients: dict[str, dict[str, float]] | None) -> None:  # fmt: skip
    """Merged shards, laid out as the base's, and their index if there are several."""
    files = weight_files(base)
    others = {name: weight_files(path) for name, path in finetuned.items()}
    weight_map, size = {}, 0
    progress = tqdm(total=len(files), desc=f"merging ({recipe.merge_method})", unit="tensor", mininterval=5)
    for shard, names in groupby(sorted(files, key=lambda n: (str(files[n]), n)), key=files.get):
        merged = {}
        for name in names:
            tensors = [read(path, name) for path in (shard, *(o[name] for o in others.values()))]
            merged[name] = merge_tensor(name, tensors[0], dict(zip(others, tensors[1:], strict=True)), recipe, coefficients)
            weight_map[name] = shard.name
            size += merged[name].nbytes
            progress.update()
        save_file(merged, part / shard.name, metadata={"format": "pt"})
        (part / shard.name).chmod(0o644)
    progress.close()
    if len(set(weight_map.values())) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (part / checkpoints.INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def read(path: Path, name: str) -> Tensor:
    with opened(path) as shard:
        return check_finite(shard.get_tensor(name), name, path)


def merge_tensor(name: str, base: Tensor, finetuned: dict[str, Tensor], recipe: Recipe,
                 coefficients: dict[str, dict[str, float]] | None) -> Tensor:  # fmt: skip
    """One merged tensor in the output dtype."""
    entries = recipe.finetuned
    if coefficients:
        weights = [coefficients[model][layer_of(name)] for model in finetuned]
    else:
        weights = [recipe.parameter("weight", entry) for entry in entries]
    keys = recipe.method.parameters
    settings = {"normalize": recipe.parameter("normalize")} if "normalize" in keys else {}
    settings |= {"density": [recipe.parameter("density", e) for e in entries]} if "density" in keys else {}
    scaling = recipe.parameter("lambda") if "lambda" in keys else 1.0
    dtype = getattr(torch, recipe.out_dtype or recipe.dtype or str(base.dtype).removeprefix("torch."))
    if recipe.merge_method in {"linear", "task_arithmetic", "interpolation"}:
        # float32 base + 1 · (f − base) is not f to the last bit: such a tensor is copied
        if recipe.merge_method != "linear" and not any(weights):
            return base.to(dtype)
        if len(weights) == 1 and weights[0] == 1 == scaling:
            return next(iter(finetuned.values())).to(dtype)
    merged = recipe.method.merge(
        base, list(finetuned.values()), weights, divisors=[1.0] * len(weights) if coefficients else weights,
        scaling=scaling, election=recipe.election or ("unweighted" if coefficients else "weighted"),
        generators=[seeded(recipe.seed, name, model) for model in finetuned], **settings,
    )  # fmt: skip
    return merged.to(dtype)


def seeded(seed: int, tensor: str, model: str) -> torch.Generator:
    """A generator whose numbers depend on nothing but these three."""
    digest = hashlib.sha256(f"{seed}/{tensor}/{model}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def write_companions(part: Path, recipe: Recipe, base: Path, finetuned: dict[str, Path],
                     coefficients: dict[str, dict[str, float]] | None) -> None:  # fmt: skip
    """Config, generation config and tokenizer of the base (as the paper's code), the recipe and the model card."""
    config = json.loads((base / "config.json").read_text())
    old = config.pop("torch_dtype", None)  # the name of older versions of transformers
    config["dtype"] = recipe.out_dtype or recipe.dtype or config.get("dtype") or old or "float32"
    (part / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("generation_config.json", *checkpoints.TOKENIZER_FILES):
        if (base / name).is_file():
            shutil.copyfile(base / name, part / name)
    content = recipe.model_dump(exclude_none=True, exclude_defaults=True)
    (part / "recipe.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    if coefficients:
        (part / "coefficients.json").write_text(json.dumps({"coefficients": coefficients}, indent=1) + "\n")
    inputs = [(path.name, identity(path)) for path in dict.fromkeys((base, *finetuned.values()))]
    (part / "README.md").write_text(model_card(recipe, inputs))


def model_card(recipe: Recipe, inputs: list[tuple[str, str]]) -> str:
    """A card with Hugging Face metadata, the recipe and the identity of every input."""
    header = yaml.safe_dump({"base_model": [name for name, _ in inputs], "library_name": "transformers", "tags": ["merge", "acm"]})
    listed = "\n".join(f"- `{name}`, identity `{hashed}`" for name, hashed in inputs)
    body = yaml.safe_dump(recipe.model_dump(exclude_none=True, exclude_defaults=True), sort_keys=False)
    acm_line = " with ACM coefficients (arXiv:2505.14009)" if recipe.coefficients else ""
    return (
        f"---\n{header}---\n\n# {recipe.method.title}{acm_line}\n\nMerged by acm {acm.__version__}, method "
        f"[{recipe.method.paper}](https://arxiv.org/abs/{recipe.method.paper.removeprefix('arXiv:')}).\n\n"
        f"## Inputs\n\n{listed}\n\n## Recipe\n\n```yaml\n{body}```\n"
    )
