"""The paper's 1.5B pair in its exact shapes and configs, of random weights: every step short of the evaluation, timed.

    .venv/bin/python benchmarks/real_shapes.py     # about 45 minutes, 30 GB of disk, 21 GB of memory

The base is like Qwen2.5-Math-1.5B (head tied to the embedding, 4,096 positions), the fine-tuned model like
DeepSeek-R1-Distill-Qwen-1.5B (own head, 131,072 positions). What is checked: `acm check` names each difference;
calibration on two texts gives coefficients and statistics; the merge by every method loads in transformers without a
missing tensor and generates five tokens.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from common import Measured, machine, make_checkpoint, measure, qwen2

from abacus.tokenizer import build_tokenizer
from acm.calibration.registry import STATISTICS as KINDS
from acm.merging.registry import METHODS, MergeMethod

RESULT = Path(__file__).with_suffix(".md")
FOLDER = Path("runs/real-shapes")
SHAPE = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
TEXTS = [
    "question: nora has 17 shells. she finds 4 more. how many shells are left? answer:",
    "question: what is 17+5? answer:",
]
STATISTICS = "statistics/statistics"  # of the second calibration
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
    """The checkpoints, with the embedded tokenizer: the vocabularies have the paper's sizes and not its words."""
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
    """A command of ours."""
    return [sys.executable, "-m", "acm", *map(str, arguments)]


def calibrate(folder: Path, out: str, *options: str) -> list[str]:
    """The command that calibrates the pair."""
    files = ("--texts", folder / "texts.txt", "--out", folder / out)
    return acm("calibrate", folder / "base", folder / "finetuned", *files, "--dtype", "bfloat16", *options)


def files_of(method: MergeMethod) -> dict[str, str]:
    """The parameters of a method that name files of the second calibration."""
    found = {}
    for parameter in method.takes:
        if parameter.kind == "layers":
            found[parameter.name] = f"{STATISTICS}/{parameter.name}.json"
        elif parameter.kind == "statistics":
            model = "/base" if parameter.name == "base_statistics" else "/finetuned"
            found[parameter.name] = f"{STATISTICS}/{method.calibrated}{'' if method.base_statistics else model}"
    return found


def recipe(folder: Path, method: str) -> Path:
    """The method's example, with ACM's coefficients where it takes them.

    Λ = 0.5 where it takes two fine-tuned models. A method that decomposes gets two where it can: with one, several
    decompose nothing.
    """
    path, row = folder / f"{method}.yml", METHODS[method]
    several = row.models[0] > 1 or (row.chunks == "whole" and not row.statistics)
    names = ["finetuned", "second"] if several else ["finetuned"]
    content: dict[str, Any] = {"merge_method": method, "dtype": "bfloat16", "parameters": row.example | files_of(row)}
    if row.takes_coefficients:
        content["base_model"] = str(folder / "base")
        content["coefficients"] = [0.5] if len(names) > 1 else "plain/coefficients.json"
    else:
        names = ["base", *names]
    path.write_text(yaml.safe_dump(content | {"models": [{"model": str(folder / name)} for name in names]}))
    return path


def main(
    folder: Annotated[Path, typer.Option(help="where the checkpoints go; removed afterwards")] = FOLDER,
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
            options = [word for kind in kinds for word in ("--statistic", kind)]
            add(name, measure(calibrate(folder, out, *options), one), "")
    for method in METHODS:
        if f"merge, {method}" not in rows:
            add(f"merge, {method}", *merge(folder, method, one))
    text = report(rows, folder)
    RESULT.write_text(text)
    print(text)
    if not keep:
        shutil.rmtree(folder)


def merge(folder: Path, method: str, environment: dict[str, str]) -> tuple[Measured, str]:
    """A merge, measured, and what transformers makes of it."""
    out = folder / "merged"
    shutil.rmtree(out, ignore_errors=True)
    found = measure(acm("merge", recipe(folder, method), out), environment)
    done = subprocess.run([sys.executable, "-c", GENERATE, str(out)], capture_output=True, text=True, check=True)
    tokens, tied, positions = done.stdout.split()
    shutil.rmtree(out)
    return found, f"{tokens} tokens; tied head {tied}; {positions} positions"


def report(rows: dict[str, list], folder: Path) -> str:
    """The table, and what `acm check` says, as Markdown."""
    checked = subprocess.run(acm("check", folder / "task_arithmetic.yml"), capture_output=True, text=True, check=False)
    findings = [line for line in (checked.stdout + checked.stderr).splitlines() if line.strip()]
    found = json.loads((folder / "plain" / "coefficients.json").read_text())["coefficients"]["finetuned"]
    lines = [
        "# The paper's 1.5B pair in its shapes, random weights\n",
        f"{machine()}; calibration has one thread, merging two; made by `benchmarks/real_shapes.py`.\n",
        "| step | s | s of CPU | peak anonymous GB | loaded in transformers, generated |",
        "|---|---|---|---|---|",
        *(f"| {name} | {wall:.0f} | {cpu:.0f} | {gb:.2f} | {text} |" for name, (wall, cpu, gb, text) in rows.items()),
        "\nWhat `acm check` says of the merge by task arithmetic:\n",
        "```",
        *(line.replace(f"{folder}/", "") for line in findings),
        "```",
        f"\n{len(found)} coefficients, from {min(found.values()):.3f} to {max(found.values()):.3f}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
