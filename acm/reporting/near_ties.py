"""Why a response differs from the committed one: the gap between two logits at the first token that differs.

Greedy decoding takes the token of the largest logit. Processors add up floating-point numbers in different orders, so a
logit differs in its last digits from one machine to the next. Where two tokens have nearly the same logit, the last
digits decide between them, and the rest of the response differs too. A gap far above the rounding means something
else: other weights, other code or other versions.

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

NEAR = 1e-4  # a gap that rounding can bridge: float32 tells numbers of about 30, as these logits are, 2e-6 apart
LARGEST = 200e6  # bytes of a base: the merges of larger ones are not made again just to look at them
LOOKED_AT = 50  # responses


def explain(profile: Profile, experiment: str, changed: pd.DataFrame, coefficients: Path) -> str:
    """One sentence on why responses differ, after a look at each of the first LOOKED_AT of them.

    changed: method, question, response_old and response_new of the responses that differ. coefficients: the folder of
    the coefficient files of the merges. The models are run in float32 on the CPU, one response at a time.
    """
    setting, setting_dtype = profile.experiment(experiment), profile.dtype
    base = next(iter(setting.parents.values()))
    if setting.temperature or setting_dtype != "float32" or Checkpoint(base).bytes > LARGEST:
        return "What decided was not looked at: that is done for greedy float32 responses of small models alone."
    looked = changed.head(LOOKED_AT)
    gaps: list[float] = []
    for method, rows in looked.groupby("method"):
        gaps += gaps_of(profile, experiment, str(method), rows, coefficients)
    near = sum(gap <= NEAR for gap in gaps)
    which = "Each of them parts" if len(looked) == len(changed) else f"Of the first {len(looked)}, each parts"
    if near == len(gaps):
        return (
            f"{which} at a near tie: two tokens whose logits are {min(gaps):.0e} to {max(gaps):.0e} apart, "
            "which another processor's rounding decides otherwise."
        )
    return (
        f"{len(gaps) - near} of the {len(gaps)} looked at part where two logits are up to {max(gaps):.1g} apart: "
        "that is more than rounding, so the models, the code or its versions differ."
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
