"""Reads model folders: their config, where their tensors lie, and whether two models have the same shapes.

A model folder is one of Hugging Face's, with safetensors. Only :func:`check_weights` and :func:`equal` read weights.
Model files are not trusted. Which files hold the weights is told by `weight_files.py`; headers are checked by
`headers.py`. Weights may be links to any regular file.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from acm.architectures import EMBEDDING, HEAD, tensor_shapes, ties_head
from acm.errors import UserError
from acm.headers import TensorInfo, as_float32
from acm.reading import read_json
from acm.weight_files import Weights, read_weights, weights_file

ADAPTER = "adapter_config.json"  # what peft writes beside an adapter
INFINITY = {"H": 0x7F80, "e": 0x7C00, "f": 0x7F800000}  # the bits of infinity, by numpy's letter of what is stored
CHECKED = 1 << 22  # how many entries are searched for NaN at a time
Shapes = dict[str, tuple[int, ...]]  # name of a tensor → its shape
# Each entry: files that together make a tokenizer.
TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("spiece.model",),
    ("tekken.json",),
    ("vocab.json", "merges.txt"),
)
TOKENIZERS_SHOWN = ", ".join(" with ".join(names) for names in TOKENIZERS)


class Checkpoint:
    """A model folder: ``config`` and ``tensors``, from config.json and the headers alone."""

    def __init__(self, path: str | Path) -> None:
        self.folder = model_folder(path)
        self.config = read_json(self.folder / "config.json")

    @cached_property
    def weights(self) -> Weights:
        """What its files hold."""
        return read_weights(self.folder, self.config)

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """Where each tensor lies, by its standard name. A head that is the embedding is not among them.

        As in transformers, a head that the config ties is a tensor of its own where other numbers are stored for it.
        """
        if self.weights.foreign:
            raise UserError(self.weights.foreign)
        found = dict(self.weights.tensors)
        if ties_head(self.config) and HEAD in found:
            if EMBEDDING not in found:
                found[EMBEDDING] = found.pop(HEAD)
            elif equal(found[EMBEDDING], found[HEAD]):
                del found[HEAD]
        return found

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
    def headless(self) -> bool:
        """Whether the head is missing: by the config it is not the embedding."""
        return self.tied and ties_head(self.config) is False

    def problems(self) -> list[str]:
        """One line for each tensor that the architecture asks for and the model lacks or has in another shape, and for
        each that the architecture has no place for. How many rows the vocabulary has is judged elsewhere.
        """
        try:
            expected = tensor_shapes(self.config)
        except ValueError as error:
            return [f"config.json: {error}"]
        if expected is None:
            return []
        found = self.tensors
        lacking = sorted(expected.keys() - found.keys() - {HEAD})
        foreign = sorted(found.keys() - expected.keys())
        lines = [f"{name}: missing" for name in lacking]
        lines += [f"{name}: no tensor of {self.config['model_type']}" for name in foreign]
        if {EMBEDDING, HEAD} <= found.keys() and found[EMBEDDING].shape != found[HEAD].shape:
            lines.append(f"{HEAD}: {found[HEAD].shape}, the embedding {found[EMBEDDING].shape}")
        for name in sorted(found.keys() & expected.keys()):
            rows = name in (EMBEDDING, HEAD)
            if found[name].shape[rows:] != expected[name][rows:]:
                lines.append(f"{name}: {found[name].shape}, by its config {expected[name]}")
        return lines

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(info.stop - info.start for info in self.tensors.values())


def model_folder(path: str | Path) -> Path:
    """The folder, once it is known to hold a config and safetensors; UserError otherwise."""
    folder = Path(path)
    model, _, adapter = str(path).rpartition("+")
    if model and not exists(folder) and exists(Path(adapter) / ADAPTER):
        raise adapter_refusal(Path(adapter), str(Path(model).absolute()) if exists(Path(model)) else model)
    if not exists(folder) or not folder.is_dir():
        raise UserError(f"model folder {folder} does not exist; check the path, or download the model into it first.")
    if (folder / ADAPTER).is_file():
        raise adapter_refusal(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"model folder {folder} has no config.json; is it a Hugging Face model folder?")
    weights_file(folder, read_json(folder / "config.json"))
    return folder


def adapter_refusal(folder: Path, model: str = "MODEL") -> UserError:
    """The refusal of an adapter where only a whole model will do, with the commands that make one of it."""
    name = json.dumps(f"{model}+{folder.absolute()}", ensure_ascii=False)
    recipe = f"{{merge_method: linear, models: [{{model: {name}}}], parameters: {{weight: 1}}}}"
    if (folder / "config.json").is_file():
        return UserError(
            f"{folder} holds an {ADAPTER} beside a config.json, so transformers takes it for an adapter; if it is a "
            f"whole model, move {ADAPTER} away."
        )
    return UserError(
        f"{folder} is an adapter ({ADAPTER}), not a whole model. Merge it into the model that it was trained on: write "
        f"`{recipe}` to one.yml, run `python -m acm merge one.yml merged`, and name that folder."
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer. Without one, transformers would make up an empty one."""
    return any(all((folder / name).is_file() for name in names) for names in TOKENIZERS)


def exists(path: Path) -> bool:
    """Whether there is such a path; False too for what can be no path."""
    try:
        return path.exists()
    except OSError:
        return False


def check_same_shape(base: Checkpoint, finetuned: Checkpoint, vocabulary: bool = True) -> None:
    """UserError that lists tensors (up to 20) which one model lacks, or has in another shape.

    vocabulary: whether embedding and head must agree too. Calibration compares their common rows, and passes False.
    """
    ours, theirs = ({name: info.shape for name, info in model.tensors.items()} for model in (base, finetuned))
    if not vocabulary:
        ours, theirs = (
            {name: shape for name, shape in found.items() if layer_of(name) not in {"embed", "lm_head"}}
            for found in (ours, theirs)
        )
    if problems := shape_problems(base.folder, ours, finetuned.folder, theirs):
        raise unlike(base, finetuned, problems)


def shape_problems(base: Path, ours: Shapes, finetuned: Path, theirs: Shapes) -> list[str]:
    """One line for each tensor that one of the models lacks or has in another shape."""
    problems = [f"{name}: missing in {finetuned}" for name in ours.keys() - theirs.keys()]
    problems += [f"{name}: missing in {base}" for name in theirs.keys() - ours.keys()]
    common = ours.keys() & theirs.keys()
    problems += [f"{name}: {ours[name]} against {theirs[name]}" for name in common if ours[name] != theirs[name]]
    return sorted(problems)


def unlike(base: Checkpoint, finetuned: Checkpoint, problems: list[str]) -> UserError:
    """The error for two models whose tensors differ. problems: one line for each tensor; 20 are shown."""
    shown = "\n  ".join(problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else []))
    what = (
        f"{finetuned.folder} is not a fine-tuned version of {base.folder}; name the model that it was fine-tuned from "
        "as the base"
    )
    if broken := [model.folder for model in (finetuned, base) if model.problems()]:
        what = (
            f"{broken[0]} does not hold the tensors that its config.json asks for; fetch it again, or mend its config"
        )
    return UserError(f"{what}. {len(problems)} tensors differ:\n  {shown}")


def check_weights(model: Checkpoint) -> None:
    """UserError that names the first tensor with NaN or infinity, and how many of its entries are.

    Reads all weights, with all cores.
    """

    def count(info: TensorInfo) -> int:
        raw = info.read()
        chunks = (raw[start : start + CHECKED] for start in range(0, len(raw), CHECKED))
        return sum(int((~np.isfinite(as_float32(chunk))).sum()) for chunk in chunks if not is_finite(chunk))

    with ThreadPoolExecutor() as pool:
        for (name, info), bad in zip(model.tensors.items(), pool.map(count, model.tensors.values()), strict=True):
            if bad:
                raise UserError(
                    f"{info.file}: tensor {name} holds {bad} values that are NaN or infinite; fetch or train it again."
                )


def is_finite(raw: np.ndarray) -> bool:
    """Whether no stored number is NaN or infinity. Read as a whole number, such a number is at least infinity."""
    infinity, size = INFINITY[raw.dtype.char], raw.dtype.itemsize
    negative = infinity | 1 << (8 * size - 1)
    return bool(raw.view(f"<i{size}").max(initial=0) < infinity and raw.view(f"<u{size}").max(initial=0) < negative)


def equal(left: TensorInfo, right: TensorInfo) -> bool:
    """Whether two tensors hold the same numbers. Reads both, up to the first difference."""
    if left.shape != right.shape:
        return False
    one, other = left.read(), right.read()
    return all(
        np.array_equal(as_float32(one[i : i + CHECKED]), as_float32(other[i : i + CHECKED]))
        for i in range(0, len(one), CHECKED)
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
    raise UserError(
        f"tensor {tensor_name} belongs to no known layer (embed, 0 … L−1, norm, lm_head); only models that name their "
        "tensors as Llama does (model.layers.0…) are read here: merge others, such as GPT-2 and Falcon, with mergekit."
    )
