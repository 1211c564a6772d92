"""Speed and memory of merging against copying the same bytes, and against mergekit. One table of ratios from one run.

    .venv/bin/python benchmarks/merge.py                 # 1.5B parameters: about 10 minutes, 20 GB of disk
    .venv/bin/python benchmarks/merge.py --layers 2 --vocabulary 8000 --no-write   # a quick look

It makes a base and two fine-tuned checkpoints of Qwen2.5-1.5B's shape of random bfloat16 weights, warms the page cache,
and runs every command as a process of its own. "Copy" reads all inputs once (`cat`), copies one model (`cp`) and makes
the copy durable (`sync`): what any merge must do at least. Our times include that durability, mergekit's do not. The
import of what a method needs is measured apart and subtracted from ours, mergekit's from mergekit's.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from common import Measured, machine, make_checkpoint, measure, qwen2, shapes

from acm.merging.registry import METHODS

RESULT = Path(__file__).with_suffix(".md")
RECIPES: dict[str, dict[str, Any]] = {
    "linear": {"merge_method": "linear", "parameters": {"weight": 0.5}},
    "slerp": {"merge_method": "slerp", "parameters": {"t": 0.5}},
    "task_arithmetic": {"merge_method": "task_arithmetic", "parameters": {"weight": 0.7}},
    "ties": {"merge_method": "ties", "parameters": {"weight": 1.0, "density": 0.3, "normalize": True, "lambda": 0.7}},
    "dare_linear": {"merge_method": "dare_linear", "parameters": {"weight": 0.7, "density": 0.5}},
    "dare_ties": {"merge_method": "dare_ties", "parameters": {"weight": 0.7, "density": 0.5}},
    "breadcrumbs": {"merge_method": "breadcrumbs", "parameters": {"weight": 0.7, "density": 0.5, "gamma": 0.01}},
    "model_stock": {"merge_method": "model_stock"},
    "della": {"merge_method": "della", "parameters": {"weight": 0.7, "density": 0.5, "epsilon": 0.15}},
    "twin": {"merge_method": "twin", "parameters": {"weight": 0.7, "rank": 0.2}},
}
QUICK = [name for name in RECIPES if name not in ("della", "twin")]  # these two take minutes at 1.5B
# What a method imports before it begins, by whether it has a fused loop.
IMPORTS = {
    True: "import acm.merging.engine, acm.merging.fused, typer",
    False: "import acm.merging.engine, acm.merging.plain, typer",
}
THEIRS = "linear,task_arithmetic,ties,dare_ties"  # mergekit's, by default
MERGEKIT = str(Path(sys.executable).with_name("mergekit-yaml"))
Row = tuple[str, Measured, float]  # what, as measured, seconds without the imports
SHAPE = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def recipe_file(folder: Path, name: str) -> Path:
    """A file with the recipe of a method, for as many models as the method takes."""
    path, row = folder / f"{name}.yml", METHODS[name]
    models = [{"model": str(folder / model)} for model in (["left"] if row.single else ["left", "right"])]
    base = {"base_model": str(folder / "base")} if row.needs_base else {}
    path.write_text(yaml.safe_dump(RECIPES[name] | {"models": models, "dtype": "bfloat16"} | base))
    return path


def best(command: list[str], out: Path, repeats: int, environment: dict[str, str] | None = None) -> Measured:
    """The fastest of several runs, its output removed after each."""
    found = []
    for _ in range(repeats):
        found.append(measure(command, environment))
        shutil.rmtree(out, ignore_errors=True)
        os.sync()
    wall, cpu = min(run.wall for run in found), min(run.cpu for run in found)
    return Measured(wall, cpu, max(run.anonymous for run in found))


def main(
    folder: Annotated[Path, typer.Option(help="where the checkpoints go; removed afterwards")] = Path("runs/benchmark"),
    layers: int = 28,
    vocabulary: int = 151936,
    methods: Annotated[str, typer.Option(help="comma-separated, of ours")] = ",".join(QUICK),
    against: Annotated[str, typer.Option(help="comma-separated, of mergekit's; empty: none")] = THEIRS,
    mergekit: Annotated[str, typer.Option(help="its command line program")] = MERGEKIT,
    repeats: int = 3,
    write: Annotated[bool, typer.Option(help="store the table beside this file")] = True,
    keep: Annotated[bool, typer.Option(help="keep the checkpoints, and use them if they are there")] = False,
) -> None:
    """Make checkpoints, run everything, print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    config = qwen2(layers, vocabulary, tied=True, **SHAPE)
    for seed, name in enumerate(("base", "left", "right")):
        if not (folder / name).is_dir():
            make_checkpoint(folder / name, config, seed)
    floor = best(copying(folder), folder / "out", repeats + 1)  # the first one warms the cache
    rows = [("copy: cat all, cp one, sync", floor, floor.wall)]
    rows += ours(folder, methods.split(","), repeats)
    rows += theirs(folder, mergekit, [name for name in against.split(",") if name], repeats)
    text = report(rows, sum(int(np.prod(shape)) for shape in shapes(config).values()))
    print(text)
    if write:
        RESULT.write_text(text)
    if not keep:
        shutil.rmtree(folder)


def copying(folder: Path) -> list[str]:
    """The command that reads all inputs, copies one model and makes the copy durable."""
    inputs, out = " ".join(f"{folder}/{name}/*.safetensors" for name in ("base", "left", "right")), folder / "out"
    return ["sh", "-c", f"cat {inputs} > /dev/null && cp -r {folder}/base {out} && sync {out}/*"]


def ours(folder: Path, methods: list[str], repeats: int) -> list[Row]:
    """Our merges, each as a process of its own."""
    out, rows = folder / "out", []
    started = {key: best([sys.executable, "-c", code], out, repeats) for key, code in IMPORTS.items()}
    for name in methods:
        command = [sys.executable, "-m", "acm", "merge", str(recipe_file(folder, name)), str(out)]
        found = best(command, out, repeats)
        rows.append((f"acm {name}", found, found.wall - started[bool(METHODS[name].kernel)].wall))
        print(name, found, flush=True)
    return rows


def theirs(folder: Path, mergekit: str, methods: list[str], repeats: int) -> list[Row]:
    """mergekit's merges, once each."""
    out, rows = folder / "out", []
    started = best([mergekit, "--help"], out, repeats) if methods else None
    for name in methods:
        command = [mergekit, str(recipe_file(folder, name)), str(out), "--quiet", "--num-threads", "1"]
        found = best(command, out, 1, ONE_THREAD)
        rows.append((f"mergekit {name}", found, found.wall - (started.wall if started else 0)))
        print("mergekit", name, found, flush=True)
    return rows


def report(rows: list[Row], parameters: int) -> str:
    """The table as Markdown."""
    times = {name: net for name, _, net in rows}
    floor = rows[0][2]
    lines = [
        f"# Merging {parameters / 1e9:.2f}B parameters: base and two fine-tuned models, bfloat16\n",
        f"{machine()}; made by `benchmarks/merge.py`. Wall seconds are the best of the runs, without the imports.\n",
        "| what | wall s | × copy | CPU s | peak anonymous GB | mergekit / acm |",
        "|---|---|---|---|---|---|",
    ]
    for name, found, net in rows:
        other = times.get(name.replace("acm ", "mergekit ")) if name.startswith("acm ") else None
        ratio = f"{other / net:.1f}" if other else ""
        lines.append(f"| {name} | {net:.1f} | {net / floor:.1f} | {found.cpu:.1f} | {found.anonymous:.2f} | {ratio} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
