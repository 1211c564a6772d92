"""Aligns the vocabularies of models: which row of each embedding stands for which token of the merged model.

Tokenizer files are read as JSON; no tokenizer is loaded. Padding rows, whose ids have no token, are kept. No embedding
loses rows silently.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from acm.checkpoints import TOKENIZER_FILES, Checkpoint
from acm.errors import UserError, unknown
from acm.files import write_json, write_text
from acm.reading import read_json


@dataclass
class Vocabulary:
    """Tokens of one model. ids: token → id. added: the entries of those that were added to the trained vocabulary."""

    ids: dict[str, int]
    added: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Alignment:
    """Rows of the merged embedding and head.

    maps: for each model, which of its rows goes to each output row, −1 for none; None: all models have the same rows.
    source: number of the model whose tokenizer, special ids and generation config the result gets.
    added: entries of the tokens that are new to that tokenizer.
    """

    rows: int
    maps: list[np.ndarray] | None
    source: int = 0
    added: list[dict[str, Any]] = field(default_factory=list)


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The vocabulary in a model's tokenizer.json; None without such a file (a model with sentencepiece alone)."""
    if not (folder / "tokenizer.json").is_file():
        return None
    content = read_json(folder / "tokenizer.json")
    try:
        listed = content["model"]["vocab"]
        ids = dict(listed) if isinstance(listed, dict) else {token: i for i, (token, *_) in enumerate(listed)}
        added = {entry["content"]: entry for entry in content.get("added_tokens") or []}
        ids |= {token: entry["id"] for token, entry in added.items()}
        if not all(isinstance(i, int) and i >= 0 for i in ids.values()):
            raise TypeError("an id is not a whole number")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / 'tokenizer.json'} is not a readable tokenizer ({error!r}); fetch it again."
        ) from None
    return Vocabulary(ids, added)


def source_of(tokenizer_source: str | None, models: list[Checkpoint], given: list[str]) -> int:
    """Which model the tokenizer comes from; union starts from the base."""
    if tokenizer_source in (None, "base", "union"):
        return 0
    for i, (model, name) in enumerate(zip(models, given, strict=True)):
        if tokenizer_source in (name, model.name):
            return i
    raise unknown("tokenizer_source", tokenizer_source, ["base", "union", *given])


def align(
    tokenizer_source: str | None, models: list[Checkpoint], given: list[str], rows: list[int], paper: bool
) -> Alignment:
    """How rows correspond: by id without a `tokenizer_source` (as in mergekit and the paper), else by token.

    models: base first. given: their names in the recipe. rows: how many rows each embedding has. paper: the result has
    no more rows than the base.
    UserError where a tokenizer cannot be read, or a union would need more than added tokens.
    """
    if tokenizer_source is None:
        out = rows[0] if paper else max(rows)
        if set(rows) == {out}:
            return Alignment(out, None)
        every = np.arange(out)
        return Alignment(out, [np.where(every < n, every, -1) for n in rows])
    source = source_of(tokenizer_source, models, given)
    read = [read_vocabulary(model.tokenizer) for model in models]
    if lacking := [model.tokenizer for model, found in zip(models, read, strict=True) if found is None]:
        why = "so its tokens cannot be aligned; remove `tokenizer_source` or convert it"
        raise UserError(f"{lacking[0]} has no tokenizer.json, {why}.")
    tokens = [found for found in read if found]
    ids, added = dict(tokens[source].ids), []
    if tokenizer_source == "union":
        added = union(models, tokens)
        ids |= {entry["content"]: entry["id"] for entry in added}
    out = max(rows[source], max(ids.values()) + 1)
    maps = [row_map(ids, out, found.ids, n) for found, n in zip(tokens, rows, strict=True)]
    identical = all(n == out and (found == np.arange(out)).all() for found, n in zip(maps, rows, strict=True))
    return Alignment(out, None if identical else maps, source, added)


def union(models: list[Checkpoint], tokens: list[Vocabulary]) -> list[dict[str, Any]]:
    """Added tokens that the base lacks, with ids after its last."""
    found: dict[str, dict[str, Any]] = {}
    for model, other in zip(models[1:], tokens[1:], strict=True):
        missing = [token for token in other.ids if token not in tokens[0].ids and token not in found]
        if ordinary := [token for token in missing if token not in other.added]:
            raise UserError(
                f"tokenizer_source: union adds special and added tokens, but {model.folder} has {len(ordinary)} other "
                f"tokens that the base lacks (such as {ordinary[0]!r}): the tokenizers are unlike. "
                "Use `base` or a model's name."
            )
        for token in missing:
            found[token] = other.added[token] | {"id": max(tokens[0].ids.values()) + 1 + len(found)}
    return list(found.values())


def row_map(ids: dict[str, int], out: int, own: dict[str, int], rows: int) -> np.ndarray:
    """For each output row, the model's row of the same token. Padding rows go by id. −1 where the model has none.

    ids: token → output row. out: number of output rows. own: the model's token → row. rows: how many the model has.
    """
    found = np.arange(out)
    found[found >= rows] = -1
    taken = np.fromiter((i for i in own.values() if i < out), np.int64)
    found[taken] = -1  # what stands there means a token
    for token, i in ids.items():
        there = own.get(token, -1)
        found[i] = there if there < rows else -1
    return found


def differing_tokens(base: Path, other: Path) -> list[tuple[int, str | None, str | None]]:
    """(id, token of the base, token of the other) wherever they differ; none where a model has no tokenizer.json."""
    files = [folder / "tokenizer.json" for folder in (base, other)]
    if not all(path.is_file() for path in files) or files[0].read_bytes() == files[1].read_bytes():
        return []
    found = [read_vocabulary(folder) for folder in (base, other)]
    ours, theirs = ({i: token for token, i in held.ids.items()} for held in found if held)
    every = sorted(ours.keys() | theirs.keys())
    return [(i, ours.get(i), theirs.get(i)) for i in every if ours.get(i) != theirs.get(i)]


def write_tokenizer(source: Path, out: Path, added: list[dict[str, Any]]) -> None:
    """The source's tokenizer files, with further added tokens."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    if not added:
        return
    content = read_json(out / "tokenizer.json")
    content["added_tokens"] = [*(content.get("added_tokens") or []), *added]
    write_text(out / "tokenizer.json", json.dumps(content, ensure_ascii=False))
    if (out / "tokenizer_config.json").is_file():
        config = read_json(out / "tokenizer_config.json")
        if "added_tokens_decoder" in config:
            config["added_tokens_decoder"] |= {str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in added}
            write_json(out / "tokenizer_config.json", config, indent=2, ensure_ascii=False)
