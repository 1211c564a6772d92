"""Whether models fit together, and what the merged model's config gets: decided from configs and headers alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acm.checkpoints import Checkpoint, TensorInfo
from acm.errors import UserError
from acm.files import read_json
from acm.merging.vocabulary import Alignment, differing_tokens
from acm.shapes import rope

ANCESTRY = (  # fields that no fine-tuning changes
    "model_type", "hidden_act", "hidden_activation", "rms_norm_eps", "layer_norm_eps", "num_attention_heads", "num_key_value_heads",
    "head_dim", "hidden_size", "intermediate_size", "num_hidden_layers",
)  # fmt: skip
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
USUAL_NORM = (
    0.9  # ‖δ‖ / ‖θ_0‖ above this: fine-tuning moves weights by a small part of their norm, unrelated models are at √2
)
SAMPLE = 1 << 16  # entries


@dataclass(frozen=True)
class Finding:
    """Something to know before a merge. level: ``error`` (it will not run), ``warning`` or ``note``."""

    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"


def compare(base: Checkpoint, other: Checkpoint) -> list[Finding]:
    """What speaks against merging these two, or deserves to be known. UserError for config fields of the wrong type."""
    try:
        return compared(base, other)
    except UserError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"config.json of {base.folder} or {other.folder} has a field of the wrong type ({error}); fetch both again."
        ) from None


def compared(base: Checkpoint, other: Checkpoint) -> list[Finding]:
    found = []
    ours, theirs = base.config, other.config
    for key in ANCESTRY:
        if key in ours and key in theirs and ours[key] != theirs[key]:
            found.append(Finding("error", f"{other.folder} was not fine-tuned from {base.folder}: {key} is {theirs[key]} against "
                                          f"{ours[key]}. Name its true ancestor as base_model (for R1-Distill-Qwen: Qwen2.5-Math)."))  # fmt: skip
    for key in ("rope_theta", "rope_scaling"):
        if rope(ours, key) != rope(theirs, key):
            found.append(Finding("warning", f"{key} differs, {rope(theirs, key)} in {other.folder} against {rope(ours, key)} in {base.folder}: "
                                            "perhaps not its ancestor. Position codes that disagree usually break a merge; the base's is kept."))  # fmt: skip
    for key in SPECIAL:
        if ours.get(key) != theirs.get(key):
            found.append(
                Finding("note", f"{key} is {theirs.get(key)!r} in {other.name} and {ours.get(key)!r} in {base.name}.")
            )
    if template(base.folder) != template(other.folder):
        found.append(
            Finding(
                "note",
                f"{other.name} has another chat template than {base.name}; the result gets that of `tokenizer_source` (default: base).",
            )
        )
    found += norm_findings(base, other)
    return found


def template(folder: Path) -> str | None:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
    config = folder / "tokenizer_config.json"
    found = read_json(config).get("chat_template") if config.is_file() else None
    return found and json.dumps(found)


def token_findings(base: Checkpoint, other: Checkpoint, aligned: bool) -> list[Finding]:
    """Ids that mean different tokens."""
    differing = differing_tokens(base.folder, other.folder)
    if not differing:
        return []
    i, ours, theirs = differing[0]
    done = (
        "they are aligned by token"
        if aligned
        else "rows are merged by id; `tokenizer_source: base` or `union` aligns them by token"
    )
    return [Finding("note" if aligned else "warning",
                    f"{len(differing)} ids mean different tokens in {other.name} and {base.name} (such as {i}: {theirs!r} against {ours!r}); {done}.")]  # fmt: skip


def norm_findings(base: Checkpoint, other: Checkpoint) -> list[Finding]:
    """The relative norm of the task vector on a few samples of weights."""
    names = sorted(n for n, info in base.tensors.items() if n in other.tensors and len(info.shape) == 2
                   and info.shape == other.tensors[n].shape and ".layers." in n)  # fmt: skip
    if not names:
        return []
    ratios = {
        name: relative_norm(base.tensors[name], other.tensors[name])
        for name in {names[0], names[len(names) // 2], names[-1]}
    }
    name, worst = max(ratios.items(), key=lambda item: item[1])
    if worst > USUAL_NORM:
        return [Finding("warning", f"the task vector of {other.name} is {worst:.2f} of the base's norm at {name}; fine-tuning leaves it far "
                                   f"below {USUAL_NORM}, so {base.folder} may not be its ancestor.")]  # fmt: skip
    if not any(ratios.values()):
        return [Finding("note", f"{other.name} equals {base.name} wherever it was sampled.")]
    return []


def relative_norm(base: TensorInfo, other: TensorInfo) -> float:
    """‖δ‖ / ‖θ_0‖ on the first entries."""
    x, y = (info.numbers(SAMPLE) for info in (base, other))
    with np.errstate(all="ignore"):
        return float(np.nan_to_num(np.linalg.norm(y - x) / max(np.linalg.norm(x), 1e-30), nan=0.0))


def output_config(
    models: list[Checkpoint], dtype: str, tied: bool, alignment: Alignment, paper: bool
) -> tuple[dict, list[Finding]]:
    """The merged model's config: the base's, and what was chosen beside it. docs/merging.md lists the rules."""
    config = dict(models[0].config)
    config.pop("torch_dtype", None)  # the name of older versions of transformers
    choices: dict[str, Any] = {"dtype": dtype}
    if tied != config.get("tie_word_embeddings") and len({m.tied for m in models}) > 1:
        choices["tie_word_embeddings"] = tied
    if paper:
        return config | choices, []
    lengths = [m.config.get("max_position_embeddings") for m in models]
    same_rope = all(rope(m.config, key) == rope(config, key) for m in models for key in ("rope_theta", "rope_scaling"))
    if same_rope and all(isinstance(length, int) for length in lengths):
        choices["max_position_embeddings"] = max(lengths)
    if "vocab_size" in config and alignment.rows:
        choices["vocab_size"] = alignment.rows
    choices |= {key: models[alignment.source].config[key] for key in SPECIAL if key in models[alignment.source].config}
    changed = {k: v for k, v in choices.items() if k != "dtype" and config.get(k) != v}
    return config | choices, [
        Finding("note", f"config: {k} is {v} (the base has {config.get(k)}).") for k, v in changed.items()
    ]
