"""Reads model folders: their config, where their tensors lie, and whether two models have the same shapes.

A model folder is one of Hugging Face's, with safetensors. Only :func:`check_weights` reads weights.
Model files are not trusted. Each shard that an index names must be a regular file in the index's own folder, or a link
there, as in the hub's cache. Headers are checked by `headers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from acm.errors import UserError
from acm.headers import BUFFERS, TensorInfo, as_float32, read_header
from acm.reading import read_json

INDEX = "model.safetensors.index.json"  # names the shard of each tensor, where a model has several shards
SINGLE = "model.safetensors"  # the file of weights, where there is no index
ADAPTER = "adapter_config.json"  # what peft writes beside an adapter
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
CHECKED = 1 << 22  # how many entries are searched for NaN at a time
Shapes = dict[str, tuple[int, ...]]  # name of a tensor → its shape


class Checkpoint:
    """A model folder: ``config`` and ``tensors``, from config.json and the headers alone."""

    def __init__(self, path: str | Path) -> None:
        self.folder = model_folder(path)
        self.config = read_json(self.folder / "config.json")

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """Where each tensor lies, by name."""
        return tensors_of(self.folder)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def home(self) -> Path:
        """The folder of config.json and generation_config.json."""
        return self.folder

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer's files."""
        return self.folder

    @property
    def folders(self) -> list[Path]:
        """All that it is read from."""
        return [self.folder]

    @property
    def shards(self) -> dict[str, tuple[str, int]]:
        """Name of each tensor → its file's name, and the first of its bytes there."""
        return {name: (info.file.name, info.start) for name, info in self.tensors.items()}

    @property
    def head(self) -> TensorInfo:
        """The head's own tensor; of a model with tied embeddings, the embedding."""
        return self.tensors.get(HEAD) or self.tensors[EMBEDDING]

    @property
    def tied(self) -> bool:
        """Whether the head is the embedding."""
        return HEAD not in self.tensors and EMBEDDING in self.tensors

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(info.stop - info.start for info in self.tensors.values())


def model_folder(path: str | Path) -> Path:
    """The folder, once it is known to hold a config and safetensors; UserError otherwise."""
    folder = Path(path)
    if not exists(folder) or not folder.is_dir():
        raise UserError(f"model folder {folder} does not exist; check the path, or download the model into it first.")
    if (folder / ADAPTER).is_file():
        raise adapter_refusal(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"model folder {folder} has no config.json; is it a Hugging Face model folder?")
    if not (folder / INDEX).is_file() and not (folder / SINGLE).exists():
        pickled = [path for ending in ("bin", "pt", "pth") for path in sorted(folder.glob(f"*.{ending}"))]
        found = f" {pickled[0].name} is a pickle, which can run code when it is read, so it is not." if pickled else ""
        raise UserError(
            f"model folder {folder} has no safetensors.{found} Convert it on a machine you trust it on: "
            f"AutoModelForCausalLM.from_pretrained({str(folder)!r}).save_pretrained('converted')."
        )
    return folder


def adapter_refusal(folder: Path) -> UserError:
    """The refusal of an adapter where only a whole model will do, with the commands that make one of it."""
    recipe = f"{{merge_method: linear, models: [{{model: MODEL+{folder.absolute()}}}], parameters: {{weight: 1}}}}"
    return UserError(
        f"{folder} is an adapter ({ADAPTER}), not a whole model. Merge it into the model that it was trained on: write "
        f"`{recipe}` to one.yml, run `python -m acm merge one.yml merged`, and name that folder."
    )


def exists(path: Path) -> bool:
    """Whether there is such a path; False too for what can be no path."""
    try:
        return path.exists()
    except OSError:
        return False


def shard_files(folder: Path) -> Mapping[str, list[str] | None]:
    """File name → the tensors that the index puts there (None: a single file, without index)."""
    if not (folder / INDEX).is_file():
        return {SINGLE: None}
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{folder / INDEX} is not a readable index (no weight_map); fetch it again.")
    found: dict[str, list[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(
                f"{folder / INDEX} names the shard '{name}', which is not a safetensors file in its folder."
            )
        found.setdefault(name, []).append(tensor)
    return dict(sorted(found.items()))


def tensors_of(folder: Path) -> dict[str, TensorInfo]:
    """Where each tensor of a model folder lies, by name and without buffers; UserError for what does not add up."""
    found: dict[str, TensorInfo] = {}
    for name, expected in shard_files(folder).items():
        held = read_header(folder / name)
        wanted = {tensor for tensor in expected or [] if not tensor.endswith(BUFFERS)}
        if lacking := sorted(wanted - held.keys()):
            raise UserError(f"{folder / INDEX} puts tensor {lacking[0]} into {name}, which lacks it; fetch both again.")
        if twice := sorted(held.keys() & found.keys()):
            other = found[twice[0]].file.name
            raise UserError(f"tensor {twice[0]} is in both {other} and {name} of {folder}; fetch the model again.")
        found |= held
    if not found:
        raise UserError(f"{folder} holds no tensors; fetch the model again.")
    return found


def shapes(folder: Path) -> Shapes:
    """The shape of each tensor of a model folder, from the headers alone."""
    return {name: info.shape for name, info in tensors_of(model_folder(folder)).items()}


def check_same_shape(base: Path, finetuned: Path, vocabulary: bool = True) -> None:
    """UserError that lists tensors (up to 20) which one model lacks, or has in another shape.

    vocabulary: whether embedding and head must agree too. Calibration compares their common rows, and passes False.
    """
    ours, theirs = shapes(base), shapes(finetuned)
    if not vocabulary:
        ours, theirs = (
            {name: shape for name, shape in found.items() if layer_of(name) not in {"embed", "lm_head"}}
            for found in (ours, theirs)
        )
    if problems := shape_problems(base, ours, finetuned, theirs):
        raise unlike(base, finetuned, problems)


def shape_problems(base: Path, ours: Shapes, finetuned: Path, theirs: Shapes) -> list[str]:
    """One line for each tensor that one of the models lacks or has in another shape."""
    problems = [f"{name}: missing in {finetuned}" for name in ours.keys() - theirs.keys()]
    problems += [f"{name}: missing in {base}" for name in theirs.keys() - ours.keys()]
    common = ours.keys() & theirs.keys()
    problems += [f"{name}: {ours[name]} against {theirs[name]}" for name in common if ours[name] != theirs[name]]
    return sorted(problems)


def unlike(base: Path, finetuned: Path, problems: list[str]) -> UserError:
    """The error for two models whose tensors differ. problems: one line for each tensor; 20 are shown."""
    shown = "\n  ".join(problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else []))
    return UserError(
        f"{finetuned} is not a fine-tuned version of {base}; name the model that it was fine-tuned from as the base. "
        f"{len(problems)} tensors differ:\n  {shown}"
    )


def check_weights(folder: Path) -> None:
    """UserError that names the first tensor with NaN or infinity, and how many of its entries are.

    Reads all weights.
    """
    for name, info in tensors_of(model_folder(folder)).items():
        raw = info.read()
        chunks = (as_float32(raw[start : start + CHECKED]) for start in range(0, len(raw), CHECKED))
        if bad := sum(int((~np.isfinite(chunk)).sum()) for chunk in chunks):
            raise UserError(
                f"{info.file}: tensor {name} holds {bad} values that are NaN or infinite; fetch or train it again."
            )


def layer_of(tensor_name: str) -> str:
    """The layer that a tensor belongs to: ``embed``, ``0`` … ``L−1``, ``norm`` or ``lm_head``; UserError for none.

    As in the paper's code, the λ measured at ``mlp.down_proj`` holds for every tensor of its block.
    """
    if found := re.search(r"\.layers\.(\d{1,4})\.", tensor_name):
        return found[1]
    for name_part, layer in (("embed_tokens", "embed"), ("lm_head", "lm_head"), ("norm", "norm")):
        if name_part in tensor_name:
            return layer
    raise UserError(f"tensor {tensor_name} belongs to no known layer (embed, 0 … L−1, norm, lm_head).")
