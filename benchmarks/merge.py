"""Speed and memory of merging against copying the same bytes, and against mergekit; one table of ratios from one run.

    .venv/bin/python benchmarks/merge.py                 # 1.5B parameters: about 10 minutes, 20 GB of disk
    .venv/bin/python benchmarks/merge.py --layers 2 --vocabulary 8000 --no-write   # a quick look

It makes a base and two fine-tuned checkpoints of Qwen2.5-1.5B's shape in bfloat16 (random weights), warms the page cache, and
runs every command as a process of its own. "Copy" reads all inputs once (`cat`), copies one model (`cp`) and makes it durable
(`sync`): what any merge must do at least. Our times include that durability; mergekit's do not. Start-up of the interpreter is
measured apart and subtracted from ours and mergekit's.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
import yaml

from acm.checkpoints import INDEX
from acm.merging.plan import Job
from acm.merging.primitives import narrow
from acm.merging.settings import Settings
from acm.merging.workspace import layout

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


@dataclass
class Measured:
    """One process: wall and CPU seconds, peak anonymous memory in GB (sampled every 10 ms)."""

    wall: float
    cpu: float
    anonymous: float


def shapes(layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Tensors of a Qwen2 model with tied embeddings."""
    d, inner, kv = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["hidden_size"] // 12 * 2
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, d)}
    for i in range(layers):
        block = f"model.layers.{i}."
        found |= {f"{block}input_layernorm.weight": (d,), f"{block}post_attention_layernorm.weight": (d,)}
        for name, rows in (("q", d), ("k", kv), ("v", kv)):
            found |= {f"{block}self_attn.{name}_proj.weight": (rows, d), f"{block}self_attn.{name}_proj.bias": (rows,)}
        found[f"{block}self_attn.o_proj.weight"] = (d, d)
        found |= {f"{block}mlp.{n}_proj.weight": s for n, s in (("gate", (inner, d)), ("up", (inner, d)), ("down", (d, inner)))}
    return found | {"model.norm.weight": (d,)}


def make_checkpoint(folder: Path, sizes: dict[str, tuple[int, ...]], seed: int, vocabulary: int) -> None:
    """Random weights: the base's, and for seed > 0 the base's plus small noise, cut from two blocks of normal numbers."""
    folder.mkdir()
    blocks = [np.random.default_rng(s).standard_normal(1 << 24, np.float32) for s in (0, seed)]
    jobs, used = [], 0
    for name, shape in sizes.items():
        jobs.append(Job(name, shape, "bfloat16", f"model-{1 + used // 500_000_000:05d}.safetensors", [], None, [], Settings([])))
        used += jobs[-1].bytes
    places, headers, _ = layout(jobs)
    for k, job in enumerate(jobs):
        with (folder / job.shard).open("r+b" if (folder / job.shard).exists() else "wb") as file:
            if file.mode == "wb":
                file.write(headers[job.shard])
            file.seek(places[job.name][1])
            for start in range(0, job.size, 1 << 24):
                size = min(1 << 24, job.size - start)
                parts = [np.roll(block, 7919 * (k + start))[:size] for block in blocks]
                values = np.float32(0.02) * parts[0] + (np.float32(0.001) * parts[1] if seed else np.float32(0))
                file.write(narrow(torch.from_numpy(values), "bfloat16").tobytes())
    index = {"metadata": {"total_size": used}, "weight_map": {job.name: job.shard for job in jobs}}
    (folder / INDEX).write_text(json.dumps(index))
    layers = sum(name.endswith("input_layernorm.weight") for name in sizes)
    config = SHAPE | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "vocab_size": vocabulary,
                      "num_hidden_layers": layers, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True,
                      "max_position_embeddings": 4096, "dtype": "bfloat16"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def measure(command: list[str], environment: dict[str, str] | None = None) -> Measured:
    """Run to the end; CalledProcessError if it fails."""
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=os.environ | (environment or {}), stdout=log, stderr=log)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, anonymous_kib(process.pid))
            time.sleep(0.01)
        wall = time.perf_counter() - start
        if status:
            log.seek(0)
            raise subprocess.CalledProcessError(status, command, log.read()[-2000:].decode())
    process.returncode = 0
    return Measured(wall, usage.ru_utime + usage.ru_stime, peak * 1024 / 1e9)


def anonymous_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
    except OSError:
        return 0


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
    against: Annotated[str, typer.Option(help="comma-separated, of mergekit's; empty: none")] = "linear,task_arithmetic,ties,dare_ties",
    mergekit: Annotated[str, typer.Option(help="its command line program")] = str(Path(sys.executable).with_name("mergekit-yaml")),
    repeats: int = 3,
    write: Annotated[bool, typer.Option(help="store the table beside this file")] = True,
    keep: Annotated[bool, typer.Option(help="keep the checkpoints, and use them if they are there")] = False,
) -> None:
    """Make checkpoints, run everything, print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = shapes(layers, vocabulary)
    for seed, name in enumerate(("base", "left", "right")):
        if not (folder / name).is_dir():
            make_checkpoint(folder / name, sizes, seed, vocabulary)
    out, inputs = folder / "out", f"{folder}/base/*.safetensors {folder}/left/*.safetensors {folder}/right/*.safetensors"
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
    text = report(rows, sum(int(np.prod(s)) for s in sizes.values()), started)
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
