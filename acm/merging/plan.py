"""What a merge will do, tensor by tensor, decided from the recipe, configs and headers before any weight is read."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from acm import hub
from acm.checkpoints import EMBEDDING, HEAD, STORED, Checkpoint, TensorInfo, exists, layer_of, shape_problems, unlike
from acm.errors import UserError
from acm.merging.compatibility import Finding, compare, output_config, token_findings
from acm.merging.recipe import Recipe
from acm.merging.settings import Inputs, Settings, read_inputs, settings_of
from acm.merging.vocabulary import Alignment, align

SPEED = {  # GB of output per second, two models, two cores, files in memory: benchmarks/merge.md
    "linear": 0.7, "interpolation": 0.5, "task_arithmetic": 0.5, "dare_linear": 0.5, "dare_ties": 0.5, "slerp": 0.27, "ties": 0.27,
    "breadcrumbs": 0.3, "breadcrumbs_ties": 0.3, "model_stock": 0.1, "della": 0.008, "della_linear": 0.008, "twin": 0.005,
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One output tensor. sources: the base's tensor, then each model's. rows: of each source, the row of each output row."""

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
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * STORED[self.dtype].itemsize


@dataclass(frozen=True)
class Plan:
    """Everything that a merge needs to know. ``models``: the base, then the models of ``recipe.finetuned``."""

    recipe: Recipe
    models: list[Checkpoint]
    jobs: list[Job]
    inputs: Inputs
    config: dict
    alignment: Alignment
    findings: list[Finding]
    blocks: int

    @property
    def bytes(self) -> int:
        return sum(job.bytes for job in self.jobs)

    @property
    def base(self) -> Checkpoint:
        return self.models[0]

    @cached_property
    def digest(self) -> str:
        """Changes with the recipe, the inputs' files and this code: what an interrupted merge must share to be continued."""
        statistics = {info.file for job in self.jobs for info in filter(None, job.statistics)}
        files = sorted(
            statistics | {path for model in self.models for path in model.folder.iterdir() if path.is_file()}
        )
        stamps = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        code = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
        content = [self.recipe.model_dump(), self.inputs.coefficients, self.inputs.sensitivity, stamps, code]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def check(self) -> Plan:
        """UserError that lists every error found, if there is one."""
        if errors := [f.text for f in self.findings if f.level == "error"]:
            raise UserError("this merge cannot run:\n  " + "\n  ".join(errors) if len(errors) > 1 else errors[0])
        return self


def resolve_model(name: str, folder: Path) -> Path:
    """The folder of a model: a path, else a hub id (with ``@revision``), fetched into the hub's cache."""
    path = folder / name
    on_hub = None if exists(path) else hub.with_revision(name)
    return hub.download(*on_hub) if on_hub else path


def make_plan(recipe: Recipe, folder: Path, out: Path | None = None) -> Plan:
    """The plan of a recipe whose relative paths start from ``folder``; UserError for what cannot even be read.

    What speaks against the merge, or deserves to be known, is in ``findings``; :meth:`Plan.check` raises the errors.
    """
    given = [recipe.base_model or recipe.models[0].model, *(entry.model for entry in recipe.finetuned)]
    opened = {name: Checkpoint(resolve_model(name, folder)) for name in dict.fromkeys(given)}
    models = [opened[name] for name in given]
    compared = model_findings(recipe, list(opened.values()))
    alignment = align_rows(recipe, models, given)
    tied, head_findings = tied_output(recipe, models)
    blocks = count_blocks(models[0])
    stored = (
        recipe.out_dtype
        or recipe.dtype
        or models[0].config.get("dtype")
        or models[0].config.get("torch_dtype")
        or "float32"
    )
    config, chosen = output_config(models, stored, tied, alignment, recipe.compatibility == "paper")
    findings = [*compared, *row_findings(models, alignment), *head_findings,
                *range_findings(recipe, blocks), *chosen]  # fmt: skip
    names = output_names(models, tied)
    inputs = read_inputs(recipe, folder, {layer_of(name) for name in names}, models[0].name)
    plan = Plan(recipe, models, [], inputs, config, alignment, findings, blocks)
    if any(finding.level == "error" for finding in findings):
        return plan
    plan = replace(plan, jobs=[make_job(plan, name, shard) for name, shard in names.items()])
    if recipe.scope == "global" and len({str((job.settings.density, job.settings.gamma)) for job in plan.jobs}) > 1:
        raise UserError("`scope: global` ranks all tensors together, so density and gamma must be the same everywhere.")
    return replace(plan, findings=findings + cost_findings(plan, out))


def rows_of(model: Checkpoint) -> int:
    return model.tensors[EMBEDDING].shape[0] if EMBEDDING in model.tensors else 0


def align_rows(recipe: Recipe, models: list[Checkpoint], given: list[str]) -> Alignment:
    paper = recipe.compatibility == "paper"
    if paper and recipe.tokenizer_source not in (None, "base"):
        raise UserError(
            "`compatibility: paper` keeps the base's tokenizer and rows; remove `tokenizer_source`, or `compatibility`."
        )
    return align(recipe.tokenizer_source, models, given, [rows_of(model) for model in models], paper)


def model_findings(recipe: Recipe, models: list[Checkpoint]) -> list[Finding]:
    """What each model says against the base, the first of them."""
    base, *others = models
    found = [finding for other in others for finding in compare(base, other)]
    for other in others:
        found += token_findings(base, other, recipe.tokenizer_source is not None) + shape_findings(base, other)
    return found


def count_blocks(model: Checkpoint) -> int:
    """Number of blocks; UserError where their numbers leave a gap."""
    found = sorted({int(layer) for name in model.tensors if (layer := layer_of(name)).isdecimal()})
    if found != list(range(len(found))):
        raise UserError(f"{model.folder} lacks layers: of {found[-1] + 1} it has {len(found)}; fetch it again.")
    return len(found)


def output_names(models: list[Checkpoint], tied: bool) -> dict[str, str]:
    """Output tensor → shard: the base's tensors where the base has them, a new head beside the embedding's shard's end."""
    names = {
        name: info.file.name
        for name, info in sorted(models[0].tensors.items(), key=lambda item: (item[1].file.name, item[1].start))
    }
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
    wanted = {"aim": shape[-1:], "regmean": shape[-1:] * 2}.get(plan.recipe.merge_method, shape)
    for found in filter(None, statistics):
        if found.shape != wanted or (wanted != shape and len(shape) != 2):
            raise UserError(
                f"{found.file}: the statistics of {name} have the shape {list(found.shape)}, the tensor {list(shape)}."
            )
    dtype = plan.recipe.out_dtype or plan.recipe.dtype or sources[0].dtype
    return Job(
        name,
        shape,
        dtype,
        shard,
        sources,
        maps,
        statistics,
        settings_of(plan.recipe, plan.inputs, plan.base.name, name, shape, plan.blocks),
    )


def shape_findings(base: Checkpoint, other: Checkpoint) -> list[Finding]:
    """Tensors that one lacks or has in another shape; heads and vocabulary rows are judged apart."""
    special = {EMBEDDING, HEAD}
    ours, theirs = ({n: i.shape for n, i in m.tensors.items() if n not in special} for m in (base, other))
    problems = shape_problems(base.folder, ours, other.folder, theirs)
    if (EMBEDDING in base.tensors) != (EMBEDDING in other.tensors):
        problems.append(f"{EMBEDDING}: in one of them alone")
    elif EMBEDDING in base.tensors and base.tensors[EMBEDDING].shape[1:] != other.tensors[EMBEDDING].shape[1:]:
        problems.append(f"{EMBEDDING}: {base.tensors[EMBEDDING].shape} against {other.tensors[EMBEDDING].shape}")
    found = [Finding("error", str(unlike(base.folder, other.folder, problems)))] if problems else []
    dtypes = {m.name: next(iter(m.tensors.values())).dtype for m in (base, other)}
    if len(set(dtypes.values())) > 1:
        found.append(
            Finding(
                "note",
                f"stored dtypes differ: {dtypes}; arithmetic is in float32, the result as `out_dtype` or the base says.",
            )
        )
    return found


def row_findings(models: list[Checkpoint], alignment: Alignment) -> list[Finding]:
    rows = [rows_of(model) for model in models]
    if len(set(rows)) == 1 and alignment.rows == rows[0]:
        return []
    sizes = ", ".join(f"{m.name} {n}" for m, n in zip(models, rows, strict=True))
    return [Finding("warning", f"vocabulary rows: {sizes}; the result has {alignment.rows}. Rows that a model lacks take the base's values, "
                               "or where the base lacks them the mean of the others.")]  # fmt: skip


def tied_output(recipe: Recipe, models: list[Checkpoint]) -> tuple[bool, list[Finding]]:
    """Whether the result ties its head to the embedding, and why."""
    if broken := [m for m in models if m.tied and m.config.get("tie_word_embeddings") is False]:
        return True, [
            Finding(
                "error",
                f"{broken[0].folder} has no {HEAD}, but its config says that the head is its own; fetch it again.",
            )
        ]
    tied = [m.tied for m in models]
    wanted = recipe.tie_word_embeddings
    if len(set(tied)) == 1:
        if wanted is not None and wanted != tied[0]:
            return tied[0], [Finding("error", f"tie_word_embeddings: {str(wanted).lower()} is for models that disagree; these all "
                                              f"{'tie' if tied[0] else 'untie'} their heads. Remove it.")]  # fmt: skip
        return tied[0], []
    result = wanted if wanted is not None else tied[0] if recipe.compatibility == "paper" else False
    lost = [m.name for m in models if not m.tied] if result else []
    names = ", ".join(m.name for m in models if m.tied)
    done = (f"the result is tied, and the head of {', '.join(lost)} is lost" if result
            else "the result gets a head of its own; a tied model's head is its embedding")  # fmt: skip
    return result, [
        Finding(
            "warning",
            f"{names} ties its head to the embedding, the others do not: {done} (`tie_word_embeddings` decides).",
        )
    ]


def range_findings(recipe: Recipe, blocks: int) -> list[Finding]:
    odd = [e.model for e in recipe.models if e.layer_range not in (None, (0, blocks))]
    return (
        [
            Finding(
                "error", f"layer_range of {odd[0]} must be [0, {blocks}], all layers: stacking parts is not supported."
            )
        ]
        if odd
        else []
    )


def cost_findings(plan: Plan, out: Path | None) -> list[Finding]:
    """Bytes read and written, and whether the disk has room."""
    read = sum(model.bytes for model in {id(m): m for m in plan.models}.values())
    out = (out or Path()).absolute()
    existing = next(p for p in (out, *out.parents) if p.exists())
    part = out.with_name(f".{out.name}.part")
    reserved = (
        sum(p.stat().st_blocks * 512 for p in part.iterdir() if p.is_file()) if part.is_dir() else 0
    )  # by an interrupted merge
    free = shutil.disk_usage(existing).free + reserved
    speed = SPEED.get(plan.recipe.merge_method)
    took = f" in about {plan.bytes / 1e9 / speed:.0f} s on two cores" if speed else ""
    found = [
        Finding(
            "note",
            f"reads {read / 1e9:.2f} GB, writes {plan.bytes / 1e9:.2f} GB{took}; {free / 1e9:.0f} GB are free. NaN or infinity stops it.",
        )
    ]
    if plan.bytes > free:
        found.append(
            Finding(
                "error",
                f"no space left for the result at {existing}: {plan.bytes / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free.",
            )
        )
    return found
