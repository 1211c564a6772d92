"""Model folders on disk: the headers of their safetensors, read and checked before any weight is touched.

Model files are untrusted: safetensors only, every shard that an index names must be a regular file of its own folder
(a link into the hub's cache is one), and every tensor must lie inside its file and overlap no other.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from acm.errors import UserError
from acm.files import read_json
from acm.paths import RUNS

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
STORED = {
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype("<u2"),
    "float16": np.dtype("<f2"),
}  # numpy has no bfloat16: its bits
MAX_HEADER = 100 << 20  # bytes; the safetensors library's own limit
CHECKED = 1 << 22  # entries looked at together
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
BUFFERS = (
    ".rotary_emb.inv_freq",
    ".masked_bias",
    ".attn.bias",
)  # ends of names: computed, though old conversions store them
SMOL = RUNS / "smollm2"


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: its file, dtype (float32, bfloat16, float16), shape and byte range within the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def read(self) -> np.ndarray:
        """The tensor's numbers, flat and mapped from the file; bfloat16 as its bits in uint16."""
        if not self.size:
            return np.empty(0, STORED[self.dtype])
        return np.memmap(self.file, STORED[self.dtype], "r", self.start, (self.size,))

    def numbers(self, stop: int | None = None) -> np.ndarray:
        """The first entries (default: all) as float32."""
        return as_float32(self.read()[:stop])


def as_float32(raw: np.ndarray) -> np.ndarray:
    """Stored numbers, uint16 being the bits of bfloat16, as float32."""
    return (
        (raw.astype(np.uint32) << 16).view(np.float32) if raw.dtype == np.uint16 else raw.astype(np.float32, copy=False)
    )


class Checkpoint:
    """A model folder: ``config`` and ``tensors`` (name → :class:`TensorInfo`), from config and headers alone."""

    def __init__(self, path: str | Path) -> None:
        self.folder = model_folder(path)
        self.config = read_json(self.folder / "config.json")

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        return headers(self.folder)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def head(self) -> TensorInfo:
        """The head's own tensor; of a model with tied embeddings, the embedding."""
        return self.tensors.get(HEAD) or self.tensors[EMBEDDING]

    @property
    def tied(self) -> bool:
        return HEAD not in self.tensors and EMBEDDING in self.tensors

    @property
    def bytes(self) -> int:
        return sum(info.stop - info.start for info in self.tensors.values())


def model_folder(path: str | Path) -> Path:
    """The folder, once it is known to hold a config and safetensors; UserError otherwise."""
    folder = Path(path)
    if not exists(folder) or not folder.is_dir():
        made = folder.absolute().is_relative_to(SMOL)
        how = "`make smol-models` makes it" if made else "check the path, or download the model into it first"
        raise UserError(f"model folder {folder} does not exist; {how}.")
    if not (folder / "config.json").is_file():
        raise UserError(f"model folder {folder} has no config.json; is it a Hugging Face model folder?")
    if not (folder / INDEX).is_file() and not (folder / SINGLE).exists():
        pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt")) + sorted(folder.glob("*.pth"))
        found = f" {pickled[0].name} is a pickle, which can run code when it is read, so it is not." if pickled else ""
        raise UserError(
            f"model folder {folder} has no safetensors.{found} Convert it on a machine you trust it on: "
            f"AutoModelForCausalLM.from_pretrained({str(folder)!r}).save_pretrained('converted')."
        )
    return folder


def exists(path: Path) -> bool:
    """Whether there is such a path; False too for what can be no path."""
    try:
        return path.exists()
    except OSError:
        return False


def shard_files(folder: Path) -> dict[str, list[str] | None]:
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


def headers(folder: Path) -> dict[str, TensorInfo]:
    """Tensor name → where it lies, of the whole folder, without buffers; UserError for anything that does not add up."""
    found: dict[str, TensorInfo] = {}
    for name, expected in shard_files(folder).items():
        held = read_header(folder / name)
        if expected is not None and (
            lacking := sorted({tensor for tensor in expected if not tensor.endswith(BUFFERS)} - set(held))
        ):
            raise UserError(f"{folder / INDEX} puts tensor {lacking[0]} into {name}, which lacks it; fetch both again.")
        if twice := sorted(set(held) & set(found)):
            raise UserError(
                f"tensor {twice[0]} is in both {found[twice[0]].file.name} and {name} of {folder}; fetch the model again."
            )
        found |= held
    if not found:
        raise UserError(f"{folder} holds no tensors; fetch the model again.")
    return found


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file, without buffers. Only the header is read; what it claims is checked against the file's size."""

    def refuse(why: str) -> UserError:
        return UserError(f"{path} is not a sound safetensors file: {why}; fetch it again.")

    try:
        status = path.stat()  # resolves links
    except (OSError, ValueError):  # absent, a link to itself, or no name at all
        raise refuse("it does not exist") from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe or device could block
        raise refuse("it is not a regular file")
    size = status.st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise refuse(f"its header claims {length} bytes, of {size} in the file")
        text = file.read(length)
    try:
        content = json.loads(text, object_pairs_hook=distinct_pairs)
    except (ValueError, RecursionError) as error:
        raise refuse(f"its header is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise refuse("its header is not a JSON object")
    content.pop("__metadata__", None)
    if odd := [name for name in content if not name.isprintable()]:
        raise refuse(f"{odd[0]!r} is no name of a tensor")
    found = {}
    for name, entry in content.items():
        if name.endswith(BUFFERS):
            continue
        try:
            found[name] = tensor_info(path, entry, 8 + length, size)
        except ValueError as error:
            raise refuse(f"tensor {name} {error}") from None
    ranges = sorted((info.start, info.stop, name) for name, info in found.items() if info.size)
    for (_, stop, first), (start, _, second) in pairwise(ranges):
        if start < stop:
            raise refuse(f"tensors {first} and {second} overlap")
    return found


def distinct_pairs(pairs: list[tuple[str, object]]) -> dict:
    if twice := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise ValueError(f"'{min(twice)}' comes twice")
    return dict(pairs)


def tensor_info(path: Path, entry: object, data: int, size: int) -> TensorInfo:
    """One entry of a header, checked; ValueError that says what is wrong. data: where the tensors' bytes begin."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError("lacks dtype, shape or data_offsets")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        raise ValueError(
            f"has the dtype {entry['dtype']}, and only {', '.join(DTYPES)} can be merged: convert the model to bfloat16"
        )
    shape, offsets = entry["shape"], entry["data_offsets"]
    numbers = (
        [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 else [None]
    )
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise ValueError("has a shape or offsets that are not whole numbers")
    dtype, (start, stop) = DTYPES[entry["dtype"]], offsets
    if stop - start != math.prod(shape) * STORED[dtype].itemsize:
        raise ValueError(f"of shape {shape} and dtype {entry['dtype']} cannot have {stop - start} bytes")
    if data + stop > size:
        raise ValueError(f"ends at byte {data + stop}, past the end of the file ({size}): it is cut off")
    return TensorInfo(path, dtype, tuple(shape), data + start, data + stop)


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name → shape, from the headers alone."""
    return {name: info.shape for name, info in headers(model_folder(folder)).items()}


def check_same_shape(base: Path, finetuned: Path, vocabulary: bool = True) -> None:
    """UserError that lists tensors (up to 20) which one model lacks, or has in another shape.

    vocabulary: whether embedding and head must agree too; calibration compares their common rows.
    """
    ours, theirs = shapes(base), shapes(finetuned)
    if not vocabulary:
        ours, theirs = (
            {n: s for n, s in found.items() if layer_of(n) not in {"embed", "lm_head"}} for found in (ours, theirs)
        )
    if problems := shape_problems(base, ours, finetuned, theirs):
        raise unlike(base, finetuned, problems)


def shape_problems(base: Path, ours: dict[str, tuple], finetuned: Path, theirs: dict[str, tuple]) -> list[str]:
    """One line for each tensor that one of the models lacks or has in another shape."""
    problems = [f"{n}: missing in {finetuned}" for n in ours.keys() - theirs.keys()]
    problems += [f"{n}: missing in {base}" for n in theirs.keys() - ours.keys()]
    return sorted(
        problems + [f"{n}: {ours[n]} against {theirs[n]}" for n in ours.keys() & theirs.keys() if ours[n] != theirs[n]]
    )


def unlike(base: Path, finetuned: Path, problems: list[str]) -> UserError:
    shown = "\n  ".join(problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else []))
    return UserError(
        f"{finetuned} is not a fine-tuned version of {base}, {len(problems)} tensors differ:\n  {shown}\n"
        "Name the model that it was fine-tuned from as the base."
    )


def check_weights(folder: Path) -> None:
    """UserError that names the first tensor with NaN or infinity, and how many entries."""
    for name, info in headers(model_folder(folder)).items():
        raw = info.read()
        if bad := sum(int((~np.isfinite(as_float32(raw[i : i + CHECKED]))).sum()) for i in range(0, len(raw), CHECKED)):
            raise UserError(
                f"{info.file}: tensor {name} holds {bad} values that are NaN or infinite; fetch or train it again."
            )


def layer_of(tensor_name: str) -> str:
    """Layer that a tensor belongs to: ``embed``, ``0`` … ``L−1``, ``norm`` or ``lm_head``.

    As in the paper's code, the λ measured at ``mlp.down_proj`` holds for every tensor of its block.
    """
    if found := re.search(r"\.layers\.(\d{1,4})\.", tensor_name):
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
