"""Speed of the plug-in estimate against scikit-learn, and memory of calibrating a pair of 7B's shape.

    .venv/bin/python benchmarks/calibrate.py              # about 20 minutes, 32 GB of disk
    .venv/bin/python benchmarks/calibrate.py --speed      # the estimators alone: a minute

Two checkpoints of Qwen2.5-7B's shape (hidden 3584, 28 blocks, untied head of 152,064) are made of random bfloat16
weights, and removed afterwards. A model of fewer blocks is the same files with a smaller number in the config. Times of
calibration depend on the disk and on the machine's load. The peak of anonymous memory does not.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from common import machine, make_checkpoint, measure, qwen2, shapes
from sklearn.metrics import mutual_info_score

from abacus.build import calibration_problems
from abacus.tokenizer import build_tokenizer
from acm import mutual_information
from acm.calibration.registry import ESTIMATORS
from acm.weight_files import INDEX

RESULT = Path(__file__).with_suffix(".md")
ESTIMATORS_RESULT = RESULT.with_name("estimators.md")
SHAPE = {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4}
RUNS = [(7, 8), (14, 8), (28, 8), (28, 32)]  # blocks, texts
FOLDER = Path("runs/benchmark-calibrate")
ESTIMATORS_NOTE = (
    "\n`gaussian` is a sum over channels and `kraskov` a mean over 32 of them; `cka` and `cosine` are similarities."
)
NOTE = (
    "\nSeconds depend on the disk and on what else the machine does, and include reading all weights once to check "
    "that they are finite. Mapped files are not anonymous memory: the kernel can drop them."
)


def fastest(run: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Seconds of CPU of the fastest run, and its value. One thread, so a busy machine changes little."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        value = run()
        found.append((time.process_time() - start, value))
    return min(found)


def speed() -> list[str]:
    """Every estimator on two bf16 arrays of shape (400, 3584), one thread, as lines of a table.

    Beside them stand scikit-learn's plug-in estimate and one pass over the data.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3584, generator=generator)
    y = (0.8 * x + 0.6 * torch.randn(400, 3584, generator=generator)).bfloat16()
    x = x.bfloat16()
    floats = [v.float().flatten().numpy() for v in (x, y)]
    codes = [v.view(torch.int16).flatten().numpy() for v in (x, y)]
    mutual_information(x, y)  # compiles
    touched = fastest(lambda: float(sum(int(v.sum()) for v in codes)), 9)[0]
    theirs, expected = min(fastest(partial(mutual_info_score, *values), 3) for values in (floats, codes))
    passes = f"{theirs / touched:.0f}"
    rows = [
        "| scikit-learn `mutual_info_score` (faster of floats and codes) "
        f"| {theirs * 1e3:.1f} | 1.0 | {passes} | {expected:.9f} |",
        f"| one pass over the data (sum of both) | {touched * 1e3:.2f} | {passes} | 1 | |",
    ]
    for name, estimator in ESTIMATORS.items():
        seconds, value = fastest(partial(mutual_information, x, y, name), 9 if estimator.additive else 2)
        ratios = f"{theirs / seconds:.1f} | {seconds / touched:.0f}"
        rows.append(f"| `{name}` | {seconds * 1e3:.1f} | {ratios} | {value:.9f} |")
    head = ["| estimator | CPU ms | × faster than scikit-learn | × one pass | value |", "|---|---|---|---|---|"]
    return head + rows


def make_pair(folder: Path, config: dict) -> None:
    """Two checkpoints with the embedded tokenizer; what is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("base", "finetuned")):
        if not (folder / name).is_dir():
            make_checkpoint(folder / name, config, seed)
            build_tokenizer().save_pretrained(folder / name)


def shorten(folder: Path, config: dict) -> None:
    """Leave in config and index what a model of this config needs; the shards stay."""
    whole = folder / "whole.json"
    if not whole.is_file():
        shutil.copy(folder / INDEX, whole)
    index = json.loads(whole.read_text())
    needed = shapes(config)
    kept = {name: shard for name, shard in index["weight_map"].items() if name in needed}
    (folder / INDEX).write_text(json.dumps(index | {"weight_map": kept}))
    (folder / "config.json").write_text(json.dumps(config))


def memory(folder: Path, threads: int) -> list[str]:
    """Peak anonymous memory of `python -m acm calibrate` on the pair, by number of blocks and texts."""
    config = qwen2(28, 152064, tied=False, **SHAPE)
    make_pair(folder, config)
    rows = [r["question"] for r in calibration_problems(max(n for _, n in RUNS))]
    lines = [
        "| blocks | parameters of each | texts | tokens of each | s | peak anonymous GB | both models in memory, GB |",
        "|---|---|---|---|---|---|---|",
    ]
    tokenizer = build_tokenizer()
    for blocks, texts in RUNS:
        smaller = config | {"num_hidden_layers": blocks}
        for name in ("base", "finetuned"):
            shorten(folder / name, smaller)
        (folder / "texts.txt").write_text("\n".join(rows[:texts]) + "\n")
        models = [str(folder / name) for name in ("base", "finetuned")]
        options = {"texts": folder / "texts.txt", "out": folder / "out", "dtype": "bfloat16", "clusters": 1}
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "acm", "calibrate", *models, *given, "--per-cluster", str(texts)]
        found = measure(command, {"OMP_NUM_THREADS": str(threads)})
        parameters = sum(torch.Size(shape).numel() for shape in shapes(smaller).values())
        tokens = sum(len(tokenizer(text)["input_ids"]) for text in rows[:texts]) / texts
        both = parameters * 4 / 1e9
        sizes = f"| {blocks} | {parameters / 1e9:.2f}B | {texts} | {tokens:.0f} "
        lines.append(f"{sizes}| {found.wall:.0f} | {found.anonymous:.2f} | {both:.0f} |")
        print(lines[-1], flush=True)
    return lines


def main(
    folder: Annotated[Path, typer.Option(help="where the checkpoints go; removed afterwards")] = FOLDER,
    speed_only: Annotated[bool, typer.Option("--speed", help="the estimators alone")] = False,
    threads: Annotated[int, typer.Option(help="of torch")] = 2,
    keep: Annotated[bool, typer.Option(help="keep the checkpoints, and use them if they are there")] = False,
) -> None:
    """Measure, print, and store the tables beside this file."""
    made = f"{machine()}; made by `benchmarks/calibrate.py`."
    estimates = speed()
    print("\n".join(estimates))
    title = "# Estimators on two bf16 arrays of shape (400, 3584), one thread\n"
    ESTIMATORS_RESULT.write_text("\n".join([title, made, "", *estimates, ESTIMATORS_NOTE]) + "\n")
    if speed_only:
        return
    walks = memory(folder, threads)
    title = "# Calibrating a pair of Qwen2.5-7B's shape, bfloat16, layer by layer: real pair and two null controls\n"
    RESULT.write_text("\n".join([title, made, "", *walks, NOTE]) + "\n")
    if not keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
