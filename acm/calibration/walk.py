"""Calibration: texts → activations of all models → the table of mutual information, and statistics for other methods.

    variable    paper   shape              meaning
    base        A_0^k   (tokens, d)        activations of layer k in the base model, one text
    finetuned   A_i^k   (tokens, d)        the same in a fine-tuned model

A layer's activations are the output of ``mlp.down_proj`` of its block, before the residual add; the embedding,
the final norm and ``lm_head`` count as layers too. Texts go one at a time, without padding or chat template, through the base
model's tokenizer, as in the paper's code. All models walk in lockstep, layer by layer (`layerwise.py`): held are one block of each
and the texts' hidden states. With ``keep``, a killed run continues with the next layer.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from acm.calibration.controls import PART, Logits, check_measures, measure, parts
from acm.calibration.importance import KINDS, InputStatistics, check_kinds, gradients
from acm.calibration.journal import Journal
from acm.calibration.layerwise import LayerwiseModel, to_bf16, watch
from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.calibration.texts import check_texts, read_texts, select_texts, texts_hash
from acm.checkpoints import check_same_shape, check_weights, model_folder
from acm.devices import devices
from acm.errors import UserError, unknown
from acm.headers import DTYPES

__all__ = ["COLUMNS", "KINDS", "calibrate", "read_texts", "select_texts"]

COLUMNS = ["finetuned", "layer", "sample", "tokens", "estimator", "control", "value", "norm_base", "norm_finetuned"]
BASE = "base"
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def calibrate(base: str | Path, finetuned: dict[str, str | Path], texts: list[str], controls: tuple[str, ...] = COEFFICIENT_CONTROLS,
              estimators: tuple[str, ...] = ("plug-in",), seed: int = 0, dtype: str = "float32", device: str = "cpu", threads: int = 1,
              max_tokens: int | None = None, keep: Path | None = None, statistics: Path | None = None,
              kinds: tuple[str, ...] = ()) -> pd.DataFrame:  # fmt: skip
    """The table of mutual information: one row per (finetuned, layer, sample, estimator, control).

    base, finetuned: model folders of one architecture and shape. texts: calibration texts, cut to ``max_tokens`` tokens (None: whole).
    controls, estimators: see :mod:`acm.calibration.controls` and :mod:`acm.calibration.information`. dtype: of the computation (the paper's models run in
    bf16); activations are rounded to bf16 whatever it is. device: ``cpu``, ``cuda``, ``auto``; several GPUs share the models. threads: for
    the estimates, which are the same for any number. keep: folder for what an interrupted run continues from; removed at the end.
    statistics: folder for the files of ``kinds`` (:mod:`acm.calibration.importance`), which merge methods read.
    Columns: value in the estimator's unit, norm_base and norm_finetuned the mean L2 norm of a token's activations, each side. The table's
    ``attrs``, which its parquet file keeps, hold texts_sha256, the hash of the texts.
    Source: Eq. 1 of arXiv 2505.14009 and its released code. Raises UserError for missing or unlike models, weights that are not finite,
    empty texts, unknown controls, estimators, kinds, dtypes or devices, and activations that are not finite.
    """
    check_texts(texts, "the calibration set")
    check_measures(controls, estimators, len(texts))
    placed = check_dtype(dtype), devices(device)
    for what, number in (("threads", threads), ("max_tokens", max_tokens)):
        if number is not None and number < 1:
            raise UserError(f"{what} must be at least 1, not {number}.")
    base, folders = model_folder(base), {name: model_folder(path) for name, path in finetuned.items()}
    ids = tokenized(base, texts, max_tokens)
    keep, statistics = (path and Path(path) for path in (keep, statistics))
    check_kinds(kinds, statistics, base.name, list(folders), [part.shape[1] for part in ids])
    for folder in folders.values():
        check_same_shape(base, folder, vocabulary=False)
    for folder in (base, *folders.values()):
        check_weights(folder)
    with contextlib.ExitStack() as stack:
        if keep is None and {"fisher", "sensitivity"} & set(kinds):
            keep = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "states"
        walk = Walk(base, folders, ids, controls, estimators, seed, placed, statistics, kinds, keep)
        table = walk.run(stack.enter_context(ThreadPoolExecutor(threads)))
    table.attrs["texts_sha256"] = texts_hash(texts)
    return table


def tokenized(base: Path, texts: list[str], max_tokens: int | None) -> list[torch.Tensor]:
    """Each text as (1, tokens); UserError for one that has no token."""
    if not any((base / name).is_file() for name in VOCABULARIES):  # transformers would make up an empty tokenizer
        raise UserError(f"{base} has no tokenizer ({', '.join(VOCABULARIES)}); fetch the model again.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    except Exception as error:  # whatever transformers make of foreign or missing files
        raise UserError(
            f"the tokenizer of {base} cannot be read ({type(error).__name__}); fetch the model again."
        ) from None
    ids = [tokenizer(text, return_tensors="pt")["input_ids"][:, :max_tokens] for text in texts]
    if short := [i for i, part in enumerate(ids, 1) if not part.shape[1]]:
        raise UserError(f"calibration text {short[0]} holds no token of the base's tokenizer; remove it.")
    return ids


def check_dtype(name: str) -> torch.dtype:
    if name not in DTYPES.values():
        raise unknown("dtype", str(name), DTYPES.values())
    return getattr(torch, name)


class Walk:
    """One pass of all models over all texts. Models by key: ``base``, ``finetuned/<name>``, ``unrelated/<name>``."""

    def __init__(self, base: Path, finetuned: dict[str, Path], ids: list[torch.Tensor], controls: tuple[str, ...], estimators: tuple[str, ...],
                 seed: int, placed: tuple[torch.dtype, list[torch.device]], statistics: Path | None, kinds: tuple[str, ...],
                 keep: Path | None) -> None:  # fmt: skip
        self.ids, self.controls, self.estimators, self.seed, self.kinds = ids, controls, estimators, seed, kinds
        self.finetuned, self.statistics, self.base_name = list(finetuned), statistics, base.name
        folders = {BASE: base} | {f"finetuned/{name}": path for name, path in finetuned.items()}
        if "unrelated" in controls:
            folders |= {f"unrelated/{name}": path for name, path in finetuned.items()}
        dtype, places = placed
        self.models = {
            key: LayerwiseModel(path, dtype, places[i % len(places)], seed if key.startswith("unrelated") else None)
            for i, (key, path) in enumerate(folders.items())
        }
        self.layers = self.models[BASE].layers
        if unlike := [folders[key] for key, model in self.models.items() if model.layers != self.layers]:
            raise UserError(
                f"{unlike[0]} has not as many blocks as {base}; name the model that it was fine-tuned from as the base."
            )
        facts = [
            controls,
            estimators,
            seed,
            str(dtype),
            places[0].type,
            kinds,
            str(statistics),
            [i.tolist() for i in ids],
        ]
        self.journal = Journal(
            keep, self.layers, folders, facts, all_states=bool({"fisher", "sensitivity"} & set(kinds))
        )

    @torch.no_grad()
    def run(self, pool: ThreadPoolExecutor) -> pd.DataFrame:
        self.hidden, embedded = self.journal.resume() or {}, {}
        if not self.hidden:
            for key, model in self.models.items():
                embedded[key], self.hidden[key] = model.start(self.ids)
        for layer in tqdm(self.layers, desc="calibration", unit="layer", mininterval=5):
            if layer not in self.journal.done:
                rows, files = self.layer_rows(layer, embedded, pool)
                self.journal.add(layer, rows, self.hidden, files)
            embedded = {}  # seen by the first layer alone
        if self.journal.all_states:
            gradients(self.models, self.ids, self.journal, self.statistics, self.kinds, self.base_name)
        rows = self.journal.finish()
        order = {"finetuned": self.finetuned, "layer": self.layers}
        return rows.sort_values(
            [*order], key=lambda column: column.map(order[column.name].index), kind="stable", ignore_index=True
        )[COLUMNS]

    def layer_rows(self, layer: str, embedded: dict, pool: ThreadPoolExecutor) -> tuple[pd.DataFrame, list[Path]]:
        """Push all texts through one layer of all models; the MI of their activations, and the statistics that were written."""
        rows = []
        with contextlib.ExitStack() as stack:
            seen = {}
            for key, model in self.models.items():
                part = stack.enter_context(model.loaded(layer)) if layer in model.parts and layer != "embed" else None
                kind = "aim" if key == BASE else "regmean" if key.startswith("finetuned") else ""
                if kind in self.kinds and layer != "embed":
                    seen[key] = stack.enter_context(InputStatistics(kind, key, model, layer, part))
            for group in groups([i.shape[1] for i in self.ids]):
                held = {
                    key: {s: embedded[key][s] if embedded else self.step(key, layer, s, seen.get(key)) for s in group}
                    for key in self.models
                }
                tasks = [(name, s, control) for name in self.finetuned for s in group for control in self.controls]
                found = pool.map(lambda task: self.rows(layer, held, group, *task), tasks)  # noqa: B023 (consumed at once)
                rows += [row for part in found for row in part]
            files = [file for collector in seen.values() for file in collector.save(self.statistics)]
        return pd.DataFrame(rows, columns=COLUMNS).sort_values(
            ["finetuned", "sample"], kind="stable", ignore_index=True
        ), files

    def step(self, key: str, layer: str, sample: int, collector: InputStatistics | None) -> torch.Tensor | Logits:
        """One text's activations (tokens, d) at one layer of a model; its hidden state goes on."""
        model, hidden = self.models[key], self.hidden[key][sample].to(self.models[key].device)
        if layer == "lm_head":
            if collector:
                collector.see("lm_head.weight", hidden[0])
            whole = len(hidden[0]) * model.vocabulary <= PART
            return model.logits(hidden[0], model.vocabulary) if whole else Logits(model, hidden[0])
        if layer == "norm":
            self.hidden[key][sample] = model.parts["norm"](hidden)
            return to_bf16(self.hidden[key][sample][0])
        with watch(model.watched[layer]) as activations:
            self.hidden[key][sample] = model.block(layer, hidden)
        return activations[0]

    def rows(
        self, layer: str, held: dict[str, dict], group: list[int], name: str, sample: int, control: str
    ) -> list[tuple]:
        """Of one text, one fine-tuned model and one control: a row for each estimator."""
        other = group[(group.index(sample) + 1) % len(group)] if control == "other-sample" else sample
        x, y = held[BASE][sample], held[f"{'unrelated' if control == 'unrelated' else 'finetuned'}/{name}"][other]
        norms = Norms(parts(control, x, y, f"{self.seed}/{sample}/{name}/{layer}/{control}", PART))
        try:
            values = measure(norms, self.estimators)
        except ValueError as error:
            raise UserError(f"{name}, layer {layer}, text {sample + 1}: {error}") from None
        return [
            (name, layer, sample, norms.tokens, estimator, control, value, *norms.means)
            for estimator, value in zip(self.estimators, values, strict=True)
        ]


class Norms:
    """Passes pairs on and sums the L2 norms of their rows, in float64; ValueError for pairs that are not finite."""

    def __init__(self, pairs: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.pairs, self.tokens, self.sums = pairs, 0, [0.0, 0.0]

    def __iter__(self) -> Norms:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        pair = next(self.pairs)
        self.tokens += len(pair[0])
        norms = [float(torch.linalg.vector_norm(side, dim=1, dtype=torch.float64).sum()) for side in pair]
        if not all(map(math.isfinite, norms)):
            raise ValueError("activations hold NaN or infinity; the model or its dtype is at fault.")
        self.sums = [total + norm for total, norm in zip(self.sums, norms, strict=True)]
        return pair

    @property
    def means(self) -> list[float]:
        return [total / self.tokens for total in self.sums]


def groups(lengths: list[int]) -> list[list[int]]:
    """Texts in pairs (an odd one out makes a three) of nearly the same length: each is the other's other sample."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    cut = list(range(0, max(1, len(order) - 1), 2))
    return [order[a:b] for a, b in zip(cut, [*cut[1:], len(order)], strict=True)]
