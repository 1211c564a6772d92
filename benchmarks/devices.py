"""The smol profile's models on a GPU: at all items, in two dtypes and several batch sizes.

    .venv/bin/python benchmarks/devices.py smol     # starts nothing new after 400 seconds; 35 GB of disk

`make smol-models` comes first. λ are those of `make reproduce PROFILE=smol`, made on a CPU, so every merge has the same
weights on every machine. The models are calibrated on the GPU too, for a comparison of λ. Several processes share the
GPU: one alone leaves it idle most of the time, since a model is so small. What is written:

    records.parquet       responses of the profile's models: dtype, batch_size, run, and columns of the records
    coefficients.parquet  λ by dtype, control and layer, calibrated on the GPU
    facts.json            device, versions, seconds of each call; calls for which no time was left

`notebooks/real-weights/devices.ipynb` compares these files with the records of the CPU.
"""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from acm.errors import UserError
from acm.evaluation.grading import grade
from acm.evaluation.settings import Engine
from acm.files import write_json
from acm.paths import REPORTS, ROOT, RUNS
from acm.profiles import Profile, load_profile
from acm.records import coefficients_name, versions, write_parquet

EXPERIMENT = "long-to-short"
DTYPES = ("float32", "bfloat16")
LARGEST = 500  # items of the task: one batch holds them all
SMALLER = (250, 125)  # batch sizes for FEW models
FEW = ("smol-fast", "smol-slow", "frontier-0.5", "ACM-TA")
COLUMNS = ["method", "task", "item", "correct", "length", "truncated", "reflections", "response"]


@dataclass(frozen=True)
class Call:
    """One model to evaluate; without a name the pair to calibrate."""

    name: str
    dtype: str
    batch_size: int = LARGEST
    run: int = 0  # the same call again has another number


def calls_of(profile: Profile) -> list[Call]:
    """All calls, the most needed first."""
    setting = profile.experiment(EXPERIMENT)
    few = [name for name in FEW if name in setting.models]
    calls = [Call(name, dtype) for dtype in DTYPES for name in setting.models]
    calls += [Call("", dtype) for dtype in DTYPES]
    calls += [Call(name, dtype, size) for size in reversed(SMALLER) for dtype in DTYPES for name in few]
    return calls + [Call(name, dtype, run=1) for dtype in DTYPES for name in few]


def work(call: Call, profile: Profile, folder: Path, items: int | None, until: float) -> tuple[float, pd.DataFrame]:
    """Seconds, and the records of a call, or its λ; no rows where ``until`` (seconds since the epoch) has passed."""
    began = time.time()
    if began > until:
        return 0.0, pd.DataFrame()
    table = evaluated(call, profile, folder, items) if call.name else calibrated(call, profile, items)
    return time.time() - began, table.assign(dtype=call.dtype)


def evaluated(call: Call, profile: Profile, folder: Path, items: int | None) -> pd.DataFrame:
    """The records of a model."""
    from acm.evaluation.harness import evaluate

    setting = profile.experiment(EXPERIMENT)
    model = setting.parents.get(call.name, folder / call.name)
    given = profile.evaluation(EXPERIMENT, call.name)
    engine = replace(profile.engine, dtype=call.dtype, batch_size=call.batch_size)
    labels = {"method": call.name}
    records = evaluate(model, setting.tasks, labels=labels, **given | {"items": items, "engine": engine})
    return records[COLUMNS].assign(batch_size=call.batch_size, run=call.run)


def calibrated(call: Call, profile: Profile, texts: int | None) -> pd.DataFrame:
    """λ of the pair and of its controls: control, layer, coefficient."""
    from acm.calibration.coefficients import coefficients_from_table
    from acm.calibration.texts import read_texts, select_texts
    from acm.calibration.walk import calibrate

    setting = profile.experiment(EXPERIMENT)
    chosen, (base, *finetuned) = setting.calibration, setting.parents.items()
    read = select_texts(read_texts(chosen.source, chosen.field), chosen.clusters, chosen.per_cluster, chosen.seed)
    controls = ("none", "gaussian")
    table = calibrate(
        base[1], dict(finetuned), read[:texts], controls=controls, estimators=(setting.estimator,), seed=profile.seed,
        dtype=call.dtype, device=profile.device, max_tokens=chosen.max_tokens,
    )  # fmt: skip
    rows = [
        (control, layer, value)
        for control in controls
        for found in coefficients_from_table(table, setting.t, setting.shift, control).values()
        for layer, value in found.items()
    ]
    return pd.DataFrame(rows, columns=["control", "layer", "coefficient"])


def merge_all(profile: Profile, coefficients: Path, folder: Path, pool: ProcessPoolExecutor) -> None:
    """The profile's merges, each in a folder of its name."""
    from acm.merging.engine import merge

    setting = profile.experiment(EXPERIMENT)
    recipes = {name: setting.recipe(name, coefficients) for name in setting.method_names}
    for future in [pool.submit(merge, recipe, folder / name, ROOT) for name, recipe in recipes.items()]:
        future.result()


def coefficients_of(profile: str) -> Path:
    """The folder of λ: of the run, else of the committed results."""
    folders = [folder / profile / EXPERIMENT for folder in (RUNS, REPORTS)]
    found = [folder for folder in folders if (folder / coefficients_name("none")).is_file()]
    if not found:
        raise UserError(f"there are no coefficients in {folders[0]}; run `make reproduce PROFILE={profile}` first.")
    return found[0]


def collect(futures: dict[Future[tuple[float, pd.DataFrame]], Call], out: Path) -> dict[str, Any]:
    """Write what was found, twice a minute. Returns seconds by call, the calls that failed and those left out."""
    tables: dict[str, list[pd.DataFrame]] = {"records": [], "coefficients": []}
    told: dict[str, list[Any]] = {"seconds": [], "failed": [], "left_out": []}
    saved = time.time()
    for future in as_completed(futures):
        call = futures[future]
        named = asdict(call)
        try:
            seconds, table = future.result()
        except Exception as error:  # one call that fails, such as by the GPU's memory, must not lose the others
            told["failed"].append(named | {"error": f"{type(error).__name__}: {error}"})
            continue
        finally:
            if time.time() - saved > 30:
                save(tables, out)
                saved = time.time()
        told["seconds" if len(table) else "left_out"].append(named | {"seconds": round(seconds, 1)})
        tables["records" if call.name else "coefficients"].append(table)
    save(tables, out)
    return told


def save(tables: dict[str, list[pd.DataFrame]], out: Path) -> None:
    """Write each table that has rows."""
    for name, parts in tables.items():
        if rows := [part for part in parts if len(part)]:
            write_parquet(pd.concat(rows, ignore_index=True), out / f"{name}.parquet")


def main(
    profile: Annotated[str, typer.Argument(help="a profile of small models with an experiment long-to-short")] = "smol",
    out: Annotated[Path, typer.Option(help="folder of the results")] = RUNS / "gpu",
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the script")] = "cuda",
    items: Annotated[int | None, typer.Option(help="items of the task and texts; all by default")] = None,
    workers: Annotated[int, typer.Option(help="processes that share the GPU; each takes 2 to 8 GB of it")] = 10,
    seconds: Annotated[float, typer.Option(help="no call starts after so many seconds")] = 400.0,
) -> None:
    """Evaluate a profile's models on a GPU in two dtypes and three batch sizes."""
    began, dial = time.time(), load_profile(profile).model_copy(update={"device": device})
    Engine(device=device).check_here()
    grade("$\\boxed{1}$", "1")  # raises where what grades is not installed, before anything is generated
    coefficients = coefficients_of(profile)
    folder = out.parent / f"{out.name}-models"
    for made in (out, folder):
        made.mkdir(parents=True, exist_ok=True)
        if any(made.iterdir()):  # nothing of an earlier run may be taken for this one's
            raise UserError(f"{made} is not empty; remove it, or name another --out.")
    calls = calls_of(dial)
    # the processes share the cores
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        merge_all(dial, coefficients, folder, pool)
        merged = time.time()
        print(f"{len(calls)} calls; merging took {merged - began:.0f} s.", flush=True)
        futures = {pool.submit(work, call, dial, folder, items, began + seconds): call for call in calls}
        told = collect(futures, out)
    shutil.rmtree(folder)
    name = torch.cuda.get_device_name() if device != "cpu" else "CPU"
    facts = {"profile": dial.name, "device": name, "workers": workers, "items": items, "versions": versions()}
    write_json(out / "facts.json", facts | {"wall": round(time.time() - began), **told})
    print(
        f"{len(told['seconds'])} calls in {time.time() - began:.0f} s; {len(told['left_out'])} left out, "
        f"{len(told['failed'])} failed. Written to {out}."
    )


if __name__ == "__main__":
    typer.run(main)
