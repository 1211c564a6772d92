"""The paper's 1.5B pair in its exact shapes and configs, of random weights: every step short of the evaluation, timed.

    .venv/bin/python benchmarks/real_shapes.py     # about 10 minutes, 12 GB of disk

Base like Qwen2.5-Math-1.5B (head tied to the embedding, 4,096 positions), fine-tuned like DeepSeek-R1-Distill-Qwen-1.5B (own head, 131,072
positions). What is checked: the preflight names each difference; calibration on two texts gives coefficients; merges load in transformers
without a missing tensor and generate five tokens.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
import yaml
from common import Measured, make_checkpoint, measure, qwen2

from abacus.tokenizer import build_tokenizer

RESULT = Path(__file__).with_suffix(".md")
SHAPE = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
TEXTS = ["question: nora has 17 shells. she finds 4 more. how many shells are left? answer:", "question: what is 17+5? answer:"]
METHODS = {
    "linear": {"parameters": {"weight": 1.0}},
    "task_arithmetic": {},
    "ties": {"parameters": {"density": 0.2}},
    "dare_linear": {"parameters": {"density": 0.7}},
}
GENERATE = """
import sys, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
model, report = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, output_loading_info=True)
assert not report["missing_keys"] and not report["unexpected_keys"], report
out = model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=5, min_new_tokens=5, do_sample=False)
print(out.shape[1] - 3, model.config.tie_word_embeddings, model.config.max_position_embeddings)
"""


def make_pair(folder: Path) -> None:
    """Base and fine-tuned, with the embedded tokenizer: the vocabularies' sizes are the paper's models', the words are not."""
    folder.mkdir(parents=True, exist_ok=True)
    configs = {
        "base": qwen2(28, 151936, tied=True, **SHAPE),
        "finetuned": qwen2(28, 151936, tied=False, **SHAPE) | {"max_position_embeddings": 131072},
    }
    for seed, (name, config) in enumerate(configs.items()):
        if not (folder / name).is_dir():
            make_checkpoint(folder / name, config, seed)
            build_tokenizer().save_pretrained(folder / name)
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")


def acm(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "acm", *map(str, arguments)]


def recipe(folder: Path, method: str, content: dict) -> Path:
    """A recipe with ACM's coefficients where the method takes them."""
    path, base = folder / f"{method}.yml", {"model": str(folder / "base")}
    models = [*([base] if method == "linear" else []), {"model": str(folder / "finetuned")}]
    extra = {} if method == "linear" else {"base_model": base["model"], "coefficients": str(folder / "calibrated" / "coefficients.json")}
    path.write_text(yaml.safe_dump({"merge_method": method, "models": models, "dtype": "bfloat16"} | extra | content))
    return path


def main(
    folder: Annotated[Path, typer.Option(help="where the checkpoints go; removed afterwards")] = Path("runs/real-shapes"),
    keep: Annotated[bool, typer.Option(help="keep the checkpoints, and use them if they are there")] = False,
) -> None:
    """Make the pair, run every step, print and store the table."""
    folder = folder.resolve()
    make_pair(folder)
    one = {"OMP_NUM_THREADS": "1"}
    rows: list[tuple[str, Measured, str]] = []
    calibrate = acm(
        "calibrate",
        folder / "base",
        folder / "finetuned",
        "--texts",
        folder / "texts.txt",
        "--out",
        folder / "calibrated",
        "--dtype",
        "bfloat16",
    )
    rows.append(("calibrate, 2 texts", measure(calibrate, one), ""))
    for method, content in METHODS.items():
        path, out = recipe(folder, method, content), folder / "merged"
        checked = subprocess.run(acm("check", path), capture_output=True, text=True, check=False)
        if method == "task_arithmetic":
            findings = [line for line in (checked.stdout + checked.stderr).splitlines() if line.strip()]
        rows.append((f"merge, {method}", measure(acm("merge", path, out), one), ""))
        done = subprocess.run([sys.executable, "-c", GENERATE, str(out)], capture_output=True, text=True, check=True)
        tokens, tied, positions = done.stdout.split()
        rows[-1] = (*rows[-1][:2], f"{tokens} tokens; tied head {tied}; {positions} positions")
        shutil.rmtree(out)
        print(rows[-1], flush=True)
    lines = ["# The paper's 1.5B pair in its shapes, random weights\n",
             f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, one thread of torch; made by `benchmarks/real_shapes.py`.\n",
             "| step | s | peak anonymous GB | loaded in transformers, generated |", "|---|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {found.wall:.0f} | {found.anonymous:.2f} | {text} |" for name, found, text in rows]
    lines += [
        "\nWhat `acm check` says of the merge by task arithmetic:\n",
        "```",
        *(line.replace(f"{folder}/", "") for line in findings),
        "```",
    ]
    found = json.loads((folder / "calibrated" / "coefficients.json").read_text())["coefficients"]["finetuned"]
    lines.append(f"\n{len(found)} coefficients, from {min(found.values()):.3f} to {max(found.values()):.3f}.")
    RESULT.write_text("\n".join(lines) + "\n")
    print(RESULT.read_text())
    if not keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
