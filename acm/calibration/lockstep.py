"""Runs all models over all texts in lockstep, layer by layer, and measures what was asked for on the way.

    variable   paper          shape            meaning
    held       A_0^k, A_i^k   (tokens, d)      activations of layer k in the base and in fine-tuned model i, one text
    hidden                    (1, tokens, d)   residual stream of one text behind the layer that ran last
    ids                       (1, tokens)      one text

Memory holds one block of each model (`layerwise.py`) and the hidden states of the texts. Texts go in small groups: a
group is measured as soon as it has passed the layer in all models. On a GPU several groups are measured together
(`together.py`), and the next layer's weights come ahead. `journal.py` notes each finished layer, so that a
killed run continues with the next layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from acm.calibration.controls import (
    CHUNK_ENTRIES,
    DRAWN,
    GPU_ENTRIES,
    Logits,
    Measurement,
    Sides,
    check_norms,
    measure,
    whole_pair,
)
from acm.calibration.importance import InputStatistics, gradients
from acm.calibration.journal import Journal
from acm.calibration.layerwise import BASE, LayerwiseModel, to_bf16, watch
from acm.calibration.registry import BY_GRADIENTS, CONTROLS, ESTIMATORS
from acm.calibration.together import LABELS, batches, measure_together
from acm.checkpoints import Checkpoint
from acm.errors import UserError

COLUMNS = ["finetuned", "layer", "sample", "tokens", "estimator", "control", "value", "norm_base", "norm_finetuned"]

INPUT_KINDS = {BASE: "aim", "finetuned": "regmean"}  # role of a model → the statistic of its weights' inputs

Activations = Tensor | Logits  # (tokens, d), of one text at one layer
Row = tuple[object, ...]  # a row of the table, in the order of COLUMNS
Held = dict[str, dict[int, Activations]]  # model → text → activations


@dataclass(frozen=True)
class Measures:
    """What is measured while the models walk.

    controls, estimators: names from the registry. seed: of the controls' random numbers.
    kinds: statistics for merge methods. folder: where their files go; None where there is no kind.
    """

    controls: tuple[str, ...]
    estimators: tuple[str, ...]
    seed: int
    kinds: tuple[str, ...]
    folder: Path | None

    @property
    def of_gradients(self) -> bool:
        """Whether a kind needs gradients, and with them the hidden states of all layers."""
        return not {*BY_GRADIENTS}.isdisjoint(self.kinds)


def without_weights(
    base: Checkpoint,
    finetuned: dict[str, Checkpoint],
    measures: Measures,
    dtype: torch.dtype,
    places: list[torch.device],
) -> dict[str, LayerwiseModel]:
    """All models that walk, by key, base first. Places go out in turn. UserError for unlike numbers of blocks."""
    opened = {BASE: base} | {f"finetuned/{name}": model for name, model in finetuned.items()}
    if any(CONTROLS[name].unrelated for name in measures.controls):
        opened |= {f"unrelated/{name}": model for name, model in finetuned.items()}
    models = {}
    for i, (key, checkpoint) in enumerate(opened.items()):
        rewired = measures.seed if key.startswith("unrelated/") else None
        models[key] = LayerwiseModel(checkpoint, dtype, places[i % len(places)], rewired)
    for key, model in models.items():
        if model.layers != models[BASE].layers:
            remedy = "name the model that it was fine-tuned from as the base"
            raise UserError(f"{opened[key].folder} has not as many blocks as {base.folder}; {remedy}.")
    return models


def open_journal(
    folder: Path | None, models: dict[str, LayerwiseModel], measures: Measures, settings: Sequence[object]
) -> Journal:
    """What an interrupted run of the same models, measures and settings has left, or an empty journal."""
    asked = [measures.controls, measures.estimators, measures.seed, measures.kinds, str(measures.folder)]
    folders = {key: model.checkpoint.folders for key, model in models.items()}
    return Journal(folder, models[BASE].layers, folders, [*asked, *settings], all_states=measures.of_gradients)


@dataclass
class Asked:
    """What is asked of one text, one fine-tuned model and one control at one layer."""

    finetuned: str
    layer: str
    sample: int
    control: str
    sides: Sides
    key: str

    @property
    def entries(self) -> int:
        """Of each array."""
        return self.sides.tokens * self.sides.channels

    @property
    def compared(self) -> tuple[str, Sides, str]:
        """What :func:`acm.calibration.controls.pairs` takes."""
        return self.control, self.sides, self.key

    def row(self, estimator: str, value: float, measured: Measurement) -> Row:
        """The table's row of an estimator."""
        tokens = self.sides.tokens
        return (self.finetuned, self.layer, self.sample, tokens, estimator, self.control, value, *measured.norms)


class Walk:
    """One pass of all models over all texts."""

    def __init__(
        self, models: dict[str, LayerwiseModel], ids: list[Tensor], measures: Measures, journal: Journal
    ) -> None:
        self.models, self.ids, self.measures, self.journal = models, ids, measures, journal
        self.layers = models[BASE].layers
        self.finetuned = [key.partition("/")[2] for key in models if key.startswith("finetuned/")]
        self.hidden: dict[str, list[Tensor]] = {}  # model → hidden state of each text, after the last layer walked
        self.embedded: dict[str, list[Tensor]] = {}  # model → activations of the embedding, until they were measured
        self.coming: dict[str, Future[dict[str, Tensor]]] = {}  # model → weights of the next layer, on their way to it

    @torch.no_grad()
    def run(self, pool: ThreadPoolExecutor) -> pd.DataFrame:
        """Walk through the layers that the journal lacks; the table of all. pool: threads for the estimates."""
        self.hidden = self.journal.resume() or {}
        if not self.hidden:
            for key, model in self.models.items():
                self.embedded[key], self.hidden[key] = model.start(self.ids)
        for layer in tqdm(self.layers, desc="calibration", unit="layer", mininterval=5):
            if layer not in self.journal.done:
                rows, files = self.layer_rows(layer, pool)
                self.journal.add(layer, rows, self.hidden, files)
        if self.measures.of_gradients and self.measures.folder:
            gradients(self.models, self.ids, self.journal, self.measures.folder, self.measures.kinds)
        table = self.journal.finish()
        models, layers = table["finetuned"].map(self.finetuned.index), table["layer"].map(self.layers.index)
        places = pd.DataFrame({"model": models, "layer": layers}).sort_values(["model", "layer"], kind="stable")
        return table.loc[places.index, COLUMNS].reset_index(drop=True)

    def layer_rows(self, layer: str, pool: ThreadPoolExecutor) -> tuple[pd.DataFrame, list[Path]]:
        """Push all texts through one layer of all models: its rows of the table, and the files of its statistics."""
        rows, files = [], []
        with contextlib.ExitStack() as stack:
            collectors = self.load(layer, stack, pool)
            asked: list[Asked] = []
            for group in groups([i.shape[1] for i in self.ids]):
                held = self.advance(layer, group, collectors)
                asked += self.asked(layer, held, group)
                if sum(one.entries + LABELS for one in asked) > self.together:
                    rows += self.rows(asked, pool)
                    asked = []
            rows += self.rows(asked, pool)
            for collector in collectors.values():
                files += collector.save()
        self.embedded = {}
        table = pd.DataFrame(rows, columns=COLUMNS)
        return table.sort_values(["finetuned", "sample"], kind="stable", ignore_index=True), files

    @property
    def together(self) -> int:
        """How many entries may wait to be measured together. On the CPU each group is measured at once."""
        on_gpu = all(model.device.type != "cpu" for model in self.models.values())
        return GPU_ENTRIES if on_gpu else 0

    def load(self, layer: str, stack: contextlib.ExitStack, pool: ThreadPoolExecutor) -> dict[str, InputStatistics]:
        """Load the layer in all models until the stack is closed. Returns what collects statistics, by model."""
        collectors: dict[str, InputStatistics] = {}
        if layer == "embed":  # the walk's start has read what it needs of the embedding
            return collectors
        place = self.layers.index(layer) + 1
        for key, model in self.models.items():
            weights = self.coming.pop(key).result() if key in self.coming else None
            module = stack.enter_context(model.loaded(layer, weights=weights))
            if self.together and place < len(self.layers):
                self.coming[key] = pool.submit(model.weights, self.layers[place])
            role, _, name = key.partition("/")
            kind = INPUT_KINDS.get(role)
            if self.measures.folder and kind in self.measures.kinds:
                folder = self.measures.folder / kind / name  # the base has no name: its files lie in the kind's folder
                collectors[key] = stack.enter_context(InputStatistics(kind, folder, model, layer, module))
        return collectors

    def advance(self, layer: str, group: list[int], collectors: dict[str, InputStatistics]) -> Held:
        """Push a group of texts through the loaded layer of all models."""
        held: Held = {}
        for key in self.models:
            held[key] = {}
            for sample in group:
                held[key][sample] = self.step(key, layer, sample, collectors.get(key))
        return held

    def step(self, key: str, layer: str, sample: int, collector: InputStatistics | None) -> Activations:
        """One text's activations (tokens, d) at one layer of a model. Its hidden state moves on to behind the layer."""
        if layer == "embed":
            return self.embedded[key][sample]
        model = self.models[key]
        hidden = self.hidden[key][sample].to(model.device)
        if layer == "lm_head":
            if collector:
                collector.see("lm_head.weight", hidden[0])
            most = CHUNK_ENTRIES if model.device.type == "cpu" else GPU_ENTRIES
            whole = len(hidden[0]) * model.vocabulary <= most
            return model.logits(hidden[0], model.vocabulary) if whole else Logits(model, hidden[0])
        if layer == "norm":
            self.hidden[key][sample] = model.modules["norm"](hidden)
            return to_bf16(self.hidden[key][sample][0])
        with watch(model.watched[layer]) as activations:
            self.hidden[key][sample] = model.block(layer, hidden)
        return activations[0]

    def asked(self, layer: str, held: Held, group: list[int]) -> list[Asked]:
        """What is asked of a group of texts at a layer."""
        found = []
        for name, sample, control in product(self.finetuned, group, self.measures.controls):
            compared = CONTROLS[control]
            other = group[(group.index(sample) + 1) % len(group)] if compared.other_text else sample
            model = f"{'unrelated' if compared.unrelated else 'finetuned'}/{name}"
            sides = Sides(held[BASE][sample], held[model][other])
            key = f"{self.measures.seed}/{sample}/{name}/{layer}/{control}"
            found.append(Asked(name, layer, sample, control, sides, key))
        return found

    def rows(self, asked: list[Asked], pool: ThreadPoolExecutor) -> list[Row]:
        """The table's rows: for each estimator one of what was asked."""
        names, found = self.measures.estimators, []
        additive = all(ESTIMATORS[name].additive for name in names)
        joint = self.joint([one for one in asked if additive and one.entries <= self.together], pool)
        alone = {one.key: pool.submit(measure, *one.compared, names) for one in asked if one.key not in joint}
        for one in asked:
            try:
                measured = joint[one.key] if one.key in joint else alone[one.key].result()
                check_norms(*measured.norms)
            except ValueError as error:
                raise UserError(f"{one.finetuned}, layer {one.layer}, text {one.sample + 1}: {error}") from None
            found += [one.row(name, value, measured) for name, value in zip(names, measured.values, strict=True)]
        return found

    def joint(self, asked: list[Asked], pool: ThreadPoolExecutor) -> dict[str, Measurement]:
        """Estimates of what is measured together on a GPU, by key.

        While the models walk no thread draws numbers: Python would let the walk wait for it at every call.
        """
        found: dict[str, Measurement] = {}
        for batch in batches([(one.sides.tokens, one.sides.channels) for one in asked], self.together):
            each = [asked[place] for place in batch]
            drawn = {one.key: pool.submit(whole_pair, *one.compared) for one in each if one.control in DRAWN}
            pairs = [drawn[one.key].result() if one.key in drawn else whole_pair(*one.compared) for one in each]
            measured = measure_together(pairs, self.measures.estimators)
            found |= zip([one.key for one in each], measured, strict=True)
        return found


def groups(lengths: list[int]) -> list[list[int]]:
    """Groups of two texts of nearly the same length; of an odd number of texts, one group has three.

    The control ``other-sample`` compares a text with another text of its group.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    starts = list(range(0, max(1, len(order) - 1), 2))
    return [order[start:end] for start, end in zip(starts, [*starts[1:], len(order)], strict=True)]
