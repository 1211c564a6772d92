"""Plans a merge, tensor by tensor, from the recipe, configs and headers, before any tensor is merged."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from acm.adapters import Adapted, open_model
from acm.architectures import EMBEDDING, HEAD
from acm.checkpoints import Checkpoint, layer_of
from acm.errors import UserError
from acm.headers import STORED, TensorInfo
from acm.identity import stamp_of
from acm.merging.chat import template_findings
from acm.merging.companions import Companions, companions_of
from acm.merging.compatibility import (
    Finding,
    align_rows,
    model_findings,
    output_config,
    row_findings,
)
from acm.merging.facts import companion_findings
from acm.merging.generation import generation_config
from acm.merging.mergekit import STACKED
from acm.merging.recipe import Recipe
from acm.merging.settings import Inputs, Settings, read_inputs, settings_of
from acm.merging.vocabulary import Alignment
from acm.merging.weights import folder_findings, tied_output
from acm.sources import source_hash

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One output tensor.

    dtype: as it is stored. shard: the file that it goes to. sources: the base's tensor, then each model's.
    rows: of each source, the row of each output row, −1 for none; None: the rows are the same.
    statistics: what a calibration knows of it, of each model.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    shard: str
    sources: list[TensorInfo]
    rows: list[np.ndarray] | None
    statistics: list[TensorInfo | None]
    settings: Settings

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """As it is stored."""
        return self.size * STORED[self.dtype].itemsize


@dataclass(frozen=True)
class Plan:
    """What a merge will do: everything that it needs to know.

    models: the base, then the models of ``recipe.finetuned``. companions: what lies beside the weights of each.
    jobs: empty if a finding is an error. config, generation: of the merged model. blocks: how many it has.
    """

    recipe: Recipe
    models: list[Checkpoint]
    companions: list[Companions]
    jobs: list[Job]
    inputs: Inputs
    config: dict[str, Any]
    generation: dict[str, Any]
    alignment: Alignment
    findings: list[Finding]
    blocks: int

    @property
    def bytes(self) -> int:
        """Of all output tensors."""
        return sum(job.bytes for job in self.jobs)

    @property
    def base(self) -> Checkpoint:
        """The first model: the recipe's base, or its first model where it names none."""
        return self.models[0]

    @cached_property
    def digest(self) -> str:
        """Hash of the recipe, the inputs' files and this code: what an interrupted merge must share to be continued."""
        files = {info.file for job in self.jobs for info in filter(None, job.statistics)}
        folders = {folder for model in self.models for folder in model.folders}
        files |= {path for folder in folders for path in folder.iterdir() if path.is_file()}
        stamps = [stamp_of(file) for file in sorted(files)]
        content = [
            self.recipe.model_dump(),
            self.inputs.coefficients,
            self.inputs.layers,
            stamps,
            source_hash("merging"),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def check(self) -> Plan:
        """The plan itself; UserError that lists every error found, if there is one."""
        if errors := [finding.text for finding in self.findings if finding.level == "error"]:
            raise UserError("this merge cannot run:\n  " + "\n  ".join(errors) if len(errors) > 1 else errors[0])
        return self


def announce(plan: Plan) -> None:
    """Log what deserves to be known of a merge."""
    for finding in plan.findings:
        LOG.log(logging.WARNING if finding.level == "warning" else logging.INFO, "%s", finding)


def work_folder(out: Path) -> Path:
    """Where a merge into ``out`` works until it is complete: a hidden folder beside it."""
    return out.with_name(f".{out.name}.part")


def make_plan(recipe: Recipe, folder: Path, out: Path | None = None, written: bool = True) -> Plan:
    """The plan of a recipe whose relative paths start from ``folder``; UserError for what cannot even be read.

    What speaks against the merge, or deserves to be known, is in ``findings``. :meth:`Plan.check` raises the errors.
    written: whether the merge is to be written, so that it takes room on the disk.
    """
    given = [recipe.base_model or recipe.models[0].model, *(entry.model for entry in recipe.finetuned)]
    opened: dict[str, Checkpoint] = {}
    for name in given:
        opened[name] = opened.get(name) or open_model(name, folder, opened.get(recipe.base_model or ""))
    models, paper = [opened[name] for name in given], recipe.compatibility == "paper"
    compared, aligned = model_findings(list(opened.values())), recipe.tokenizer_source is not None
    alike = all(finding.level != "error" for finding in compared)
    compared += folder_findings(list(opened.values()), alike)
    companions = companions_of(models)
    alignment = align_rows(recipe.tokenizer_source, models, companions, given, paper)
    compared += companion_findings(models, companions, alignment, aligned)
    generation, ends = generation_config(models, companions, alignment, paper)
    tied, head_findings = tied_output(models, recipe.tie_word_embeddings, paper)
    blocks = count_blocks(models[0])
    config, chosen = output_config(models, stored_dtype(recipe, models[0]), tied, alignment, paper)
    merged = [model for model in opened.values() if isinstance(model, Adapted)]
    adapters = [Finding("note", model.note) for model in merged]
    adapters += [Finding("warning", model.warning) for model in merged if model.warning]
    findings = [
        *adapters,
        *compared,
        *row_findings(models, alignment),
        *head_findings,
        *recipe_findings(recipe, blocks, alignment.rows),
        *template_findings(recipe.chat_template, companions, alignment),
        *chosen,
        *ends,
    ]
    names = output_names(models, tied)
    inputs = read_inputs(recipe, folder, {layer_of(name) for name in names}, models[0].name)
    plan = Plan(recipe, models, companions, [], inputs, config, generation, alignment, findings, blocks)
    if any(finding.level == "error" for finding in findings):
        return plan
    plan = replace(plan, jobs=[make_job(plan, name, shard) for name, shard in names.items()])
    if recipe.scope == "global" and len({str((job.settings.density, job.settings.gamma)) for job in plan.jobs}) > 1:
        raise UserError("`scope: global` ranks all tensors together, so density and gamma must be the same everywhere.")
    return replace(plan, findings=findings + cost_findings(plan, out)) if written else plan


def stored_dtype(recipe: Recipe, base: Checkpoint) -> str:
    """The dtype that the merged model's config declares: the recipe's, else the base's."""
    said = base.config.get("dtype") or base.config.get("torch_dtype")  # its name in older versions of transformers
    return recipe.out_dtype or recipe.dtype or str(said or "float32").removeprefix("torch.")


def count_blocks(model: Checkpoint) -> int:
    """Number of blocks; UserError where their numbers leave a gap, and for a model that is not made of such blocks."""
    try:
        found = sorted({int(layer) for name in model.tensors if (layer := layer_of(name)).isdecimal()})
    except UserError as error:
        raise UserError(
            f"{model.folder} cannot be merged: {error} Decoders such as Qwen, Llama and Gemma can."
        ) from None
    if found != list(range(len(found))):
        raise UserError(f"{model.folder} lacks layers: of {found[-1] + 1} it has {len(found)}; fetch it again.")
    return len(found)


def output_names(models: list[Checkpoint], tied: bool) -> dict[str, str]:
    """Output tensor → shard. The base's tensors stay where the base has them; a new head goes into the last shard."""
    names = {name: shard for name, (shard, _) in sorted(models[0].shards.items(), key=itemgetter(1))}
    if tied:
        names.pop(HEAD, None)
    elif HEAD not in names and EMBEDDING in names:
        names[HEAD] = max(names.values())
    return names


def make_job(plan: Plan, name: str, shard: str) -> Job:
    """What becomes one tensor. The head of a tied model is its embedding."""
    sources = [model.head if name == HEAD else model.tensors[name] for model in plan.models]
    maps = plan.alignment.maps if name in (EMBEDDING, HEAD) else None
    shape = sources[0].shape if maps is None else (plan.alignment.rows, *sources[0].shape[1:])
    statistics = [held.get(name) for held in plan.inputs.statistics]
    check_statistics(plan.recipe.method.statistics, name, shape, statistics)
    dtype = plan.recipe.out_dtype or plan.recipe.dtype or sources[0].dtype
    settings = settings_of(plan.recipe, plan.inputs, plan.base.name, name, shape, plan.blocks)
    return Job(name, shape, dtype, shard, sources, maps, statistics, settings)


def check_statistics(kind: str, name: str, shape: tuple[int, ...], statistics: list[TensorInfo | None]) -> None:
    """UserError for statistics whose shape does not fit their kind and the shape of the tensor."""
    square = shape[-1:] * 2
    wanted = {"inputs": shape[-1:], "gram": square, "diagonal": square}.get(kind, shape)
    for found in filter(None, statistics):
        if found.shape != wanted or (wanted != shape and len(shape) != 2):
            raise UserError(
                f"{found.file}: the statistics of {name} have the shape {list(found.shape)}, the tensor {list(shape)}."
            )


def recipe_findings(recipe: Recipe, blocks: int, rows: int) -> list[Finding]:
    """Errors for mergekit's `layer_range` where it is not all layers, and padding that would add rows.

    A warning for parameters without effect. rows: of the merged embedding.
    """
    found = []
    if odd := [entry.model for entry in recipe.models if entry.layer_range not in (None, (0, blocks))]:
        text = f"layer_range of {odd[0]} must be [0, {blocks}], all layers: the recipe {STACKED}."
        found.append(Finding("error", text))
    if recipe.pad_to_multiple_of and rows % recipe.pad_to_multiple_of:
        text = (
            f"`pad_to_multiple_of: {recipe.pad_to_multiple_of}` would add rows to the embedding's {rows}, which is "
            "not supported: remove it, and call resize_token_embeddings of transformers on the result."
        )
        found.append(Finding("error", text))
    if recipe.idle:
        text = f"{', '.join(recipe.idle)}: without effect on {recipe.merge_method}, as in mergekit."
        found.append(Finding("warning", text))
    return found


def cost_findings(plan: Plan, out: Path | None) -> list[Finding]:
    """Bytes read and written, seconds where the method's speed was measured, and whether the disk has room."""
    read = sum(model.bytes for model in {id(m): m for m in plan.models}.values())
    out = (out or Path()).absolute()
    existing = next(p for p in (out, *out.parents) if p.exists())
    work = work_folder(out) if out.name else None  # of the root there is none
    files = [path for path in work.iterdir() if path.is_file()] if work and work.is_dir() else []
    reserved = sum(path.stat().st_blocks * 512 for path in files)  # by an interrupted merge
    free = shutil.disk_usage(existing).free + reserved
    speed = plan.recipe.method.speed
    took = f" in about {plan.bytes / 1e9 / speed:.0f} s on two cores" if speed else ""
    written = plan.bytes / 1e9
    note = f"reads {read / 1e9:.2f} GB, writes {written:.2f} GB{took}; {free / 1e9:.0f} GB are free. "
    found = [Finding("note", note + "NaN or infinity stops it.")]
    if plan.bytes > free:
        text = f"no space left for the result at {existing}: {written:.2f} GB needed, {free / 1e9:.2f} GB free."
        found.append(Finding("error", text))
    return found
