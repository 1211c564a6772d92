"""The paper's 1.5B pair in its exact shapes and configs, of random weights: every step short of the evaluation, timed.

    .venv/bin/python benchmarks/real_shapes.py     # about 45 minutes, 30 GB of disk, 21 GB of memory

Base like Qwen2.5-Math-1.5B (head tied to the embedding, 4,096 positions), fine-tuned like DeepSeek-R1-Distill-Qwen-1.5B (own head, 131,072
positions). What is checked: the preflight names each difference; calibration on two texts gives coefficients and statistics; the merge by
every method loads in transformers without a missing tensor and generates five tokens.
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
from acm.calibration.registry import STATISTICS as KINDS
from acm.merging.registry import METHODS

RESULT = Path(__file__).with_suffix(".md")
SHAPE = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
TEXTS = [
    "question: nora has 17 shells. she finds 4 more. how many shells are left? answer:",
    "question: what is 17+5? answer:",
]
STATISTICS = "statistics/statistics/"  # of the second calibration
PARAMETERS = {  # method → its recipe's parameters
    "linear": {"weight": 1.0},
    "interpolation": {},
    "slerp": {},
    "task_arithmetic": {},
    "ties": {"density": 0.2},
    "dare_linear": {"density": 0.7},
    "dare_ties": {"density": 0.7},
    "breadcrumbs": {"density": 0.8},
    "breadcrumbs_ties": {"density": 0.8},
    "della": {"density": 0.7},
    "della_linear": {"density": 0.7},
    "model_stock": {},
    "fisher": {"statistics": f"{STATISTICS}fisher/finetuned"},
    "regmean": {"statistics": f"{STATISTICS}regmean/finetuned"},
    "twin": {"rank": 0.2},
    "lore": {"mu": 0.05},
    "aim": {"statistics": f"{STATISTICS}aim"},
    "sens": {"sensitivity": f"{STATISTICS}sensitivity.json", "alpha": 0.7, "temperature": 2.0},
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
    configs["second"] = configs["finetuned"]  # for methods that take two task vectors at least
    for seed, (name, config) in enumerate(configs.items()):
        if not (folder / name).is_dir():
            make_checkpoint(folder / name, config, seed)
            build_tokenizer().save_pretrained(folder / name)
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")


def acm(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "acm", *map(str, arguments)]


def calibrate(folder: Path, out: str, *options: str) -> list[str]:
    texts = folder / "texts.txt"
    return acm(
        "calibrate",
        folder / "base",
        folder / "finetuned",
        "--texts",
        texts,
        "--out",
        folder / out,
        "--dtype",
        "bfloat16",
        *options,
    )


def recipe(folder: Path, method: str) -> Path:
    """A recipe with ACM's coefficients where the method takes them, λ = 0.5 where it takes two fine-tuned models."""
    path, known = folder / f"{method}.yml", METHODS[method]
    content = {"merge_method": method, "dtype": "bfloat16", "parameters": PARAMETERS[method]}
    names = ["finetuned", "second"] if known.models[0] > 1 else ["finetuned"]
    if known.takes_coefficients:
        content |= {
            "base_model": str(folder / "base"),
            "coefficients": [0.5] if len(names) > 1 else "plain/coefficients.json",
        }
    else:
        names = ["base", *names]
    path.write_text(yaml.safe_dump(content | {"models": [{"model": str(folder / name)} for name in names]}))
    return path


def main(
    folder: Annotated[Path, typer.Option(help="where the checkpoints go; removed afterwards")] = Path(
        "runs/real-shapes"
    ),
    keep: Annotated[bool, typer.Option(help="keep the checkpoints")] = False,
) -> None:
    """Make the pair, run every step, print and store the table."""
    folder = folder.resolve()
    make_pair(folder)
    one = {"OMP_NUM_THREADS": "1"}
    stored = folder / "rows.json"  # so that a run goes on where it was stopped
    rows: dict[str, list] = json.loads(stored.read_text()) if stored.is_file() else {}

    def add(name: str, found: Measured, text: str) -> None:
        rows[name] = [found.wall, found.cpu, found.anonymous, text]
        stored.write_text(json.dumps(rows))
        print(name, found, text, flush=True)

    for out, kinds in (("plain", []), ("statistics", list(KINDS))):
        name = f"calibrate, 2 texts{''.join(f', {kind}' for kind in kinds)}"
        if name not in rows:
            add(
                name,
                measure(calibrate(folder, out, *(word for kind in kinds for word in ("--statistic", kind))), one),
                "",
            )
    for method in METHODS:
        path, out = recipe(folder, method), folder / "merged"
        if f"merge, {method}" in rows:
            continue
        shutil.rmtree(out, ignore_errors=True)
        found = measure(acm("merge", path, out), one)
        done = subprocess.run([sys.executable, "-c", GENERATE, str(out)], capture_output=True, text=True, check=True)
        tokens, tied, positions = done.stdout.split()
        add(f"merge, {method}", found, f"{tokens} tokens; tied head {tied}; {positions} positions")
        shutil.rmtree(out)
    checked = subprocess.run(acm("check", folder / "task_arithmetic.yml"), capture_output=True, text=True, check=False)
    findings = [line for line in (checked.stdout + checked.stderr).splitlines() if line.strip()]
    lines = ["# The paper's 1.5B pair in its shapes, random weights\n",
             f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores; calibration has one thread, merging two; made by `benchmarks/real_shapes.py`.\n",
             "| step | s | s of CPU | peak anonymous GB | loaded in transformers, generated |", "|---|---|---|---|---|"]  # fmt: skip
    lines += [
        f"| {name} | {wall:.0f} | {cpu:.0f} | {anonymous:.2f} | {text} |"
        for name, (wall, cpu, anonymous, text) in rows.items()
    ]
    lines += [
        "\nWhat `acm check` says of the merge by task arithmetic:\n",
        "```",
        *(line.replace(f"{folder}/", "") for line in findings),
        "```",
    ]
    found = json.loads((folder / "plain" / "coefficients.json").read_text())["coefficients"]["finetuned"]
    lines.append(f"\n{len(found)} coefficients, from {min(found.values()):.3f} to {max(found.values()):.3f}.")
    RESULT.write_text("\n".join(lines) + "\n")
    print(RESULT.read_text())
    if not keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
