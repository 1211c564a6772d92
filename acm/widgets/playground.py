"""Computes what the merge playground shows: merges two embedded models, asks all three models, measures the merge.

The project's own engine merges, into a temporary folder. This module only loads models, asks them and counts. The
answers are those of the evaluation: the same prompts, greedy decoding, the same grading.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria
from transformers.utils import logging as transformers_logging

from abacus import BENCHMARKS, problems
from acm.checkpoints import layer_of, model_folder
from acm.errors import UserError, unknown
from acm.evaluation.reflections import pattern_of
from acm.evaluation.task_files import read_task
from acm.merging.engine import merge
from acm.merging.export import mergekit_recipe
from acm.merging.plan import make_plan
from acm.merging.recipe import load_recipe
from acm.merging.registry import METHODS

TASKS = ("abacus_easy", "abacus_medium", "abacus_hard")
BATCH = 25
LONGEST = 1500  # the most characters of a typed problem
LARGEST = 200e6  # the most bytes of a model's weights
Stop = Callable[[], bool]


def never() -> bool:
    """Says that nobody wants to stop."""
    return False


def offered_methods() -> list[str]:
    """Methods that merge one model into a base by λ of each layer, without further files."""
    return [m.name for m in METHODS.values() if m.takes_coefficients and m.models[0] == 1 and not m.reads_files]


def parameters_of(method: str) -> dict[str, Any]:
    """The parameters of a method beside λ, at their defaults.

    One without a default, or with one that the method works out, starts as in the method's example.
    """
    row = METHODS[method]
    return {
        p.name: row.example[p.name] if p.default is None or isinstance(p.default, str) else p.default
        for p in row.takes
        if p is not row.coefficient
    }


@dataclass(frozen=True)
class Choice:
    """One setting of the playground: a method, λ of each layer, the method's parameters, the seed of random masks."""

    method: str
    coefficients: dict[str, float]
    parameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def describe(self) -> str:
        """``ties, density 0.2, λ 0.50 to 0.70``."""
        low, high = min(self.coefficients.values()), max(self.coefficients.values())
        extra = "".join(f", {k} {v:g}" for k, v in self.parameters.items() if v != METHODS[self.method].defaults[k])
        return f"{self.method}{extra}, λ {low:g}" + (f" to {high:g}" if high > low else "")


@dataclass(frozen=True)
class Answer:
    """A response: text, length in tokens up to the end token (excluded), and whether the cap cut it."""

    response: str
    length: int
    truncated: bool


class Stopped(Exception):
    """The user stopped what was under way."""


class Until(StoppingCriteria):
    """Ends a generation as soon as ``stop`` says so."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.full((len(ids),), self.stop(), dtype=torch.bool, device=ids.device)


class Trio:
    """A base, a model fine-tuned from it, and their merge, in memory in float32.

    cap: token cap of an answer. It is meant for models of a few million parameters: UserError for more than
    :data:`LARGEST` bytes.
    """

    def __init__(self, base: str | Path, finetuned: str | Path, cap: int = 320) -> None:
        self.base, self.finetuned, self.cap = model_folder(base).resolve(), model_folder(finetuned).resolve(), cap
        for folder in (self.base, self.finetuned):
            if (size := sum(path.stat().st_size for path in folder.glob("*.safetensors"))) > LARGEST:
                most = f"the playground is for models of {LARGEST / 1e6:.0f} MB at most."
                raise UserError(f"{folder} holds {size / 1e6:,.0f} MB of weights; {most}")
        transformers_logging.disable_progress_bar()
        self.tokenizer = AutoTokenizer.from_pretrained(self.base, padding_side="left")
        self.models: dict[str, Any] = {path.name: load(path) for path in (self.base, self.finetuned)}
        self.models["merge"] = load(self.base)
        self.known: dict[tuple[str, str], Answer] = {}

    @property
    def names(self) -> list[str]:
        """The base, the fine-tuned model, and ``merge``."""
        return list(self.models)

    @cached_property
    def layers(self) -> list[str]:
        """The layers that have tensors of their own, from the first to the last."""
        plan = make_plan(load_recipe(self.recipe(Choice("task_arithmetic", {}), weight=1.0))[0], Path())
        present = {layer_of(job.name) for job in plan.jobs}
        blocks = sorted(filter(str.isdecimal, present), key=int)
        return ["embed", *blocks, *(layer for layer in ("norm", "lm_head") if layer in present)]

    def recipe(self, choice: Choice, **extra: object) -> dict[str, Any]:
        """The recipe of a choice, with absolute paths. extra: further parameters, with which it has no coefficients."""
        content: dict[str, Any] = {
            "merge_method": choice.method,
            "base_model": str(self.base),
            "models": [{"model": str(self.finetuned)}],
            "parameters": choice.parameters | extra,
            "seed": choice.seed,
        }
        return content if extra else content | {"coefficients": {self.finetuned.name: choice.coefficients}}

    def merge(self, choice: Choice) -> None:
        """Make ``merge`` the merge of this choice, by the engine. Raises UserError as :func:`acm.merge`."""
        model = self.models["merge"]
        weights: dict[str, torch.Tensor] = {}
        with tempfile.TemporaryDirectory() as place:
            folder = merge(self.recipe(choice), Path(place) / "merged", threads=1, kernels=False)  # nothing to compile
            for path in folder.glob("*.safetensors"):
                weights |= {name: tensor.float() for name, tensor in load_file(path).items()}
        found = model.load_state_dict(weights, strict=False)
        tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
        if found.unexpected_keys or set(found.missing_keys) - tied:
            odd = (found.unexpected_keys + found.missing_keys)[0]
            raise UserError(f"the merge does not fit the base's architecture: {odd}.")

    def export(self, choice: Choice, style: str = "ours") -> str:
        """The recipe as YAML, in the style ``ours`` or ``mergekit``; UserError for what mergekit cannot reproduce."""
        if style not in {"ours", "mergekit"}:
            raise unknown("style of recipe", style, ["ours", "mergekit"])
        content = self.recipe(choice)
        if style == "ours":
            return yaml.safe_dump(content, sort_keys=False)
        return mergekit_recipe(make_plan(load_recipe(content)[0], Path()).check(), Path())

    def ask(self, name: str, question: str, stop: Stop = never) -> Answer:
        """One model's answer to a prompt; those of the parents are kept.

        Raises UserError for a prompt that leaves no room for the answer, and Stopped if stopped.
        """
        if (name, question) not in self.known or name == "merge":
            self.known[name, question] = self.generate(name, [question], stop)[0]
        return self.known[name, question]

    def generate(self, name: str, prompts: list[str], stop: Stop = never) -> list[Answer]:
        """Greedy answers, as the evaluation gets them: padded on the left, up to ``cap`` tokens."""
        model = self.models[name]
        room = model.config.max_position_embeddings - self.cap
        batch = self.tokenizer(prompts, return_tensors="pt", padding=True)
        ids = batch["input_ids"]
        width = ids.shape[1]
        if not 0 < width <= room:
            told = f"the problem has {width} tokens"
            raise UserError(f"{told}; with {self.cap} for the answer the models have room for {room}.")
        how = {"do_sample": False, "max_new_tokens": self.cap, "pad_token_id": self.tokenizer.pad_token_id}
        with torch.inference_mode():
            mask, until = batch["attention_mask"], [Until(stop)]
            output = model.generate(input_ids=ids, attention_mask=mask, stopping_criteria=until, **how)
        if stop():
            raise Stopped
        return [self.answer(ids) for ids in output[:, width:].tolist()]

    def answer(self, ids: list[int]) -> Answer:
        """The answer of generated ids, up to the first end token."""
        end = self.tokenizer.eos_token_id
        length = ids.index(end) if end in ids else len(ids)
        text = str(self.tokenizer.decode(ids[:length], skip_special_tokens=True))
        return Answer(text, length, length == len(ids) and length >= self.cap)

    def evaluate(self, items: pd.DataFrame, report: Callable[[int], None], stop: Stop = never) -> pd.DataFrame:
        """Records of the merge on these items. report: told how many are done. Raises Stopped if stopped."""
        rows = []
        for start in range(0, len(items), BATCH):
            if stop():
                raise Stopped
            batch = items.iloc[start : start + BATCH].to_dict("records")
            part = [{str(column): value for column, value in item.items()} for item in batch]
            found = self.generate("merge", [item["question"] for item in part], stop)
            rows += [graded(item, answer) for item, answer in zip(part, found, strict=True)]
            report(len(rows))
        return pd.DataFrame(rows)


def load(folder: Path) -> torch.nn.Module:
    """A model in float32, ready to answer."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()


def graded(item: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """A record of an answer to a benchmark's item, graded by its task's own pattern."""
    pattern = read_task(item["task"])["filter_list"][0]["filter"][0]["regex_pattern"]
    found = re.findall(pattern, answer.response)
    said = found[-1].strip() if found else "[invalid]"  # lm-eval's word for no answer
    reflections = len(pattern_of(item["task"]).findall(answer.response))
    grade = {"answer": said, "correct": float(said == item["gold"]), "reflections": reflections}
    return item | {"repeat": 0} | grade | vars(answer)


def benchmark_items(count: int, tasks: Iterable[str] = TASKS) -> pd.DataFrame:
    """The first items of these benchmarks, taken in turn: task, item, question, gold, steps."""
    if count < 1:
        raise UserError(f"the number of items must be at least 1, not {count}.")
    by_task = []
    for task in tasks:
        if not (path := BENCHMARKS / f"{task}.jsonl").is_file():
            raise unknown("benchmark", task, (p.stem for p in BENCHMARKS.glob("abacus_*.jsonl")))
        lines = path.read_text(encoding="utf-8").splitlines()
        by_task.append([{"task": task, "item": i, **json.loads(line)} for i, line in enumerate(lines)])
    return pd.DataFrame([item for turn in zip_longest(*by_task) for item in turn if item][:count])


def draw_problem(steps: int, seed: int) -> problems.Problem:
    """A word problem of this many steps that no model was trained on."""
    rng = random.Random(seed)
    while not problems.held_out(found := problems.word_problem(rng, steps)):
        pass
    return found


def as_prompt(text: str) -> str:
    """What was typed, as the models read a problem: ``question: … answer:``. UserError for nothing, or far too much."""
    text = " ".join(text.split())
    if not text:
        raise UserError("type a problem first, or draw one.")
    if len(text) > LONGEST:
        raise UserError(f"the problem has {len(text)} characters; {LONGEST} are the most.")
    text = text if text.startswith("question:") else f"question: {text}"
    return text if text.endswith("answer:") else f"{text} answer:"
