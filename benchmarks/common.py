"""What the benchmarks share: checkpoints of random weights, and processes measured by wall time and anonymous memory."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from acm.checkpoints import INDEX
from acm.merging.plan import Job
from acm.merging.primitives import narrow
from acm.merging.settings import Settings
from acm.merging.workspace import layout


@dataclass
class Measured:
    """One process: wall and CPU seconds, peak anonymous memory in GB (sampled every 10 ms)."""

    wall: float
    cpu: float
    anonymous: float


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Tensors of a Qwen2 model with this config."""
    d, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, d)}
    for i in range(config["num_hidden_layers"]):
        block = f"model.layers.{i}."
        found |= {f"{block}input_layernorm.weight": (d,), f"{block}post_attention_layernorm.weight": (d,)}
        for name, rows in (("q", d), ("k", kv), ("v", kv)):
            found |= {f"{block}self_attn.{name}_proj.weight": (rows, d), f"{block}self_attn.{name}_proj.bias": (rows,)}
        found[f"{block}self_attn.o_proj.weight"] = (d, d)
        found |= {
            f"{block}mlp.{n}_proj.weight": s
            for n, s in (("gate", (inner, d)), ("up", (inner, d)), ("down", (d, inner)))
        }
    head = {} if config["tie_word_embeddings"] else {"lm_head.weight": (vocabulary, d)}
    return found | {"model.norm.weight": (d,)} | head


def qwen2(layers: int, vocabulary: int, tied: bool, **size: int) -> dict:
    """A Qwen2 config. size: hidden_size, intermediate_size, num_attention_heads, num_key_value_heads."""
    return size | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "vocab_size": vocabulary,
                   "num_hidden_layers": layers, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": tied,
                   "max_position_embeddings": 4096, "dtype": "bfloat16"}  # fmt: skip


def make_checkpoint(folder: Path, config: dict, seed: int) -> None:
    """Random weights: the base's, and for seed > 0 the base's plus small noise, cut from two blocks of normal numbers."""
    folder.mkdir()
    blocks = [np.random.default_rng(s).standard_normal(1 << 24, np.float32) for s in (0, seed)]
    jobs, used = [], 0
    for name, shape in shapes(config).items():
        jobs.append(
            Job(name, shape, "bfloat16", f"model-{1 + used // 500_000_000:05d}.safetensors", [], None, [], Settings([]))
        )
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
