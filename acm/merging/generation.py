"""Decides where the responses of a merged model end, and which generation settings it gets.

transformers ends a response at the tokens that generation_config.json names, vLLM at these and at the tokenizer's, and
other programs at those of config.json. Chat models often name the end of a turn in one of the three alone, and their
base does not name it at all. A merged model that does not end there never stops, so its generation config names them
all.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from acm.checkpoints import Checkpoint
from acm.errors import UserError, listed
from acm.merging.companions import GENERATION, Companions
from acm.merging.compatibility import SPECIAL, Finding, rows_of
from acm.merging.vocabulary import Alignment

END = "eos_token_id"
LIMITS = ("max_new_tokens", "max_length")  # the base's (2048 in Qwen2.5) would cut what the fine-tuned model writes
INCIDENTAL = (*LIMITS, END, "transformers_version", "_from_model_config", "_commit_hash")
MOST_ENDS = 100
DEFAULTS = {
    "do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0, "use_cache": True,
    "output_attentions": False, "output_hidden_states": False,
}  # fmt: skip


def end_ids(model: Checkpoint, companions: Companions) -> list[int]:
    """Every token that ends the model's responses, by its generation config, its config or its tokenizer."""
    stated = ids_of(companions.json(GENERATION), companions.home / GENERATION)
    stated += ids_of(model.config, companions.home / "config.json")
    token = companions.special("eos_token")
    if companions.vocabulary and token in companions.vocabulary.ids:
        stated.append(companions.vocabulary.ids[token])
    return [i for i in dict.fromkeys(stated) if 0 <= i < (rows_of(model) or i + 1)]


def ids_of(content: dict[str, Any], path: Path) -> list[int]:
    """The end tokens that a config names; UserError for what is no number of a token."""
    value = content.get(END)
    ends = [*value] if isinstance(value, list) else [] if value is None else [value]
    if len(ends) > MOST_ENDS:
        raise UserError(f"{path}: {END} names {len(ends):,} end tokens, and a model has a few; mend it.")
    if any(type(i) is not int for i in ends):
        raise UserError(
            f"{path}: {END} must be a token's number or a list of them, not {reprlib.repr(value)}; mend it."
        )
    return ends


def generation_config(
    models: list[Checkpoint], companions: list[Companions], alignment: Alignment, paper: bool
) -> tuple[dict[str, Any], list[Finding]]:
    """The content of the merged model's generation_config.json (empty: it gets none), and the findings.

    It is the source's, without a limit on the length of a response, and with the end tokens of all models.
    paper: with the source's end tokens alone.
    """
    source, model = companions[alignment.source], models[alignment.source]
    content = {key: value for key, value in source.json(GENERATION).items() if key not in LIMITS}
    file = GENERATION if GENERATION in source.files else "config.json"
    named = ids_of(content if file == GENERATION else model.config, source.home / file)
    found = [finding for other in dict.fromkeys(companions) for finding in setting_findings(source, other)]
    new, lost = further_ends(models, companions, alignment, named)
    if paper:
        new, lost = {}, lost + list(new.values())
    if lost:
        remedy = "`compatibility: paper` keeps the base's" if paper else "`tokenizer_source: union` keeps them"
        text = f"models end their responses at {listed(lost)}, and the result does not: {remedy}."
        found.append(Finding("warning", text))
    if new:
        text = f"the result ends responses at {listed(new.values())} too; {file} of {source.name} does not say so."
        found.append(Finding("note", text))
        content = content or {key: model.config[key] for key in SPECIAL if model.config.get(key) is not None}
        content.pop("_from_model_config", None)
        ends = [*dict.fromkeys((*named, *new))]
        content[END] = ends[0] if len(ends) == 1 else ends
    elif not named:
        text = "no model names an end token (eos_token_id, or the tokenizer's eos_token), so no response ends."
        found.append(Finding("warning", text))
    return content, found


def further_ends(
    models: list[Checkpoint], companions: list[Companions], alignment: Alignment, named: list[int]
) -> tuple[dict[int, str], list[str]]:
    """Rows of the result that end the responses of a model, beside those named, and end tokens that have no row.

    Each comes with its id, its token, and the model.
    """
    new: dict[int, str] = {}
    lost = []
    for number in dict.fromkeys((alignment.source, *range(len(models)))):
        other = companions[number]
        for i in end_ids(models[number], other):
            rows = [i] if alignment.maps is None else np.flatnonzero(alignment.maps[number] == i).tolist()
            ids = other.vocabulary.ids if other.vocabulary else {}
            token = next((f"{reprlib.repr(token)}, " for token, held in ids.items() if held == i), "")
            new |= {row: f"{row} ({token}of {other.name})" for row in rows if row not in (*named, *new)}
            lost += [] if rows else [f"{i} ({token}of {other.name})"]
    return new, lost


def setting_findings(source: Companions, other: Companions) -> list[Finding]:
    """A note on generation settings that differ."""
    return differing(GENERATION, source, other, *(settings(each.json(GENERATION)) for each in (source, other)))


def settings(content: dict[str, Any]) -> dict[str, Any]:
    """What a generation config sets otherwise than transformers does without one."""
    return {k: v for k, v in content.items() if k not in INCIDENTAL and v is not None and DEFAULTS.get(k) != v}


def differing(
    file: str, source: Companions, other: Companions, ours: dict[str, Any], theirs: dict[str, Any]
) -> list[Finding]:
    """A note that lists the values in which two models differ, if any do."""

    def shown(value: Any) -> str:
        return "absent" if value is None else reprlib.repr(value)

    different = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if not different:
        return []
    values = listed(f"{key} is {shown(theirs.get(key))}, not {shown(ours.get(key))}" for key in different)
    return [Finding("note", f"{file} of {other.name}: {values}; the result gets that of {source.name}.")]
