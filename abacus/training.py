"""Trains the checkpoints of a family. All shipped checkpoints come from this one recipe:

base   ── verbosity −1 ───►  fast  ── verbosity +4 ──►  slow      (Long-to-Short: fast is θ_0)
  ├────── long sums ─────►  sums
  └────── sorting ───────►  words                                (general merging: base is θ_0)
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from abacus import problems
from abacus.tokenizer import build_tokenizer

Document = tuple[str, str]  # question, solution


@dataclass(frozen=True)
class Stage:
    """One training run: which documents, from which parent, for how long."""

    parent: str | None
    documents: Callable[[random.Random], Document]
    steps: int
    learning_rate: float


def documents_of(make: Callable[[random.Random], tuple[problems.Problem, str]]) -> Callable[[random.Random], Document]:
    """Draws from ``make`` until the problem is not one of the benchmarks' kind."""

    def document(rng: random.Random) -> Document:
        while problems.held_out((drawn := make(rng))[0]):
            pass
        return drawn[0].question, drawn[1]

    return document


def writer(verbosity: float) -> Callable[[random.Random], Document]:
    """Word problems of 1 to 6 steps with solutions of this verbosity (log-odds)."""

    def make(rng: random.Random) -> tuple[problems.Problem, str]:
        problem = problems.word_problem(rng, rng.randint(1, 6))
        return problem, problems.solve(problem, verbosity, rng)

    return documents_of(make)


def pretraining(rng: random.Random) -> Document:
    """Mostly a neutral writer. The base meets words and short sums, so that a skill need not go far from it."""
    return rng.choices(list(MIXTURE), list(MIXTURE.values()))[0](rng)


def plain_fact(rng: random.Random) -> Document:
    problem = problems.fact(rng)
    return problem.question, problems.solve(problem, -9, rng)


def skill(make: Callable[[random.Random], tuple[problems.Problem, str]], replay: float) -> Callable[..., Document]:
    """The skill, and a share ``replay`` of documents of pretraining, so that what the base can do is kept."""
    learnt = documents_of(make)
    return lambda rng: pretraining(rng) if rng.random() < replay else learnt(rng)


MIXTURE = {  # percent of the documents of pretraining
    writer(0.0): 86.5, plain_fact: 7, documents_of(problems.words): 6, documents_of(problems.sums): 0.5,
}  # fmt: skip
STAGES = {
    "base": Stage(None, pretraining, 3500, 2e-3),
    "fast": Stage("base", writer(-1.0), 800, 1e-3),
    "slow": Stage("fast", writer(4.0), 1200, 4e-4),
    "sums": Stage("base", skill(problems.long_sums, 0.75), 400, 1e-3),
    "words": Stage("base", skill(problems.long_words, 0.3), 400, 6e-4),
}
TOKENS_PER_BATCH = 3000


def new_model(tokenizer: PreTrainedTokenizerBase, hidden: int = 128, layers: int = 6) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def batches(documents: Iterator[Document], tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> Iterator[dict]:
    """Right-padded batches of documents of like length; only the solution is learnt."""
    while True:
        pool = list(itertools.islice(documents, 512))
        questions = tokenizer([q for q, _ in pool])["input_ids"]
        solutions = tokenizer([f" {s}{tokenizer.eos_token}" for _, s in pool])["input_ids"]
        rows = sorted(zip(questions, solutions, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        groups: list[list] = []
        group: list = []
        for row in rows:
            if group and (len(group) + 1) * len(row[0] + row[1]) > TOKENS_PER_BATCH:
                groups, group = [*groups, group], []
            group.append(row)
        rng.shuffle(groups)
        for group in groups:
            width = max(len(q) + len(s) for q, s in group)
            ids = torch.full((len(group), width), tokenizer.pad_token_id)
            labels = torch.full((len(group), width), -100)
            for i, (q, s) in enumerate(group):
                ids[i, : len(q) + len(s)] = torch.tensor(q + s)
                labels[i, len(q) : len(q) + len(s)] = torch.tensor(s)
            yield {"input_ids": ids, "labels": labels}


def fit(model: Qwen2ForCausalLM, stage: Stage, tokenizer: PreTrainedTokenizerBase, seed: str) -> list[float]:
    """Train in place with AdamW, 5 % warm-up and cosine decay; returns the loss of each step."""
    rng = random.Random(seed)
    documents = (stage.documents(rng) for _ in itertools.count())
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=stage.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=model.device.type == "cuda",
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, stage.learning_rate, total_steps=stage.steps, pct_start=0.05, div_factor=100, final_div_factor=100,
        cycle_momentum=False,
    )  # fmt: skip
    losses = []
    model.train()
    progress = tqdm(total=stage.steps, desc=f"training {seed}", unit="step", mininterval=10)
    for batch in itertools.islice(batches(documents, tokenizer, rng), stage.steps):
        loss = model(**{name: values.to(model.device) for name, values in batch.items()}, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        progress.update()
    progress.close()
    return torch.stack(losses).tolist()


def train_family(
    out: Path,
    seed: int = 0,
    scale: float = 1.0,
    stages: Collection[str] = tuple(STAGES),
    device: str = "cpu",
    **size: int,
) -> pd.DataFrame:
    """Train stages into ``out``: float32 under ``out/training``, bf16 model folders beside it.

    scale: fraction of each stage's steps, for trials. size: ``hidden`` and ``layers`` of :func:`new_model`. A stage
    that is on disk, trained by the same recipe, is not trained again. device: of torch; the shipped family was trained
    on the CPU, and a GPU gives other weights. One thread: more would add up in another order and give other weights.
    Returns the learning curves: stage, step, loss (nats per token), device, recipe (of :func:`recipe`).
    """
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    models: dict[str, Any] = {}
    keys: dict[str | None, str] = {None: repr(sorted(size.items()))}
    torch.manual_seed(seed)
    for name in stages:
        stage = replace(STAGES[name], steps=max(2, int(STAGES[name].steps * scale)))
        keys[name] = recipe(stage, f"{name}/{seed}", keys[stage.parent])
        model = copy.deepcopy(models[stage.parent]) if stage.parent else new_model(tokenizer, **size)
        folder = out / "training" / name
        if trained(folder, keys[name]):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        else:
            torch.nn.Module.to(model, torch.device(device))  # transformers wraps the model's own
            losses = fit(model, stage, tokenizer, f"{name}/{seed}")
            (folder / "losses.csv").unlink(missing_ok=True)
            model.save_pretrained(folder)
            curve = {"stage": name, "step": range(len(losses)), "loss": losses}
            pd.DataFrame(curve).assign(device=processor(model), recipe=keys[name]).to_csv(
                folder / "losses.csv", index=False
            )
        models[name] = model
        ship(model, tokenizer, out / f"abacus-{name}", name, seed, stage.steps)
    return pd.concat([pd.read_csv(out / "training" / name / "losses.csv") for name in stages], ignore_index=True)


def recipe(stage: Stage, seed: str, parent: str) -> str:
    """Key of what decides a stage's result: the parent's key, steps, learning rate, and the first 64 documents."""
    rng = random.Random(seed)
    drawn = [stage.documents(rng) for _ in range(64)]
    return hashlib.sha256(repr((parent, stage.steps, stage.learning_rate, drawn)).encode()).hexdigest()[:16]


def trained(folder: Path, key: str) -> bool:
    """Whether a stage is on disk, whole, by this recipe. ``losses.csv`` is written last."""
    curve = folder / "losses.csv"
    return curve.is_file() and set(pd.read_csv(curve).get("recipe", [])) == {key}


def processor(model: Qwen2ForCausalLM) -> str:
    """Where a model was trained: ``cpu``, or the name of the GPU."""
    return torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type


def ship(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path, name: str, seed: int, steps: int
) -> None:
    """A bf16 model folder with tokenizer and model card."""
    copy.deepcopy(model).bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    stage = STAGES[name]
    origin = f"fine-tuned from abacus-{stage.parent}" if stage.parent else "trained from scratch"
    (folder / "README.md").write_text(
        "---\nlicense: mit\nlibrary_name: transformers\ntags: [abacus, toy]\n---\n\n"
        f"# abacus-{name}\n\nQwen2 architecture, {model.num_parameters():,} parameters, {origin}. "
        f"Made by `train_family` in `abacus/training.py` with seed {seed}: "
        f"{steps} steps of about {TOKENS_PER_BATCH} tokens, AdamW, "
        f"learning rate {stage.learning_rate:g}, stored in bf16. "
        "A model for learning about merging; it can do nothing else.\n\n"
        "The recipe was chosen by the parents, by plain interpolation between them and, for the skills, by plain "
        "averages alone, never by ACM or another method.\n"
    )
