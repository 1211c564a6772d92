"""Model folders on disk: sharded safetensors, their names and shapes, and what must hold before any heavy work.

Model files are untrusted: safetensors only, and every shard named by an index must lie in its own folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from acm.errors import UserError

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip


def model_folder(path: str | Path) -> Path:
    """The folder, once it is known to hold a config and safetensors; UserError otherwise."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"model folder {folder} does not exist; check the path, or download the model into it first.")
    if not (folder / "config.json").is_file():
        raise UserError(f"model folder {folder} has no config.json; is it a Hugging Face model folder?")
    if not (folder / INDEX).is_file() and not (folder / SINGLE).is_file():
        raise UserError(f"model folder {folder} has no safetensors; convert it with transformers' save_pretrained.")
    return folder


def weight_files(folder: Path) -> dict[str, Path]:
    """Tensor name → the shard that holds it, in the folder's own order."""
    folder = model_folder(folder)
    if not (folder / INDEX).is_file():
        with opened(folder / SINGLE) as shard:
            return dict.fromkeys(shard.keys(), folder / SINGLE)
    try:
        weight_map = dict(json.loads((folder / INDEX).read_text())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / INDEX} is not a readable index ({error!r}); fetch it again.") from None
    for name in set(map(str, weight_map.values())):
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(f"{folder / INDEX} names the shard '{name}', which is not a file in its folder.")
    return {tensor: folder / name for tensor, name in weight_map.items()}


def opened(path: Path):
    """``safe_open`` with an error that names the file."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); fetch it again.") from error


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name → shape, from the headers alone."""
    found = {}
    files = weight_files(folder)
    for path in sorted(set(files.values())):
        with opened(path) as shard:
            found |= {name: tuple(shard.get_slice(name).get_shape()) for name in shard.keys()}  # noqa: SIM118
    return found


def check_same_shape(base: Path, finetuned: Path, vocabulary: bool = True) -> None:
    """UserError that lists tensors (up to 20) which one model lacks, or has in another shape.

    vocabulary: whether embedding and head must agree too; calibration compares their common rows.
    """
    ours, theirs = shapes(base), shapes(finetuned)
    if not vocabulary:
        ours, theirs = ({n: s for n, s in found.items() if layer_of(n) not in {"embed", "lm_head"}} for found in (ours, theirs))
    problems = [f"{n}: missing in {finetuned}" for n in ours.keys() - theirs.keys()]
    problems += [f"{n}: missing in {base}" for n in theirs.keys() - ours.keys()]
    problems += [f"{n}: {ours[n]} against {theirs[n]}" for n in ours.keys() & theirs.keys() if ours[n] != theirs[n]]
    if problems and all(p.startswith("lm_head.weight: missing") for p in problems):
        raise UserError(
            f"one of {base} and {finetuned} ties its lm_head to the embedding (config: tie_word_embeddings), the other has its own; "
            "such a pair cannot be merged yet. Give both an lm_head.weight, a copy of the embedding for the tied one."
        )
    if problems:
        shown = "\n  ".join(sorted(problems)[:20])
        raise UserError(
            f"{finetuned} is not a fine-tuned version of {base}, {len(problems)} tensors differ:\n  {shown}\n"
            "Name the model that it was fine-tuned from as `base`."
        )


def check_weights(folder: Path) -> None:
    """UserError that names the first tensor with NaN or infinity, and how many entries."""
    for name, path in weight_files(folder).items():
        with opened(path) as shard:
            check_finite(shard.get_tensor(name), name, path)


def check_finite(tensor: torch.Tensor, name: str, path: Path) -> torch.Tensor:
    if bad := int((~torch.isfinite(tensor)).sum()):
        raise UserError(f"{path}: tensor {name} holds {bad} values that are NaN or infinite; fetch or train it again.")
    return tensor


def layer_of(tensor_name: str) -> str:
    """Layer that a tensor belongs to: ``embed``, ``0`` … ``L−1``, ``norm`` or ``lm_head``.

    As in the paper's code, the λ measured at ``mlp.down_proj`` holds for every tensor of its block.
    """
    if found := re.search(r"\.layers\.(\d+)\.", tensor_name):
        return found[1]
    for part, layer in (("embed_tokens", "embed"), ("lm_head", "lm_head"), ("norm", "norm")):
        if part in tensor_name:
            return layer
    raise UserError(f"tensor {tensor_name} belongs to no known layer (embed, 0 … L−1, norm, lm_head).")


def identity(folder: Path) -> str:
    """Short hash of a model folder: file names, sizes and contents; of files over 64 MiB the first and last MiB alone,

    enough to notice another model, not to tell apart two merges of one base.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(folder).iterdir() if p.suffix in {".json", ".safetensors", ".model", ".txt"}):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= 64 << 20:
                digest.update(file.read())
            else:
                digest.update(file.read(1 << 20))
                file.seek(-(1 << 20), 2)
                digest.update(file.read())
    return digest.hexdigest()[:16]
