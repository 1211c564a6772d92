"""Evaluation through lm-evaluation-harness, with what it does not keep: token counts, raw text, truncation.

A thin subclass of its Hugging Face model class generates in batches that are fixed from the full list of items;
each whole batch can be kept on disk, so that an interrupted run continues and gives the same bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
from collections import defaultdict
from pathlib import Path

import pandas as pd
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from acm.checkpoints import identity, model_folder
from acm.errors import UserError, unknown
from acm.grading import THINK_OPEN, after_thinking, extract
from acm.paths import TASKS
from acm.prompts import FEW_SHOT_STOPS, PROMPTS
from acm.records import source_hash, versions

# The paper's list (its Tables 6 and 7): a response with any of these, in any case, reflects. A task may add a word of its own
# (`metadata: {reflection: …}` in its YAML).
REFLECTION = re.compile(r"wait|re-examine|recap|double-check|let me (?:just )?(?:check|verify)", re.IGNORECASE)
Row = dict[str, object]  # response, length, truncated


class RecordingLM(HFLM):
    """lm-eval's Hugging Face model; ``rows`` keeps response, length and truncation of each (task, item, repeat)."""

    def __init__(self, *args, keep: Path | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.keep = keep
        self.rows: dict[tuple[str, int, int], Row] = {}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts in the order of ``requests``; batches are cut from all of them, longest prompts first."""
        order = sorted(range(len(requests)), key=lambda i: (str(requests[i].args[1]), -len(requests[i].args[0]), i))
        groups = [list(group) for _, group in itertools.groupby(order, key=lambda i: str(requests[i].args[1]))]
        size = int(self.batch_size)
        batches = [group[k : k + size] for group in groups for k in range(0, len(group), size)]
        found: dict[int, Row] = {}
        for batch in tqdm(batches, desc="generating", unit="batch", disable=disable_tqdm, mininterval=5):
            found |= dict(zip(batch, self.batch_rows([requests[i] for i in batch]), strict=True))
        repeats: dict[tuple, int] = defaultdict(int)
        for i, request in enumerate(requests):
            key = (request.task_name, request.doc_id)
            self.rows[*key, repeats[key]] = found[i]
            repeats[key] += 1
        # lm-eval grades the text before a stop string; the record keeps the stop string too
        texts = [postprocess_generated_text(str(found[i]["response"]), stop_strings(request), None) for i, request in enumerate(requests)]
        return [opened(str(request.args[0])) + text for request, text in zip(requests, texts, strict=True)]

    def batch_rows(self, requests: list[Instance]) -> list[Row]:
        """The rows of one batch, from disk if it was finished before."""
        asked = [[request.args[0], request.args[1]] for request in requests]
        name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:20]
        path = self.keep / f"{name}.json" if self.keep else None
        if path and path.is_file():
            return json.loads(path.read_text())
        rows = self.generate_rows(requests)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(rows))
            part.replace(path)
        return rows

    def generate_rows(self, requests: list[Instance]) -> list[Row]:
        """Generate one batch with lm-eval's own code, and count on the token ids that pass by."""
        self._contexts, self._outputs = [], []
        super().generate_until(requests, disable_tqdm=True)
        cap = requests[0].args[1].get("max_gen_toks", self.max_gen_toks)
        by_context = defaultdict(list)
        for context, ids in zip(self._contexts, self._outputs, strict=True):
            by_context[context].append(self.row(ids, stop_strings(requests[0]), cap))
        return [by_context[request.args[0]].pop(0) for request in requests]

    def tok_batch_encode(self, strings, *args, **kwargs):
        self._contexts.extend(strings)
        return super().tok_batch_encode(strings, *args, **kwargs)

    def _model_generate(self, context, *args, **kwargs):
        output = super()._model_generate(context, *args, **kwargs)
        self._outputs.extend(output[:, context.shape[1] :].tolist())
        return output

    def row(self, ids: list[int], stops: list[str], cap: int) -> Row:
        """Response and length: tokens up to the first end token (excluded) or the token that completes a stop string."""
        ends = self.model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        ended = length < len(ids)
        if any(stop in self.full_text(ids[:length]) for stop in stops):
            ended, length = True, self.first_stop(ids[:length], stops)
        return {"response": self.tok_decode(ids[:length]), "length": length, "truncated": not ended and length >= cap}

    def first_stop(self, ids: list[int], stops: list[str]) -> int:
        """The least number of tokens whose text holds a stop string."""
        return next(n for n in range(1, len(ids) + 1) if any(stop in self.full_text(ids[:n]) for stop in stops))

    def full_text(self, ids: list[int]) -> str:
        """Text with special tokens, which a stop string may name."""
        return self.tok_decode(ids, skip_special_tokens=False)


def opened(prompt: str) -> str:
    """The opening of thinking where a prompt ends with it, as chat templates of reasoning models do; the response then only closes it."""
    return THINK_OPEN if prompt.rstrip().endswith(THINK_OPEN) else ""


def stop_strings(request: Instance) -> list[str]:
    """The stop strings of a request."""
    until = request.args[1].get("until") or []
    return [stop for stop in ([until] if isinstance(until, str) else until) if stop]


def task_manager(tasks: list[str], prompt: str | None = None) -> TaskManager:
    """Ours alone if they hold all tasks (quick), else with lm-eval's own; UserError for a task that neither has.

    prompt: of acm.prompts, for tasks that let one choose; None: what their YAML says.
    """
    for defaults in (False, True):
        manager = TaskManager(include_path=str(TASKS), include_defaults=defaults, metadata={"prompt": prompt} if prompt else None)
        absent = [task for task in tasks if task not in manager.all_subtasks]
        if not absent:
            return manager
    if absent[0] in manager.all_tasks:
        raise UserError(f"'{absent[0]}' is a group of tasks; list its tasks one by one (`lm-eval ls tasks` shows them).")
    raise unknown("task", absent[0], manager.all_subtasks)


def evaluate(model: str | Path, tasks: list[str], *, items: int | None = None, batch_size: int = 64,
             max_tokens: int = 10240, dtype: str = "float32", device: str = "cpu", seed: int = 0,
             keep: Path | None = None, labels: dict[str, str] | None = None, prompt: str | None = None) -> pd.DataFrame:  # fmt: skip
    """Records: one row per (task, item); one response each, greedy unless the task says otherwise.

    model: folder. tasks: lm-eval names. items: how many of each task, from its start. max_tokens: token cap.
    keep: folder for finished batches, for resuming. labels: columns to set, such as profile and method.
    prompt: one of acm.prompts for the mathematics tasks: qwen25-math-cot (their default), few-shot, chat-template.
    Length is in tokens, thinking included, end token excluded. Raises UserError for a missing model or task,
    a task that generates no text or asks for repeats, or a prompt that a task or model does not take.
    """
    folder = model_folder(model)
    check_prompt(prompt, tasks)
    manager = task_manager(tasks, prompt)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    setting = {"engine": "lm-eval/transformers", "dtype": dtype, "device": device, "batch_size": batch_size,
               "max_tokens": max_tokens, "seed": seed, "model": identity(folder), **({"prompt": prompt} if prompt else {})}  # fmt: skip
    if keep:  # the labels too: two large merges of one base may have one identity
        keep = Path(keep) / hashlib.sha256(json.dumps([setting, labels]).encode()).hexdigest()[:16]
    lm = RecordingLM(pretrained=str(folder), dtype=dtype, device=device, batch_size=batch_size, keep=keep)
    if prompt == "chat-template" and not getattr(lm.tokenizer, "chat_template", None):
        raise UserError(f"{folder} has no chat template; choose another prompt: {', '.join(p for p in PROMPTS if p != prompt)}.")
    stops = {"until": FEW_SHOT_STOPS} if prompt == "few-shot" else {}
    results = simple_evaluate(
        lm, tasks=tasks, limit=items, task_manager=manager, gen_kwargs={"max_gen_toks": max_tokens} | stops, bootstrap_iters=0,
        apply_chat_template=prompt == "chat-template",
        random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
    )  # fmt: skip
    rows = []
    for task in tasks:
        own = (results["configs"][task].get("metadata") or {}).get("reflection")
        reflection = re.compile(f"{REFLECTION.pattern}|{own}", re.IGNORECASE) if own else REFLECTION
        rows += task_rows(task, results["samples"][task], lm.rows, reflection)
    data = {task: hashlib.sha256("".join(s["doc_hash"] for s in results["samples"][task]).encode()).hexdigest()[:16] for task in tasks}
    setting |= {"tasks": data, "source": source_hash(), "versions": versions()}
    known = {"profile": "", "experiment": "", "model": folder.name, "method": folder.name} | (labels or {})
    return pd.DataFrame(rows).assign(**known, setting=json.dumps(setting))


def check_prompt(prompt: str | None, tasks: list[str]) -> None:
    """UserError for an unknown prompt, or a task whose prompt cannot be chosen."""
    if prompt is None:
        return
    if prompt not in PROMPTS:
        raise unknown("prompt", prompt, PROMPTS)
    if fixed := [task for task in tasks if not task.startswith("acm_")]:
        raise UserError(f"task '{fixed[0]}' has its own prompt; choose a prompt for acm_ tasks only.")


def task_rows(task: str, samples: list[dict], generated: dict[tuple[str, int, int], Row], reflection: re.Pattern) -> list[Row]:
    """A record for each sample of a task; where it has several answer filters, the last (most lenient) one counts."""
    last = samples[-1]["filter"]
    rows = []
    for sample in (s for s in samples if s["filter"] == last):
        if (task, sample["doc_id"], 0) not in generated:
            raise UserError(f"task '{task}' generates no text, so it has no length; choose a generate_until task.")
        if (task, sample["doc_id"], 1) in generated:
            raise UserError(f"task '{task}' asks for repeats, which are not recorded yet; set `repeats: 1` in its YAML.")
        row = generated[task, sample["doc_id"], 0]
        text, prompt = str(row["response"]), str(sample["arguments"][0][0])
        rows.append({
            "task": task, "item": sample["doc_id"], "repeat": 0,
            "correct": float(sample[sample["metrics"][0]]), "answer": str(sample["filtered_resps"][0]),
            "gold": str(sample["target"]), **row, "reflections": len(reflection.findall(text)),
            "thinking_closed": after_thinking(opened(prompt) + text)[1],
            "steps": sample["doc"].get("steps"), "question": prompt, **mathematics(sample),
        })  # fmt: skip
    return rows


def mathematics(sample: dict) -> Row:
    """What records of our mathematics tasks have beside the others: the second grade, the answer, and where that stood."""
    if "correct_string" not in sample["metrics"]:
        return {}
    answer, source = extract(sample["filtered_resps"][0])
    return {"correct_string": float(sample["correct_string"]), "answer": answer, "answer_from": source}
