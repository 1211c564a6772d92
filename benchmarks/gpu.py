"""What one GPU gains, with values checked against the CPU: merging, mutual information, calibration, generation.

    .venv/bin/python benchmarks/gpu.py                    # at most 8 minutes on one H100; 46 GB in /dev/shm
    .venv/bin/python benchmarks/gpu.py --device cpu --small     # tries the script anywhere, and writes no table

Two models of Qwen2.5-7B's shape are made of random bfloat16 weights, and removed afterwards. Calibration reads
100 texts of s1K's lengths. All methods of merging are timed on one block of Qwen2.5-0.5B's shape, since on a CPU some
take minutes at more.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from common import machine, qwen2, shapes
from safetensors.torch import save_file

import acm
from abacus.tokenizer import build_tokenizer
from acm.calibration import lockstep
from acm.calibration.registry import COEFFICIENT_CONTROLS, ESTIMATORS
from acm.checkpoints import Checkpoint, check_weights
from acm.evaluation import decoding, growing
from acm.files import write_json
from acm.merging.registry import METHODS
from acm.paths import REPORTS
from acm.records import read_records
from acm.running.budget import EFFICIENCY, LAUNCH

RESULT = Path(__file__).with_suffix(".md")
# The lengths of s1K's questions, in tokens of four characters, at the quantiles 0.05, 0.15 … 0.95.
LENGTHS = (29, 42, 52, 62, 73, 86, 100, 117, 151, 211)
SEVEN = qwen2(28, 152_064, False, hidden_size=3584, intermediate_size=18944, num_attention_heads=28,
              num_key_value_heads=4)  # fmt: skip
BLOCK = qwen2(1, 300, False, hidden_size=896, intermediate_size=4864, num_attention_heads=14, num_key_value_heads=2)
TINY = qwen2(2, 300, False, hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2)
BATCHES = ((1, 300), (32, 300), (128, 300), (32, 2000))  # responses, tokens before them
NEEDY = ("sens",)  # methods that want numbers from a calibration
STEPS = 48  # tokens that are generated for a time
Row = dict[str, Any]


def make_models(folder: Path, config: dict[str, Any], names: list[str], device: str) -> None:
    """Model folders of random bfloat16 weights: the first, and others that differ from it by small noise."""
    for number, name in enumerate(names):
        home = folder / name
        home.mkdir(parents=True)
        for place, (tensor, shape) in enumerate(shapes(config).items()):
            weight = noise(shape, place, device) * 0.02
            if number:
                weight += 0.001 * noise(shape, 100_003 * number + place, device)
            if tensor.endswith("norm.weight"):
                weight = weight + 1
            save_file({tensor: weight.bfloat16().cpu()}, home / f"model-{place + 1:05d}.safetensors")
        index = {tensor: f"model-{place + 1:05d}.safetensors" for place, tensor in enumerate(shapes(config))}
        write_json(home / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
        write_json(home / "config.json", config)
        build_tokenizer().save_pretrained(home)


def noise(shape: tuple[int, ...], seed: int, device: str) -> torch.Tensor:
    """Standard normal numbers, float32."""
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def timed(work: Callable[[], Any], device: str, repeats: int = 1) -> tuple[float, Any]:
    """Seconds of the fastest run, and what it returns."""
    best, found = float("inf"), None
    for _ in range(repeats):
        began = time.perf_counter()
        found = work()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best, found


@contextmanager
def instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value of an attribute for a while."""
    usual = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, usual)


def merging_large(folder: Path, device: str) -> Iterator[Row]:
    """Seconds of merging a 7B pair, by device, beside those of copying one model."""
    size = sum(file.stat().st_size for file in (folder / "base").iterdir()) / 1e9
    seconds, _ = timed(lambda: shutil.copytree(folder / "base", folder / "copy"), "cpu")
    shutil.rmtree(folder / "copy")
    yield {"what": f"copying one model of {size:.1f} GB", "seconds": seconds, "GB/s": size / seconds}
    for name in ("task_arithmetic", "ties"):
        for place in ("cpu", "auto", device):
            recipe = recipe_of(name, folder)
            seconds, _ = timed(lambda: acm.merge(recipe, folder / "merged", device=place), "cpu")  # noqa: B023
            shutil.rmtree(folder / "merged")
            yield {"what": f"{name}, --device {place}", "seconds": seconds, "GB/s": size / seconds}


def recipe_of(name: str, folder: Path) -> dict[str, Any]:
    """The method's own example, for as few models as it takes."""
    row, models = METHODS[name], ["one", "two"]
    recipe = {"merge_method": name, "parameters": dict(row.example), "dtype": "bfloat16",
              "models": [{"model": str(folder / model)} for model in models[: row.models[0]]]}  # fmt: skip
    return recipe | ({"base_model": str(folder / "base")} if row.needs_base else {})


def merging_methods(folder: Path, device: str) -> Iterator[Row]:
    """Seconds of each method on the CPU and on the GPU, and the largest difference of their results."""
    for name, row in METHODS.items():
        if row.statistics or row.name in NEEDY:
            continue
        found = {}
        for place in ("cpu", device):
            # the second run counts: the first loads kernels and libraries
            for _ in range(2):
                shutil.rmtree(folder / place, ignore_errors=True)
                found[place], _ = timed(lambda: acm.merge(recipe_of(name, folder), folder / place, device=place), "cpu")  # noqa: B023
        far, scale = furthest(folder / "cpu", folder / device)
        auto = "CPU" if row.kernel else "GPU"
        yield {"method": name, "cpu": found["cpu"], "gpu": found[device], "auto": auto, "difference": far / scale}


def furthest(one: Path, other: Path) -> tuple[float, float]:
    """The largest difference of two models' weights, and the largest weight."""
    left, right = Checkpoint(one).tensors, Checkpoint(other).tensors
    far, scale = 0.0, 0.0
    for name, info in left.items():
        a, b = (torch.from_numpy(each.read().copy()).view(torch.bfloat16).float() for each in (info, right[name]))
        far, scale = max(far, float((a - b).abs().max())), max(scale, float(a.abs().max()))
    return far, scale


def estimators(device: str, width: int) -> Iterator[Row]:
    """Every estimator on the CPU and on the GPU: two arrays (150, width) in bf16, and the difference of the values."""
    x = noise((150, width), 1, "cpu")
    y = (x + 0.3 * noise((150, width), 2, "cpu")).bfloat16()
    x = x.bfloat16()
    there = x.to(device), y.to(device)
    for name in ESTIMATORS if width < 10_000 else ("plug-in",):
        here, value = timed(lambda: acm.mutual_information(x, y, name), "cpu", 3)  # noqa: B023
        seconds, found = timed(lambda: acm.mutual_information(*there, name), device, 3)  # noqa: B023
        yield {"estimator": name, "columns": width, "cpu": here, "gpu": seconds, "difference": abs(found - value)}


def calibrating(folder: Path, device: str, texts: list[str]) -> Iterator[Row]:
    """Seconds of calibrating a pair, beside those of its parts."""
    ids = [torch.tensor([[int(c) + 1 for c in text]]) for text in texts]

    def forward(name: str) -> float:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder / name, dtype="bfloat16", device_map=device)
        with torch.no_grad():
            model(ids[0].to(device), use_cache=False)
            return timed(lambda: [model(each.to(device), use_cache=False) for each in ids] and None, device)[0]

    def run(**more: Any) -> pd.DataFrame:
        given = {"dtype": "bfloat16", "device": device, "controls": COEFFICIENT_CONTROLS} | more
        return acm.calibrate(folder / "base", {"one": folder / "one"}, texts, **given)

    passes = forward("base") + forward("one")
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
    yield {"what": "forward passes of both models by transformers, loaded", "seconds": passes}
    checks, _ = timed(lambda: [check_weights(Checkpoint(folder / name)) for name in ("base", "one")], "cpu")
    yield {"what": "weights of both models checked to be finite", "seconds": checks}
    with instead(lockstep.Walk, "asked", lambda *_: []):
        walk, _ = timed(run, device)
    yield {"what": "the check, and all layers loaded and walked, without estimates", "seconds": walk}
    whole, table = timed(run, device)
    yield {"what": f"`acm.calibrate`: {', '.join(COEFFICIENT_CONTROLS)}", "seconds": whole}
    yield {"what": "the same, × forward passes", "seconds": whole / passes}
    assert table["value"].notna().all() and (table["value"] > 0).all()


def generating(folder: Path, device: str, config: dict[str, Any], bandwidth: float) -> Iterator[Row]:
    """Seconds of one step of generation by batch and length, with both caches, beside the plan's."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype="bfloat16", device_map=device).eval()
    weights = sum(p.numel() for p in model.parameters()) * 2 / 1e9
    a_token = 4 * config["num_hidden_layers"] * config["hidden_size"] / config["num_attention_heads"]
    a_token *= config["num_key_value_heads"] / 1e9
    for rows, before in BATCHES:
        found = {}
        for name, grow in (("copied", lambda cache: None), ("grown", growing.let_grow)):
            with instead(decoding, "let_grow", grow):
                found[name] = step(model, rows, before, device)
        floor = (weights + rows * before * a_token) / (bandwidth * EFFICIENCY)
        planned = max(config["num_hidden_layers"] * LAUNCH, floor)
        yield {"rows": rows, "before": before, **found, "planned": planned, "tokens": rows / found["grown"]}


def step(model: Any, rows: int, before: int, device: str) -> float:
    """Seconds of a step: the difference of a long and a short generation, over their steps."""
    prompt = torch.randint(5, 200, (rows, before), device=device)

    def generate(tokens: int) -> Any:
        return model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, min_new_tokens=tokens,
            do_sample=False, pad_token_id=0, eos_token_id=1, custom_generate=decoding.decode, until=None,
        )  # fmt: skip

    generate(2)
    short, _ = timed(lambda: generate(2), device)
    long, _ = timed(lambda: generate(2 + STEPS), device)
    return (long - short) / STEPS


def evaluating(device: str) -> Iterator[Row]:
    """Responses of abacus-slow by dtype, and how many are the committed ones of the CPU in float32."""
    records = read_records([REPORTS / "tiny" / "long-to-short" / "records.parquet"])
    known = records[(records["method"] == "abacus-slow") & (records["task"] == "abacus_medium")].set_index("item")
    for dtype in ("float32", "bfloat16"):
        seconds, found = timed(lambda: acm.evaluate(
            "abacus/checkpoints/abacus-slow", ["abacus_medium"], items=250, max_tokens=320, dtype=dtype,  # noqa: B023
            device=device, batch_size=250), device)  # fmt: skip
        same = int((found.set_index("item")["response"] == known["response"]).sum())
        yield {"dtype": dtype, "items": len(found), "the same response": same, "right": int(found["correct"].sum()),
               "right on the CPU": int(known["correct"].sum()), "seconds": seconds}  # fmt: skip


def the_gpu_tests() -> Iterator[Row]:
    """The tests that want a GPU."""
    files = ["tests/merging/test_gpu.py", "tests/calibration/test_counts_gpu.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in (done.stdout or done.stderr).strip().splitlines()[-12:]:
        if line.startswith(("FAILED", "ERROR", "E ")) or " in " in line:
            yield {"tests": line[:200]}


def main(
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the script")] = "cuda",
    small: Annotated[bool, typer.Option(help="tiny models")] = False,
    folder: Annotated[Path, typer.Option(help="where the models are made")] = Path("/dev/shm"),
    bandwidth: Annotated[float, typer.Option(help="of the GPU's memory, GB/s")] = 3350,
    only: Annotated[str, typer.Option(help="parts, separated by commas; all by default")] = "",
    out: Annotated[Path, typer.Option(help="the table")] = RESULT,
    seconds: Annotated[float, typer.Option(help="no row of a table begins after so many")] = 450,
) -> None:
    """Measure what one GPU gains."""
    large, lengths = (TINY if small else SEVEN), LENGTHS[: 2 if small else None]
    texts = [str(k)[-1] * n for k in range(10) for n in lengths]
    name = torch.cuda.get_device_name() if device != "cpu" else "no GPU"
    began, lines = time.time(), [f"# What one GPU gains: {name}", "", f"{machine()}, torch {torch.__version__}."]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        home = Path(place)
        make_models(home / "large", large, ["base", "one"], device)
        make_models(home / "methods", TINY if small else BLOCK, ["base", "one", "two"], device)
        parts: dict[str, Callable[[], Iterator[Row]]] = {
            "calibrating a pair of 7B, 100 texts": lambda: calibrating(home / "large", device, texts),
            "estimators, 150 tokens": lambda: (r for w in (3584, 152_064) for r in estimators(device, w)),
            "tests that want a GPU": the_gpu_tests,
            "evaluation of abacus": lambda: evaluating(device),
            "generation at 7B, bfloat16": lambda: generating(home / "large", device, large, bandwidth),
            "merging a pair of 7B": lambda: merging_large(home / "large", device),
            "methods of merging, 15 M parameters": lambda: merging_methods(home / "methods", device),
        }
        for title, part in parts.items():
            if (only and not any(word in title for word in only.split(","))) or time.time() - began > seconds:
                continue
            start, rows = time.time(), []
            try:
                for row in part():
                    rows.append(row)
                    print(title, row, flush=True)
                    if time.time() - began > seconds:
                        break
            except Exception as error:  # one part that fails must not lose the others
                rows.append({"failed": f"{type(error).__name__}: {str(error)[:300]}"})
                print(title, rows[-1], flush=True)
            table = pd.DataFrame(rows).astype(object).fillna("").to_markdown(index=False, floatfmt=".4g")
            lines += ["", f"## {title[0].upper()}{title[1:]} ({time.time() - start:.0f} s)", "", table]
            if not small and not only:
                out.write_text("\n".join(lines) + "\n")  # what is measured is kept, whatever comes
    print("\n".join([*lines, "", f"All together {time.time() - began:.0f} s."]))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    typer.run(main)
