"""Speed and memory of merging against copying the same bytes, and against mergekit; one table of ratios from one run.

    .venv/bin/python benchmarks/merge.py                 # 1.5B parameters: about 10 minutes, 20 GB of disk
    .venv/bin/python benchmarks/merge.py --layers 2 --vocabulary 8000 --no-write   # a quick look

It makes a base and two fine-tuned checkpoints of Qwen2.5-1.5B's shape in bfloat16 (random weights), warms the page cache, and
runs every command as a process of its own. "Copy" reads all inputs once (`cat`), copies one model (`cp`) and makes it durable
(`sync`): what any merge must do at least. Our times include that durability; mergekit's do not. Start-up of the interpreter is
measured apart and subtracted from ours and mergekit's.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml
from common import Measured, make_checkpoint, measure, qwen2, shapes

RESULT = Path(__file__).with_suffix(".md")
RECIPES = {
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
QUICK = [name for name in RECIPES if name not in ("della", "twin")]  # the others take minutes at 1.5B
SHAPE = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def recipe_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.yml"
    models = [{"model": str(folder / m)} for m in (["left"] if name == "slerp" else ["left", "right"])]
    base = {} if name == "linear" else {"base_model": str(folder / "base")}
    path.write_text(yaml.safe_dump(RECIPES[name] | {"models": models, "dtype": "bfloat16"} | base))
    return path


def best(command: list[str], out: Path, repeats: int, environment: dict[str, str] | None = None) -> Measured:
    """The fastest of several runs, its output removed after each."""
    found = []
    for _ in range(repeats):
        found.append(measure(command, environment))
        shutil.rmtree(out, ignore_errors=True)
        os.sync()
    return Measured(*(min(getattr(m, key) for m in found) for key in ("wall", "cpu")), max(m.anonymous for m in found))


def main(
    folder: Annotated[Path, typer.Option(help="where the checkpoints go; removed afterwards")] = Path("runs/benchmark"),
    layers: int = 28,
    vocabulary: int = 151936,
    methods: Annotated[str, typer.Option(help="comma-separated, of ours")] = ",".join(QUICK),
    against: Annotated[
        str, typer.Option(help="comma-separated, of mergekit's; empty: none")
    ] = "linear,task_arithmetic,ties,dare_ties",
    mergekit: Annotated[str, typer.Option(help="its command line program")] = str(
        Path(sys.executable).with_name("mergekit-yaml")
    ),
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
    out, inputs = (
        folder / "out",
        f"{folder}/base/*.safetensors {folder}/left/*.safetensors {folder}/right/*.safetensors",
    )
    copy = ["sh", "-c", f"cat {inputs} > /dev/null && cp -r {folder}/base {out} && sync {out}/*"]
    floor = best(copy, out, repeats + 1)  # the first one warms the cache
    started = best([sys.executable, "-c", "import acm.merging.engine, typer"], out, repeats)
    rows = [("copy: cat all, cp one, sync", floor, floor.wall)]
    for name in methods.split(","):
        found = best([sys.executable, "-m", "acm", "merge", str(recipe_file(folder, name)), str(out)], out, repeats)
        rows.append((f"acm {name}", found, found.wall - started.wall))
        print(name, found, flush=True)
    theirs_started = best([mergekit, "--help"], out, repeats) if against else None
    for name in filter(None, against.split(",")):
        command = [mergekit, str(recipe_file(folder, name)), str(out), "--quiet", "--num-threads", "1"]
        found = best(command, out, 1, ONE_THREAD)
        rows.append((f"mergekit {name}", found, found.wall - theirs_started.wall))
        print("mergekit", name, found, flush=True)
    text = report(rows, sum(int(np.prod(s)) for s in shapes(config).values()), started)
    print(text)
    if write:
        RESULT.write_text(text)
    if not keep:
        shutil.rmtree(folder)


def report(rows: list[tuple[str, Measured, float]], parameters: int, started: Measured) -> str:
    times = {name: net for name, _, net in rows}
    floor = rows[0][2]
    lines = [f"# Merging {parameters / 1e9:.2f}B parameters: base and two fine-tuned models, bfloat16\n",
             f"{date.today()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
             f"made by `benchmarks/merge.py`. Wall seconds are the best of the runs, without the interpreter's start-up (ours: {started.wall:.1f} s).\n",
             "| what | wall s | × copy | CPU s | peak anonymous GB | mergekit / acm |", "|---|---|---|---|---|---|"]  # fmt: skip
    for name, found, net in rows:
        theirs = times.get(name.replace("acm ", "mergekit ")) if name.startswith("acm ") else None
        ratio = f"{theirs / net:.1f}" if theirs else ""
        lines.append(f"| {name} | {net:.1f} | {net / floor:.1f} | {found.cpu:.1f} | {found.anonymous:.2f} | {ratio} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
