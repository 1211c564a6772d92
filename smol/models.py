"""Makes ordinary model folders of SmolLM2 and the two adapters: ``smol-fast`` and ``smol-slow``.

An adapter belongs to the base that it was trained on. Its folder says which: ``base.json`` holds the hash of that
base's tensors.

The models are stored in float32, half a gigabyte each. Rounded to bfloat16, the task vector from fast to slow would be
off by 22 % of its length, and 19 % of its entries would vanish. A merge adds λ times that vector, error included.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from acm.errors import UserError
from acm.files import write_json
from acm.merging.engine import merge
from acm.reading import read_json
from smol import ADAPTERS, FOLDER
from smol.source import NAME, convert, gguf_file, weights_hash

BASE = "base.json"  # in an adapter's folder
MADE_OF = "made_of.json"  # in a made folder: the SHA-256 of its adapter's weights


def make(folder: Path = FOLDER, adapters: Path = ADAPTERS) -> dict[str, Path]:
    """The folders of ``smol-fast`` and ``smol-slow``, by name. What is there is kept; the rest takes a minute.

    adapters: holds the folders fast and slow. Raises UserError for what is missing, broken, of another base, or made of
    another adapter.
    """
    base = folder / NAME
    made = {f"smol-{name}": adapters / name for name in ("fast", "slow")}
    for name, adapter in made.items():
        check_kept(folder / name, adapter)
    if not all((folder / name).is_dir() for name in made):
        if not base.is_dir():  # the package is needed only then
            convert(gguf_file(), base)
        for name, adapter in made.items():
            combine(base, adapter, folder / name)
    return {name: folder / name for name in made}


def combine(base: Path, adapter: Path, out: Path) -> Path:
    """Write a base with an adapter as a model folder, float32; one that is there is left alone.

    Raises UserError where the adapter is of another base.
    """
    if not out.is_dir():
        check_base(base, adapter)
        recipe = {"merge_method": "linear", "models": [{"model": f"{base.absolute()}+{adapter.name}"}]}
        merge(recipe | {"parameters": {"weight": 1.0}, "out_dtype": "float32"}, out, adapter.parent)
        write_json(out / MADE_OF, made_of(adapter))
    return out


def made_of(adapter: Path) -> dict[str, str]:
    """The SHA-256 of an adapter's weights, as MADE_OF holds it."""
    with (adapter / "adapter_model.safetensors").open("rb") as file:
        return {"adapter": hashlib.file_digest(file, "sha256").hexdigest()}


def check_kept(out: Path, adapter: Path) -> None:
    """UserError where a folder is there and was not made of this adapter, as after a new training."""
    if out.is_dir() and not ((out / MADE_OF).is_file() and read_json(out / MADE_OF) == made_of(adapter)):
        raise UserError(f"{out} was not made of {adapter} as it is now; remove it, or name another `output`.")


def check_base(base: Path, adapter: Path) -> None:
    """UserError where a base is not the one that an adapter was trained on, bit for bit."""
    wanted, found = read_json(adapter / BASE).get("sha256"), weights_hash(base)
    if wanted != found:
        raise UserError(
            f"{adapter} was trained on a base whose weights have the SHA-256 {wanted}, and those of {base} have "
            f"{found}; remove {base} and run `make smol-models` again."
        )
