"""Explains why a run's responses differ from the committed ones: different λ, or a near tie of two logits.

Processors add up floating-point numbers in different orders. So a number differs in its last digits from one machine to
the next. Such a difference can change responses in two ways.

1. λ. Activations are rounded to bf16 before their mutual information is estimated. Where the last digits decide how an
   activation is rounded, the coefficients differ a little. Then all weights of a merge with these coefficients differ.
2. Near ties. Greedy decoding takes the token of the largest logit. Where two tokens have nearly the same logit, the
   last digits decide between them. The rest of the response then differs too.

A larger difference of λ or of logits means something else: other weights, other code or other versions.

    gap       |z_a − z_b|       z_a, z_b: logits of the two tokens at the first place where the responses part
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from acm.checkpoints import Checkpoint
from acm.merging.engine import merge
from acm.profiles import Profile
from acm.records import coefficients_name, read_coefficients

NEAR = 1e-4  # a gap that rounding can bridge: float32 tells numbers of about 30, as these logits are, 2e-6 apart
NEAR_COEFFICIENTS = 1e-3  # a difference of λ that the rounding of activations can cause
LARGEST = 200e6  # bytes of a base model; merges of a larger base are not made again for this explanation
LOOKED_AT = 50  # how many differing responses are looked at


def explain(profile: Profile, experiment: str, changed: pd.DataFrame, new: Path, old: Path) -> str:
    """A few sentences on why responses differ.

    changed: method, question, response_old and response_new of the responses that differ. new, old: the folders of the
    experiment's results, with the coefficient files of the merges. Of the responses of models with equal weights the
    first LOOKED_AT are looked at: the models are run in float32 on the CPU, one response at a time.
    """
    moved = {name: by for name, by in moved_coefficients(profile, experiment, new, old).items() if by}
    weighed = changed["method"].isin(moved)
    sentences = [of_coefficients(changed[weighed], moved)] if weighed.any() else []
    if not weighed.all():
        sentences.append(of_equal_weights(profile, experiment, changed[~weighed], new))
    return " ".join(sentences)


def moved_coefficients(profile: Profile, experiment: str, new: Path, old: Path) -> dict[str, float]:
    """Method that takes coefficients → the largest |Δλ| between two runs; infinity where the old run lacks a λ."""
    found = {}
    for name, method in profile.experiment(experiment).methods.items():
        if method.coefficients:
            file = coefficients_name(method.coefficients)
            one = read_coefficients(new / file)
            other = read_coefficients(old / file) if (old / file).is_file() else {}
            pairs = [(value, other.get(model, {}).get(k, np.inf)) for model in one for k, value in one[model].items()]
            found[name] = max(abs(a - b) for a, b in pairs)
    return found


def of_coefficients(changed: pd.DataFrame, moved: dict[str, float]) -> str:
    """The sentence on responses of merges whose λ differ."""
    methods = list(dict.fromkeys(changed["method"]))
    most = max(moved[method] for method in methods)
    said = f"{len(changed)} of them are of {', '.join(methods)}, whose λ differ by up to {most:.0e}"
    if most <= NEAR_COEFFICIENTS:
        return f"{said}: another processor rounds some activations otherwise."
    return f"{said}: that is more than rounding, so the models, the code or its versions differ."


def of_equal_weights(profile: Profile, experiment: str, changed: pd.DataFrame, coefficients: Path) -> str:
    """The sentence on responses of models with the same weights, after a look at the place where each parts."""
    setting = profile.experiment(experiment)
    base = next(iter(setting.parents.values()))
    if setting.temperature or profile.dtype != "float32" or Checkpoint(base).bytes > LARGEST:
        return "What decided was not looked at: that is done for greedy float32 responses of small models alone."
    gaps: list[float] = []
    for method, rows in changed.head(LOOKED_AT).groupby("method"):
        gaps += gaps_of(profile, experiment, str(method), rows, coefficients)
    far = [gap for gap in gaps if gap > NEAR]
    if far:
        return (
            f"{len(far)} of {len(gaps)} with equal λ part where two logits are up to {max(far):.1g} apart: "
            "that is more than rounding, so the models, the code or its versions differ."
        )
    return (
        f"{len(gaps)} with equal λ part at a near tie of two logits, {min(gaps):.0e} to {max(gaps):.0e} apart: "
        "another processor's rounding decides it otherwise."
    )


def gaps_of(profile: Profile, experiment: str, method: str, rows: pd.DataFrame, coefficients: Path) -> list[float]:
    """The gap of each response of one model; its merge is made anew in a folder that is gone afterwards."""
    setting = profile.experiment(experiment)
    with tempfile.TemporaryDirectory() as place:
        folder = setting.parents.get(method)
        if folder is None:
            folder = merge(setting.recipe(method, coefficients.resolve()), Path(place) / "merged")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        texts = rows[["question", "response_old", "response_new"]].itertuples(index=False)
        return [gap(model, tokenizer, *text) for text in texts]


@torch.no_grad()
def gap(model: Any, tokenizer: Any, question: str, one: str, other: str) -> float:
    """|z_a − z_b| at the first place where two responses to a question part; infinity where they do not part.

    A response that is the beginning of the other ended there: its next token is the end token.
    """
    end = [tokenizer.eos_token_id]
    asked, first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (question, one, other))
    pairs = zip(first + end, second + end, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    if place is None:
        return float("inf")
    logits = model(torch.tensor([asked + first[:place]])).logits[0, -1].double().numpy()
    return float(np.abs(logits[(first + end)[place]] - logits[(second + end)[place]]))
