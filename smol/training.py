"""Trains the two adapters on a GPU, one LoRA through three stages:

base  ── verbosity −1.6 ──►  fast  ── verbosity +3 ──►  slow

The stage base teaches the format and arithmetic. So fast and slow share most of their change of SmolLM2, and between
the two there is one task vector. A stage ends by the clock, as it did for the shipped adapters. Another GPU takes
another number of steps and gives other weights. The recipe was chosen by fast, slow and plain interpolation alone.

The shipped adapters come from an earlier version. It had TensorFloat-32 on, and its writer misplaced a few slips (see
their cards). This version has run on tiny models on a CPU, and not on a GPU yet.

`make smol-train` writes into ``runs/smollm2/adapters``. Model folders of these adapters:

    python -m acm notebook notebooks/0-smol.ipynb OUT.ipynb -p adapters=runs/smollm2/adapters -p output=runs/retrained
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from acm.errors import UserError
from acm.evaluation.prompts import USUAL_PROMPT, render
from acm.files import write_json
from smol import FOLDER
from smol.models import BASE
from smol.problems import LONG, SHORT, Problem, Sets
from smol.source import NAME, PACKAGE, convert, gguf_file, weights_hash
from smol.writer import fact, solve

Document = tuple[str, str]  # question, solution


@dataclass(frozen=True)
class Stage:
    """verbosity: log-odds. facts: share of bare arithmetic. rate: the highest learning rate."""

    verbosity: float
    facts: float
    rate: float
    seconds: float


STAGES = {  # on one H100
    "base": Stage(0.0, 0.2, 2e-3, 150),  # 552 steps, 13.5 million tokens
    "fast": Stage(SHORT, 0.0, 5e-4, 50),  # 179 steps, 4.3 million
    "slow": Stage(LONG, 0.0, 5e-4, 65),  # 246 steps, 5.9 million
}
RANK = 16
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOKENS = 24_000  # of a step, at most
POOL = 2048  # documents that are sorted by length together
WARM_UP = 20  # steps


def documents(stage: Stage, rows: list[Problem], rng: random.Random) -> Iterator[Document]:
    """Questions with solutions, without end."""
    while True:
        row = rng.choice(rows)
        bare = bool(stage.facts) and rng.random() < stage.facts
        yield fact(rng) if bare else (row["question"], solve(row["lines"], row["gold"], stage.verbosity, rng))


def batches(
    drawn: Iterator[Document], tokenizer: PreTrainedTokenizerBase, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids and labels, each (documents, tokens), of documents of like length, without end.

    Rows are padded on the right, where causal attention needs no mask. Labels are those of solution and end token; -100
    elsewhere. The prompt is the tasks' own.
    """
    while True:
        pool = list(itertools.islice(drawn, POOL))
        prompts = tokenizer([render(USUAL_PROMPT, q) for q, _ in pool], add_special_tokens=False)["input_ids"]
        solutions = tokenizer([s + tokenizer.eos_token for _, s in pool], add_special_tokens=False)["input_ids"]
        rows = sorted(zip(prompts, solutions, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        groups: list[list] = [[]]
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row[0] + row[1]) > TOKENS:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from (padded(group, tokenizer.eos_token_id) for group in groups)


def padded(group: list[tuple[list[int], list[int]]], filler: int) -> tuple[Tensor, Tensor]:
    """Prompts and solutions as ids and labels; the width is a multiple of 16."""
    width = -(-max(len(p) + len(s) for p, s in group) // 16) * 16
    ids, labels = torch.full((len(group), width), filler), torch.full((len(group), width), -100)
    for i, (prompt, solution) in enumerate(group):
        stop = len(prompt) + len(solution)
        ids[i, :stop] = torch.tensor(prompt + solution)
        labels[i, len(prompt) : stop] = torch.tensor(solution)
    return ids, labels


def loss_of(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Nats per learnt token. The head, whose vocabulary is large, sees the learnt positions alone."""
    inner = model.base_model.model
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
        hidden = inner.model(input_ids=ids, use_cache=False).last_hidden_state
        learnt = labels[:, 1:] != -100
        logits = inner.lm_head(hidden[:, :-1][learnt])
    return cross_entropy(logits.float(), labels[:, 1:][learnt])


def fit(model: Any, name: str, stage: Stage, rows: list[Problem], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Train the LoRA in place with AdamW until the stage's seconds are over.

    The learning rate warms up, then falls with a cosine over the time to a twentieth. Returns what was done: stage,
    steps, tokens (padding included), and the last step's loss.
    """
    rng = random.Random(name)
    source = batches(documents(stage, rows, rng), tokenizer, rng)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.98), weight_decay=0.0, fused=weights[0].is_cuda)
    model.train()
    start, steps, tokens = time.monotonic(), 0, 0
    with tqdm(total=stage.seconds, desc=f"training {name}", unit="s", bar_format="{l_bar}{bar}{postfix}") as progress:
        while (done := (time.monotonic() - start) / stage.seconds) < 1:
            ids, labels = (tensor.to(model.device) for tensor in next(source))
            falling = 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2
            for group in optimizer.param_groups:
                group["lr"] = stage.rate * min(1, (steps + 1) / WARM_UP) * falling
            loss = loss_of(model, ids, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            steps, tokens = steps + 1, tokens + ids.numel()
            progress.set_postfix(steps=steps, loss=f"{loss.item():.3f}")
            progress.update(done * stage.seconds - progress.n)
    return {"stage": name, "steps": steps, "tokens": tokens, "loss": round(loss.item(), 4)}


def with_lora(base: Path, device: str) -> Any:
    """The base with a fresh LoRA, on a device. On a GPU the base is held in bfloat16; the LoRA is float32."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=LINEAR)
    torch.nn.Module.to(plain, device)  # transformers wraps the model's own
    model = get_peft_model(plain, config)
    model.peft_config["default"].base_model_name_or_path = NAME  # peft would write where the base lies here
    return model


def train(base: Path, out: Path, rows: list[Problem], stages: dict[str, Stage] = STAGES, device: str = "cuda") -> None:
    """Train the stages one after the other; write ``out/fast`` and ``out/slow``, bf16 adapters of peft.

    Each folder appears once it is whole. UserError where ``out`` is there already.
    """
    if out.exists():
        raise UserError(f"{out} exists; remove it or name another folder with --out.")
    torch.manual_seed(0)
    model, tokenizer = with_lora(base, device), AutoTokenizer.from_pretrained(base)
    log = []
    for name, stage in stages.items():
        log.append(fit(model, name, stage, rows, tokenizer))
        print(log[-1], flush=True)
        if name != "base":
            save(model, base, out / name)
    write_json(out / "training.json", log)


def save(model: Any, base: Path, folder: Path) -> None:
    """Write the LoRA in bfloat16, and which base it is for; the folder appears whole."""
    part = folder.with_name(folder.name + ".part")
    kept = {name: value.bfloat16() for name, value in model.state_dict().items() if "lora_" in name}
    model.save_pretrained(part, state_dict=kept, save_embedding_layers=False)  # else peft asks the hub for the base
    facts = {"name": NAME, "source": PACKAGE, "sha256": weights_hash(base)}
    (part / BASE).write_text(json.dumps(facts) + "\n", encoding="utf-8")
    part.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the adapters of smol on a GPU (5 minutes on one H100).")
    parser.add_argument("--out", type=Path, default=FOLDER / "adapters", help="folder for the adapters")
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        raise UserError("training the adapters of smol needs a GPU that torch can use; `make smol-models` needs none.")
    train(convert(gguf_file(), FOLDER / NAME), out, Sets().training())


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
