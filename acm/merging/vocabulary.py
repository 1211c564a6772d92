"""Aligns the vocabularies of models: which row of each embedding stands for which token of the merged model.

Padding rows, whose ids have no token, are kept. No embedding loses rows silently.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from acm.checkpoints import Checkpoint
from acm.errors import UserError, unknown
from acm.merging.companions import TOKENIZER, Companions, Vocabulary

SPARE = 1000  # so many tokens may lie beyond the rows of an embedding: some tokenizers have tokens that have no rows


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


def check_ids(companions: Companions, rows: int) -> None:
    """UserError for ids far above the rows of the model's embedding; some tokens more than rows do occur."""
    ids = companions.vocabulary.ids if companions.vocabulary else {}
    token, i = max(ids.items(), key=lambda item: item[1], default=("", 0))
    if i >= (rows or len(ids)) + SPARE:
        raise UserError(
            f"{companions.folder}: the tokenizer gives {reprlib.repr(token)} the id {i}, and the embedding has {rows} "
            "rows; fetch both again, from one model."
        )


def source_of(tokenizer_source: str | None, models: list[Checkpoint], given: list[str]) -> int:
    """Which model the tokenizer comes from; union starts from the base."""
    if tokenizer_source in (None, "base", "union"):
        return 0
    for i, (model, name) in enumerate(zip(models, given, strict=True)):
        if tokenizer_source in (name, model.name):
            return i
    raise unknown("tokenizer_source", tokenizer_source, ["base", "union", *given])


def align(
    tokenizer_source: str | None,
    models: list[Checkpoint],
    companions: list[Companions],
    given: list[str],
    rows: list[int],
    paper: bool,
) -> Alignment:
    """How rows correspond: by id without a `tokenizer_source` (as in mergekit and the paper), else by token.

    models: base first; the other lists go beside it. given: their names in the recipe. rows: how many rows each
    embedding has. paper: the result has no more rows than the base.
    UserError where a tokenizer cannot be read, or a union would need more than added tokens.
    """
    for found, n in zip(companions, rows, strict=True):
        check_ids(found, n)
    if tokenizer_source is None:
        source = next((i for i, found in enumerate(companions) if found.has_tokenizer), 0)
        return by_id(rows[0] if paper else max(rows), rows, source)
    source = source_of(tokenizer_source, models, given)
    if lacking := [found for found in companions if found.vocabulary is None]:
        files = [found.vocabulary_files for found in companions]
        if files[0] and all(each == files[0] for each in files):
            return by_id(rows[source], rows, source)
        remedy = "put its tokenizer there"
        if lacking[0].has_tokenizer:
            folder = str(lacking[0].folder)
            remedy = f"convert its tokenizer: AutoTokenizer.from_pretrained({folder!r}).save_pretrained({folder!r})"
        why = f"has no {TOKENIZER}, so its tokens cannot be aligned"
        raise UserError(f"{lacking[0].folder} {why}; remove `tokenizer_source`, or {remedy}.")
    tokens = [found.vocabulary for found in companions if found.vocabulary]
    ids, added = dict(tokens[source].ids), []
    if tokenizer_source == "union":
        added = union(companions, tokens)
        ids |= {entry["content"]: entry["id"] for entry in added}
    out = max(rows[source], max(ids.values(), default=-1) + 1)
    maps = [row_map(ids, out, found.ids, n) for found, n in zip(tokens, rows, strict=True)]
    identical = all(n == out and (found == np.arange(out)).all() for found, n in zip(maps, rows, strict=True))
    return Alignment(out, None if identical else maps, source, added)


def by_id(out: int, rows: list[int], source: int) -> Alignment:
    """Rows that correspond by number. out: of the result; rows: of each model."""
    every = np.arange(out)
    return Alignment(out, None if set(rows) == {out} else [np.where(every < n, every, -1) for n in rows], source)


def union(companions: list[Companions], tokens: list[Vocabulary]) -> list[dict[str, Any]]:
    """Added tokens that the base lacks, with ids after its last."""
    found: dict[str, dict[str, Any]] = {}
    for beside, other in zip(companions[1:], tokens[1:], strict=True):
        missing = [token for token in other.ids if token not in tokens[0].ids and token not in found]
        if ordinary := [token for token in missing if token not in other.added]:
            raise UserError(
                f"tokenizer_source: union adds special and added tokens, but {beside.folder} has {len(ordinary)} other "
                f"tokens that the base lacks (such as {reprlib.repr(ordinary[0])}): the tokenizers are unlike. "
                "Use `base` or a model's name."
            )
        for token in missing:
            found[token] = other.added[token] | {"id": max(tokens[0].ids.values(), default=-1) + 1 + len(found)}
    if found and not companions[0].tokenizer:
        raise UserError(
            f"{companions[0].folder} has no {TOKENIZER} that `tokenizer_source: union` could add tokens to."
        )
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


def differing_tokens(ours: Vocabulary, theirs: Vocabulary) -> list[tuple[int, str | None, str | None]]:
    """(id, our token, their token) wherever they differ."""
    if ours.ids == theirs.ids:
        return []
    first, second = ({i: token for token, i in held.ids.items()} for held in (ours, theirs))
    every = sorted(first.keys() | second.keys())
    return [(i, first.get(i), second.get(i)) for i in every if first.get(i) != second.get(i)]
