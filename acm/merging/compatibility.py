"""Checks whether models can be merged, and decides what the merged model gets where they differ.

It reads configs, headers, and samples of a few weights. `facts.py` compares what lies beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from acm.architectures import EMBEDDING, HEAD, WHOLE, architecture, meaning, rope, ties_head
from acm.checkpoints import Checkpoint, shape_problems, unlike
from acm.errors import UserError, printable
from acm.headers import TensorInfo
from acm.merging.companions import Companions
from acm.merging.vocabulary import Alignment, align

ANCESTRY = (  # fields that no fine-tuning changes
    "model_type", "hidden_act", "hidden_activation", "rms_norm_eps", "layer_norm_eps", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_size", "intermediate_size", "num_hidden_layers",
)  # fmt: skip
# Fields of the base that hold of its own files alone, and dtype's name in older versions of transformers.
LEFT_OUT = (
    "quantization_config",
    "compression_config",
    "auto_map",
    "_name_or_path",
    "torch_dtype",
    "transformers_weights",
)
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
# A fine-tuned model usually has ‖δ‖ / ‖θ_0‖ below this. Fine-tuning moves weights by a small part of their norm; for
# two unrelated models the ratio is √2.
USUAL_NORM = 0.9
SAMPLE = 1 << 16  # how many entries of a tensor its norm is estimated from


@dataclass(frozen=True)
class Finding:
    """Something to know before a merge. level: ``error`` (it will not run), ``warning`` or ``note``."""

    level: Literal["error", "warning", "note"]
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {printable(self.text)}"


def model_findings(models: list[Checkpoint]) -> list[Finding]:
    """The findings on each model's config and weights against the base, which comes first."""
    base, *others = models
    found = [finding for other in others for finding in compare(base, other)]
    for other in others:
        found += shape_findings(base, other)
    return found


def compare(base: Checkpoint, other: Checkpoint) -> list[Finding]:
    """What the configs and a few weights of two models say. UserError for config fields of the wrong type."""
    try:
        return [*config_findings(base, other), *norm_findings(base, other)]
    except UserError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"config.json of {base.folder} or {other.folder} has a field of the wrong type ({error}); fetch both again."
        ) from None


def config_findings(base: Checkpoint, other: Checkpoint) -> list[Finding]:
    """Config fields that differ."""
    found = []
    ours, theirs = meaning(base.config), meaning(other.config)
    for key in ANCESTRY:
        if differ(key, ours.get(key), theirs.get(key)):
            text = (
                f"{other.folder} was not fine-tuned from {base.folder}: {key} is {theirs[key]} against {ours[key]}. "
                "Name its true ancestor as base_model (for R1-Distill-Qwen: Qwen2.5-Math)"
            )
            if odd := [model.name for model in (other, base) if model.problems()]:
                text += f", or mend config.json of {odd[0]}: its own tensors contradict it"
            found.append(Finding("error", f"{text}."))
    for key in ("rope_theta", "rope_scaling"):
        if rope(ours, key) != rope(theirs, key):
            text = (
                f"{key} differs, {rope(theirs, key)} in {other.folder} against {rope(ours, key)} in {base.folder}: "
                "perhaps not its ancestor. Position codes that disagree usually break a merge; the base's is kept."
            )
            found.append(Finding("warning", text))
    for key in SPECIAL:
        if ours.get(key) != theirs.get(key):
            text = f"{key} is {theirs.get(key)!r} in {other.name} and {ours.get(key)!r} in {base.name}."
            found.append(Finding("note", text))
    return found


def differ(key: str, ours: Any, theirs: Any) -> bool:
    """Whether a field has two values. An epsilon may have gone through another dtype, which rounds it."""
    if ours is None or theirs is None:
        return False
    return not math.isclose(ours, theirs, rel_tol=0.01) if key.endswith("_eps") else bool(ours != theirs)


def norm_findings(base: Checkpoint, other: Checkpoint) -> list[Finding]:
    """The relative norm of the task vector, on samples of three matrices."""
    names = sorted(
        name for name, info in base.tensors.items()
        if name in other.tensors and len(info.shape) == 2 and info.shape == other.tensors[name].shape
        and ".layers." in name
    )  # fmt: skip
    if not names:
        return []
    sampled = {names[0], names[len(names) // 2], names[-1]}
    ratios = {name: relative_norm(base.tensors[name], other.tensors[name]) for name in sampled}
    name, worst = max(ratios.items(), key=lambda item: item[1])
    if worst > USUAL_NORM:
        text = (
            f"the task vector of {other.name} is {worst:.2f} of the base's norm at {name}; fine-tuning leaves it far "
            f"below {USUAL_NORM}, so {base.folder} may not be its ancestor."
        )
        return [Finding("warning", text)]
    if not any(ratios.values()):
        return [Finding("note", f"{other.name} equals {base.name} wherever it was sampled.")]
    return []


def relative_norm(base: TensorInfo, other: TensorInfo) -> float:
    """‖δ‖ / ‖θ_0‖ on the first entries of a tensor."""
    x, y = (info.numbers(SAMPLE) for info in (base, other))
    with np.errstate(all="ignore"):
        return float(np.nan_to_num(np.linalg.norm(y - x) / np.maximum(np.linalg.norm(x), 1e-30), nan=0.0))


def shape_findings(base: Checkpoint, other: Checkpoint) -> list[Finding]:
    """Findings on tensors that one model lacks or has in another shape, and on dtypes.

    Heads and the number of vocabulary rows are judged elsewhere.
    """
    special = {EMBEDDING, HEAD}
    ours, theirs = ({n: i.shape for n, i in m.tensors.items() if n not in special} for m in (base, other))
    problems = shape_problems(base.folder, ours, other.folder, theirs)
    if (EMBEDDING in base.tensors) != (EMBEDDING in other.tensors):
        problems.append(f"{EMBEDDING}: in one of them alone")
    elif EMBEDDING in base.tensors and base.tensors[EMBEDDING].shape[1:] != other.tensors[EMBEDDING].shape[1:]:
        problems.append(f"{EMBEDDING}: {base.tensors[EMBEDDING].shape} against {other.tensors[EMBEDDING].shape}")
    found = [Finding("error", str(unlike(base, other, problems)))] if problems else []
    dtypes = {m.name: next(iter(m.tensors.values())).dtype for m in (base, other)}
    if len(set(dtypes.values())) > 1:
        text = f"stored dtypes differ: {dtypes}; arithmetic is in float32, the result as `out_dtype` or the base says."
        found.append(Finding("note", text))
    return found


def rows_of(model: Checkpoint) -> int:
    """Rows of the embedding; 0 where there is none."""
    return model.tensors[EMBEDDING].shape[0] if EMBEDDING in model.tensors else 0


def align_rows(
    tokenizer_source: str | None, models: list[Checkpoint], companions: list[Companions], given: list[str], paper: bool
) -> Alignment:
    """How the rows of the vocabularies correspond.

    given: what the recipe calls the models. paper: by the paper's rules.
    """
    if paper and tokenizer_source not in (None, "base"):
        raise UserError(
            "`compatibility: paper` keeps the base's tokenizer and rows; remove `tokenizer_source`, or `compatibility`."
        )
    return align(tokenizer_source, models, companions, given, [rows_of(model) for model in models], paper)


def row_findings(models: list[Checkpoint], alignment: Alignment) -> list[Finding]:
    """Embeddings of unlike length."""
    rows = [rows_of(model) for model in models]
    if len(set(rows)) == 1 and alignment.rows == rows[0]:
        return []
    sizes = ", ".join(f"{m.name} {n}" for m, n in zip(models, rows, strict=True))
    text = (
        f"vocabulary rows: {sizes}; the result has {alignment.rows}. Rows that a model lacks take the base's values, "
        "or where the base lacks them the mean of the others."
    )
    return [Finding("warning", text)]


def output_config(
    models: list[Checkpoint], dtype: str, tied: bool, alignment: Alignment, paper: bool
) -> tuple[dict[str, Any], list[Finding]]:
    """The merged model's config: the base's, and what was chosen beside it. docs/merging.md lists the rules."""
    config = {key: value for key, value in models[0].config.items() if key not in LEFT_OUT}
    if config.get("use_cache") is False:  # left by training; without it, generation takes many times as long
        del config["use_cache"]
    config |= {key: value for key, value in meaning(config).items() if key in WHOLE and key in config}
    choices: dict[str, Any] = {"dtype": dtype}
    stated = ties_head(config)
    known = stated is not None or "tie_word_embeddings" in config
    if stated is not tied and (known or len({m.tied for m in models}) > 1):
        choices["tie_word_embeddings"] = tied
    if alignment.rows and ("vocab_size" in config or architecture(config)):
        choices["vocab_size"] = alignment.rows
    if paper:
        return config | choices, []
    lengths: list[Any] = [meaning(m.config).get("max_position_embeddings") for m in models]
    same_rope = all(rope(m.config, key) == rope(config, key) for m in models for key in ("rope_theta", "rope_scaling"))
    if same_rope and all(isinstance(length, int) for length in lengths):
        choices["max_position_embeddings"] = max(lengths)
    source = models[alignment.source].config
    choices |= {key: source[key] for key in SPECIAL if key in source}
    changed = {key: value for key, value in choices.items() if key != "dtype" and config.get(key) != value}
    return config | choices, [
        Finding("note", f"config: {key} is {value} (the base has {config.get(key)}).") for key, value in changed.items()
    ]
