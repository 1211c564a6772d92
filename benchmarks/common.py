"""What the benchmarks share: checkpoints of random weights, and processes measured by time and memory."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acm.merging.plan import Job
from acm.merging.primitives import narrow
from acm.merging.settings import Settings
from acm.merging.workspace import layout
from acm.weight_files import INDEX

PIECE = 1 << 24  # entries of a checkpoint that are made at a time


@dataclass
class Measured:
    """One process: seconds on the wall and of CPU, and peak anonymous memory in GB (looked at every 10 ms)."""

    wall: float
    cpu: float
    anonymous: float


def machine() -> str:
    """When and where something was measured."""
    processor = platform.processor() or platform.machine()
    return f"{date.today()}, {processor}, {os.cpu_count()} cores, Python {platform.python_version()}"


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """The tensors of a Qwen2 model with this config: name → shape."""
    d, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, d)}
    for i in range(config["num_hidden_layers"]):
        block = f"model.layers.{i}."
        found |= {f"{block}input_layernorm.weight": (d,), f"{block}post_attention_layernorm.weight": (d,)}
        for name, rows in (("q", d), ("k", kv), ("v", kv)):
            found |= {f"{block}self_attn.{name}_proj.weight": (rows, d), f"{block}self_attn.{name}_proj.bias": (rows,)}
        found[f"{block}self_attn.o_proj.weight"] = (d, d)
        found |= {f"{block}mlp.{name}_proj.weight": (inner, d) for name in ("gate", "up")}
        found |= {f"{block}mlp.down_proj.weight": (d, inner)}
    found["model.norm.weight"] = (d,)
    return found if config["tie_word_embeddings"] else found | {"lm_head.weight": (vocabulary, d)}


def qwen2(layers: int, vocabulary: int, tied: bool, **size: int) -> dict[str, Any]:
    """A Qwen2 config. size: hidden_size, intermediate_size, num_attention_heads, num_key_value_heads."""
    return size | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "vocab_size": vocabulary,
        "num_hidden_layers": layers,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 4096,
        "dtype": "bfloat16",
    }


def make_checkpoint(folder: Path, config: dict, seed: int) -> None:
    """A model folder of random bfloat16 weights, in shards of 500 MB.

    seed: 0 makes the base; any other makes the base's weights and small noise.
    """
    folder.mkdir()
    noises = [np.random.default_rng(s).standard_normal(PIECE, np.float32) for s in (0, seed)]
    jobs: list[Job] = []
    used = 0
    for name, shape in shapes(config).items():
        shard = f"model-{1 + used // 500_000_000:05d}.safetensors"
        jobs.append(Job(name, shape, "bfloat16", shard, [], None, [], Settings([])))
        used += jobs[-1].bytes
    places, headers, _ = layout(jobs)
    for number, job in enumerate(jobs):
        new = not (folder / job.shard).exists()
        with (folder / job.shard).open("wb" if new else "r+b") as file:
            if new:
                file.write(headers[job.shard])
            file.seek(places[job.name][1])
            for start in range(0, job.size, PIECE):
                values = random_values(noises, number + start, min(PIECE, job.size - start), seed)
                file.write(narrow(torch.from_numpy(values), "bfloat16").tobytes())
    index = {"metadata": {"total_size": used}, "weight_map": {job.name: job.shard for job in jobs}}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def random_values(noises: list[np.ndarray], shift: int, size: int, seed: int) -> np.ndarray:
    """Weights, (size,) float32: the base's noise, rolled by a shift, and for seed > 0 a little of the other noise."""
    base, other = (np.roll(noise, 7919 * shift)[:size] for noise in noises)
    return np.float32(0.02) * base + (np.float32(0.001) * other if seed else np.float32(0))


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
    """Anonymous memory of a process in KiB; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
    except OSError:
        return 0
