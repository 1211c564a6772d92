"""Compares what lies beside the weights of models, and says what the merged model gets where it differs."""

from __future__ import annotations

import json
import reprlib
from typing import Any

from acm.checkpoints import TOKENIZERS_SHOWN, Checkpoint
from acm.errors import UserError
from acm.merging.companions import PROCESSOR_FILES, TOKENIZER, TOKENIZER_CONFIG, Companions
from acm.merging.compatibility import ANCESTRY, LEFT_OUT, SPECIAL, Finding
from acm.merging.generation import differing
from acm.merging.vocabulary import Alignment, differing_tokens

COMPARED = (  # fields of tokenizer_config.json that decide how text is read or cut
    "tokenizer_class", "add_bos_token", "add_eos_token", "add_prefix_space", "legacy", "model_max_length",
    "padding_side", "truncation_side", "clean_up_tokenization_spaces", "split_special_tokens",
)  # fmt: skip
TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
UNLIMITED = 10**15  # a model_max_length from here on is none
# Fields of config.json that are judged elsewhere, or that count in training alone.
NOT_COMPARED = {
    *ANCESTRY, *SPECIAL, *LEFT_OUT, "rope_theta", "rope_scaling", "rope_parameters", "dtype", "vocab_size",
    "max_position_embeddings", "tie_word_embeddings", "transformers_version", "use_cache", "initializer_range",
}  # fmt: skip
QUANTIZED = ("quantization_config", "compression_config")


def companion_findings(
    models: list[Checkpoint], companions: list[Companions], alignment: Alignment, aligned: bool
) -> list[Finding]:
    """What differs beside the weights, each model against the one whose tokenizer the result gets.

    aligned: whether rows are aligned by token.
    """
    source = companions[alignment.source]
    found = []
    if not source.has_tokenizer:
        text = f"no model of this merge has a tokenizer ({TOKENIZERS_SHOWN}), and a result without one cannot be used"
        found.append(Finding("error", f"{text}; put that of the base into {source.folder}."))
    elif not aligned and alignment.source:
        text = f"{companions[0].name} has no tokenizer; the result gets that of {source.name}."
        found.append(Finding("warning", text))
    ids = source.vocabulary.ids if source.vocabulary and alignment.rows else {}
    if beyond := [token for token, i in ids.items() if i >= alignment.rows]:
        text = f"{len(beyond)} tokens of {source.name} (such as {reprlib.repr(beyond[0])}) have no row in the result"
        found.append(Finding("warning", f"{text}, which cannot read them."))
    for other in dict.fromkeys(companions):
        if other is not source and other.has_tokenizer:
            found += tokenizer_findings(source, other, aligned)
        elif other not in (source, companions[0]) and source.has_tokenizer:
            text = f"{other.name} has no tokenizer; its tokens are taken to be those of {source.name}."
            found.append(Finding("note", text))
    for model, own in dict(zip(models, companions, strict=True)).items():
        found += field_findings(companions[0], own) + code_findings(model, own, own is source)
    return found


def field_findings(base: Companions, other: Companions) -> list[Finding]:
    """A note on fields that both configs have, with another value, and that change what the model computes."""
    ours, theirs = base.json("config.json"), other.json("config.json")
    common = {key for key in ours.keys() & theirs.keys() - NOT_COMPARED if None not in (ours[key], theirs[key])}
    compared = {key for key in common if not key.startswith("_") and not key.endswith(("dropout", "pdrop"))}
    return differing("config.json", base, other, *({key: held[key] for key in compared} for held in (ours, theirs)))


def tokenizer_findings(source: Companions, other: Companions, aligned: bool) -> list[Finding]:
    """What differs between two tokenizers: tokens, how text is split, settings, and the files of a processor."""
    found = token_findings(source, other, aligned)
    if parts := splitting_differences(source, other):
        text = f"{other.name} splits text into tokens otherwise than {source.name} ({', '.join(parts)} of {TOKENIZER})"
        found.append(Finding("warning", f"{text}; the result does as {source.name}."))
    found += differing(TOKENIZER_CONFIG, source, other, settings(source), settings(other))
    if files := [name for name in PROCESSOR_FILES if source.json(name) != other.json(name)]:
        text = f"{', '.join(files)} of {other.name} and {source.name} differ; the result gets what {source.name} has."
        found.append(Finding("note", text))
    return found


def token_findings(source: Companions, other: Companions, aligned: bool) -> list[Finding]:
    """Ids that mean different tokens."""
    if not (source.vocabulary and other.vocabulary):
        ours, theirs = source.vocabulary_files, other.vocabulary_files
        if ours == theirs:
            return []
        text = f"the vocabularies of {other.name} and {source.name} cannot be compared: one has no {TOKENIZER}"
        if files := [name for name in ours if theirs.get(name, ours[name]) != ours[name]]:
            text = f"{', '.join(files)} of {other.name} and {source.name} differ, so ids may mean different tokens"
        return [Finding("warning", f"{text}; rows are merged by id.")]
    different = differing_tokens(source.vocabulary, other.vocabulary)
    if not different:
        return []
    i, mine, its = different[0]
    such = f"{len(different)} ids mean different tokens in {other.name} and {source.name}"
    such += f" (such as {i}: {reprlib.repr(its)} against {reprlib.repr(mine)})"
    if aligned:
        return [Finding("note", f"{such}; they are aligned by token.")]
    remedy = "`tokenizer_source: base` or `union` aligns them by token"
    return [Finding("warning", f"{such}; rows are merged by id; {remedy}.")]


def splitting_differences(source: Companions, other: Companions) -> list[str]:
    """Which parts of two tokenizer.json, beside the tokens, split text otherwise; none where one has no such file."""
    if source.tokenizer is other.tokenizer or not (source.tokenizer and other.tokenizer):
        return []
    ours, theirs = splitting(source), splitting(other)
    mine, its = ours.pop("added_tokens"), theirs.pop("added_tokens")
    flags = ["added_tokens"] if any(mine[token] != its[token] for token in mine.keys() & its.keys()) else []
    return flags + sorted(part for part in ours.keys() | theirs.keys() if ours.get(part) != theirs.get(part))


def splitting(companions: Companions) -> dict[str, Any]:
    """What a tokenizer.json says of how text becomes tokens, beside the tokens, without what is off."""
    content = companions.tokenizer or {}
    try:
        model = {key: value for key, value in content["model"].items() if key not in ("vocab", "merges")}
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in content["model"].get("merges") or []]
        parts = {key: content.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")} | {"model": model}
        entries = content.get("added_tokens") or []
        added = {each["content"]: {key for key, value in each.items() if value is True} for each in entries}
        read = json.loads(json.dumps(parts), object_hook=without_defaults)
        framed = framing(content.get("post_processor") or {})
        return read | {"merges": merges, "post_processor": framed, "added_tokens": added}
    except (KeyError, TypeError, AttributeError, RecursionError):
        path = companions.folder / TOKENIZER
        raise UserError(f"{path} is not a tokenizer as the tokenizers library writes it; fetch it again.") from None


def without_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """A part of a tokenizer without what is off anyway, as versions write it or not."""
    return {
        key: value for key, value in content.items()
        if value not in (None, False, "", []) and key != "trim_offsets" and (key, value) != ("use_regex", True)
    }  # fmt: skip


def framing(processor: dict[str, Any]) -> list[str]:
    """The special tokens that a post-processor puts around a text."""
    if processor.get("type") == "Sequence":
        return [token for each in processor["processors"] for token in framing(each)]
    pieces = [piece["SpecialToken"]["id"] for piece in processor.get("single") or [] if "SpecialToken" in piece]
    return pieces + [processor[key][0] for key in ("cls", "sep") if key in processor]


def settings(companions: Companions) -> dict[str, Any]:
    """The settings of a tokenizer that are compared. What is off counts as absent."""
    found = {key: companions.settings.get(key) for key in COMPARED}
    found |= {key: companions.special(key) for key in TOKENS}
    found["tokenizer_class"] = str(found["tokenizer_class"] or "").removesuffix("Fast")
    if isinstance(length := found["model_max_length"], int | float) and length >= UNLIMITED:
        found["model_max_length"] = None
    return {key: value for key, value in found.items() if value not in (None, False, "")}


def code_findings(model: Checkpoint, companions: Companions, source: bool) -> list[Finding]:
    """What a model's files say of code that is not run here, and of a quantization that its weights do not have.

    source: whether the result gets this model's tokenizer.
    """
    found = []
    for key in QUANTIZED:
        if model.config.get(key):
            text = f"{model.name} has a {key}, but its weights are not quantized; the result has none."
            found.append(Finding("note", text))
    if "auto_map" in model.config:
        kind = model.config.get("model_type")
        text = f"{model.name} names code of its own in config.json (auto_map), which is never run"
        if native(kind):
            found.append(Finding("note", f"{text}; the result does without, as transformers has {kind}."))
        else:
            text += f", and transformers has no model_type {kind!r}; merge a version of the model that it has"
            found.append(Finding("error", f"{text} (the hub often has one, converted)."))
    if source and "auto_map" in companions.settings:
        text = f"the tokenizer of {model.name} names code of its own (auto_map), which is never run"
        if TOKENIZER in companions.files:
            found.append(Finding("note", f"{text}; {TOKENIZER} is used without."))
        else:
            text += f": make {TOKENIZER} on a machine you trust it on, with AutoTokenizer and save_pretrained"
            found.append(Finding("error", f"{text}."))
    return found


def native(model_type: Any) -> bool:
    """Whether transformers has an architecture."""
    from transformers import CONFIG_MAPPING  # takes a second, and few models need it

    return isinstance(model_type, str) and model_type in CONFIG_MAPPING
