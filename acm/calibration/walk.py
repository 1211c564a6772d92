"""The public function of calibration: texts → activations of all models → the table of mutual information.

It can also gather statistics that some merge methods need. Each block counts as a layer; its activations are the output
of its ``mlp.down_proj``, before the residual add. The embedding, the final norm and ``lm_head`` count as layers too. As
in the paper's code, the base model's tokenizer reads the texts one at a time, without padding or chat template.
`lockstep.py` runs the models. This module has the function and its checks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from filecmp import cmp
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import AutoTokenizer

from acm.adapters import open_folders
from acm.calibration import defaults
from acm.calibration.controls import check_measures
from acm.calibration.importance import check_kinds
from acm.calibration.lockstep import Measures, Walk, open_journal, without_weights
from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.calibration.texts import check_texts, texts_hash
from acm.checkpoints import TOKENIZERS_SHOWN, Checkpoint, check_same_shape, check_weights, has_tokenizer
from acm.devices import devices
from acm.errors import UserError, unknown
from acm.headers import DTYPES

DRAWING = 16  # threads: a text's noise for a head of 150,000 columns takes a core a fifth of a second
LOG = logging.getLogger(__name__)


def calibrate(
    base: str | Path,
    finetuned: Mapping[str, str | Path],
    texts: Sequence[str],
    *,
    controls: Sequence[str] = COEFFICIENT_CONTROLS,
    estimators: Sequence[str] = (defaults.ESTIMATOR,),
    seed: int = defaults.SEED,
    dtype: str = defaults.DTYPE,
    device: str = defaults.DEVICE,
    threads: int = defaults.THREADS,
    max_tokens: int | None = None,
    keep: str | Path | None = None,
    statistics: str | Path | None = None,
    kinds: Sequence[str] = (),
) -> pd.DataFrame:
    """The table of mutual information (Eq. 1 of arXiv 2505.14009 and its released code).

    base: a model folder. finetuned: name → model folder, of the base's architecture and shape. Either may be a LoRA
    adapter, or ``model+adapter`` (docs/merging.md).
    texts: calibration texts. max_tokens: texts are cut there, in tokens of the base's tokenizer (None: whole).
    controls, estimators: names from :mod:`acm.calibration.registry`. seed: of the controls' random numbers.
    dtype: of the computation, ``float32``, ``bfloat16`` (the paper's models run in it) or ``float16``; activations are
    rounded to bf16 whatever it is.
    device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``; several GPUs share the models.
    threads: for the estimates, which are the same for any number. Beside a GPU there are up to DRAWING.
    keep: folder for what an interrupted run continues from; what was kept is removed at the end.
    statistics: folder for the files of ``kinds``, which merge methods read; see :mod:`acm.calibration.importance`.

    Returns one row for each (finetuned, layer, sample, estimator, control). Columns:

        finetuned, control, estimator   names
        layer                           ``embed``, ``0`` … ``L−1``, ``norm``, ``lm_head``
        sample                          place of the text among the texts, from 0
        tokens                          of the text; of the shorter one where two texts are compared
        value                           in the estimator's unit, float64
        norm_base, norm_finetuned       mean L2 norm of a token's activations on each side, float64

    The table's ``attrs``, which its parquet file keeps, hold ``texts_sha256``, the hash of the texts.

    Raises UserError for missing or unlike models, weights that are not finite, empty texts, unknown controls,
    estimators, kinds, dtypes or devices, and activations that are not finite.

    Two models of the repository: one writes tersely, the other step by step. They read two texts, of 7 and 24 tokens.

    >>> import acm
    >>> base, finetuned = "abacus/checkpoints/abacus-fast", {"abacus-slow": "abacus/checkpoints/abacus-slow"}
    >>> texts = ["17+5=22", "question: leo has 49 pears. he gives away 29. how many pears are left? answer:"]
    >>> table = acm.calibrate(base, finetuned, texts, controls=("none", "gaussian"))
    >>> table.shape
    (36, 9)

    The MI of block 0 in both texts, nats: of the real pair, and of independent noise, where any MI is bias.

    >>> block = table[table["layer"] == "0"].set_index("control")["value"].round(1)
    >>> block["none"].tolist(), block["gaussian"].tolist()
    ([6.0, 5.9], [5.9, 5.7])

    λ of every layer is near 0.5 where the texts agree; they agree least at the head:

    >>> from acm.calibration.coefficients import matrix
    >>> layers, mi = matrix(table, "none")
    >>> layers
    ['embed', '0', '1', '2', '3', '4', '5', 'norm', 'lm_head']
    >>> acm.layer_coefficients(mi).round(1)
    array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6])
    """
    folder = Path(statistics) if statistics else None
    measures = Measures(tuple(controls), tuple(estimators), seed, tuple(kinds), folder)
    check_texts(texts, "the calibration set")
    check_measures(measures.controls, measures.estimators, len(texts))
    number_type, places = check_dtype(dtype), devices(device)
    for what, number in (("threads", threads), ("max_tokens", max_tokens)):
        if number is not None and number < 1:
            raise UserError(f"{what} must be at least 1, not {number}.")
    first, others = open_folders(base, finetuned)
    ids = tokenized(first.tokenizer, texts, max_tokens)
    check_kinds(measures.kinds, folder, first.name, list(others), [i.shape[1] for i in ids])
    for model in others.values():
        check_same_shape(first, model, vocabulary=False)
    for model in (first, *others.values()):
        check_weights(model)
    warn_of_reading(first, others, texts, max(i.shape[1] for i in ids))
    with contextlib.ExitStack() as stack:
        kept = Path(keep) if keep else None
        if kept is None and measures.of_gradients:
            kept = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "states"
        models = without_weights(first, others, measures, number_type, places)
        settings = [str(number_type), places[0].type, [i.tolist() for i in ids]]
        walk = Walk(models, ids, measures, open_journal(kept, models, measures, settings))
        stack.callback(torch.set_num_threads, torch.get_num_threads())  # threads that estimate lower it for all
        table = walk.run(stack.enter_context(estimating(max(threads, drawing(places)), places)))
    table.attrs["texts_sha256"] = texts_hash(texts)
    return table


def drawing(places: Sequence[torch.device]) -> int:
    """Threads that draw random numbers beside a GPU; the draws are the CPU's, whatever counts them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(DRAWING, cores) if places[0].type != "cpu" else 1


def estimating(threads: int, places: Sequence[torch.device]) -> ThreadPoolExecutor:
    """Threads for the estimates. Beside a GPU each draws with one core."""
    if places[0].type == "cpu":
        return ThreadPoolExecutor(threads)
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


def tokenized(base: Path, texts: Sequence[str], max_tokens: int | None) -> list[Tensor]:
    """Each text as (1, tokens). UserError where there is no readable tokenizer, and for a text that has no token."""
    tokenizer = read_tokenizer(base)
    ids = [tokenizer(text, return_tensors="pt")["input_ids"][:, :max_tokens] for text in texts]
    for number, found in enumerate(ids, 1):
        if not found.shape[1]:
            raise UserError(f"calibration text {number} holds no token of the base's tokenizer; remove it.")
    return ids


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder; UserError where there is no readable one."""
    if not has_tokenizer(folder):
        raise UserError(f"{folder} has no tokenizer ({TOKENIZERS_SHOWN}); fetch the model again.")
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever transformers make of foreign or missing files
        name = type(error).__name__
        raise UserError(f"the tokenizer of {folder} cannot be read ({name}); fetch the model again.") from None


def warn_of_reading(base: Checkpoint, others: Mapping[str, Checkpoint], texts: Sequence[str], longest: int) -> None:
    """Say where a model gets tokens that mean other texts to it, or at places for which none was trained.

    longest: tokens of the longest text.
    """
    positions = base.config.get("max_position_embeddings")
    if isinstance(positions, int) and longest > positions:
        LOG.warning(
            "warning: the longest text has %s tokens, and the base has %s positions (max_position_embeddings); "
            "--max-tokens %s cuts texts there.", f"{longest:,}", f"{positions:,}", positions
        )  # fmt: skip
    for name, model in others.items():
        one, other = (each.tokenizer / "tokenizer.json" for each in (base, model))
        if one.is_file() and other.is_file() and cmp(one, other, shallow=False):
            continue
        with contextlib.suppress(UserError):  # the base's tokenizer alone is needed
            ours, theirs = read_tokenizer(base.tokenizer), read_tokenizer(model.tokenizer)
            unlike = sum(encoded(ours, text) != encoded(theirs, text) for text in texts)
            if unlike:
                LOG.warning(
                    "warning: the tokenizer of %s reads %d of %d texts otherwise than the base's, which reads them for "
                    "all models; its coefficients may mean little.", name, unlike, len(texts)
                )  # fmt: skip


def encoded(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text, without what a tokenizer puts around it."""
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def check_dtype(name: str) -> torch.dtype:
    """torch's dtype of this name. UserError for one that nothing is computed in."""
    if name not in DTYPES.values():
        raise unknown("dtype", str(name), DTYPES.values())
    found: torch.dtype = getattr(torch, name)
    return found
