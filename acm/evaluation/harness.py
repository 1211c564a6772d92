"""Evaluation through lm-evaluation-harness, with what it does not keep: token counts, raw text, truncation.

Models run by transformers, by vLLM, or on a server; see `acm.evaluation.backends`. One call generates one response to each item, greedy or sampled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from acm.checkpoints import identity, model_folder
from acm.devices import devices
from acm.errors import UserError, unknown
from acm.evaluation.backends import Recording, RecordingLM, Row, opened
from acm.evaluation.grading import after_thinking, extract
from acm.evaluation.prompts import FEW_SHOT_STOPS, PROMPTS
from acm.paths import TASKS
from acm.records import versions
from acm.sources import source_hash

# The paper's list (its Tables 6 and 7): a response with any of these, in any case, reflects. A task may add a word of its own
# (`metadata: {reflection: …}` in its YAML).
REFLECTION = re.compile(r"wait|re-examine|recap|double-check|let me (?:just )?(?:check|verify)", re.IGNORECASE)
MODEL_ARGS = {  # what `model_args` may hold: arguments of vLLM's engine, fields of a server's requests
    "transformers": (),
    "vllm": (
        "tensor_parallel_size",
        "gpu_memory_utilization",
        "max_model_len",
        "max_num_seqs",
        "quantization",
        "enforce_eager",
    ),
    "server": ("skip_special_tokens", "add_special_tokens", "top_k", "min_p", "repetition_penalty"),
}


def task_manager(tasks: list[str], prompt: str | None = None) -> TaskManager:
    """Ours alone if they hold all tasks (quick), else with lm-eval's own; UserError for a task that neither has.

    prompt: of acm.evaluation.prompts, for tasks that let one choose; None: what their YAML says.
    """
    for defaults in (False, True):
        manager = TaskManager(
            include_path=str(TASKS), include_defaults=defaults, metadata={"prompt": prompt} if prompt else None
        )
        absent = [task for task in tasks if task not in manager.all_subtasks]
        if not absent:
            check_generates(manager, tasks)
            return manager
    if absent[0] in manager.all_tasks:
        raise UserError(
            f"'{absent[0]}' is a group of tasks; list its tasks one by one (`lm-eval ls tasks` shows them)."
        )
    raise unknown("task", absent[0], manager.all_subtasks)


def check_generates(manager: TaskManager, tasks: list[str]) -> None:
    """UserError for a task that scores choices."""
    kinds = {task: (manager.task_index[task].cfg or {}).get("output_type", "generate_until") for task in tasks}
    if mute := [task for task, kind in kinds.items() if kind != "generate_until"]:
        raise UserError(
            f"task '{mute[0]}' generates no text, so it has no length; run it with lm-eval itself (docs/benchmarks.md)."
        )


def evaluate(model: str | Path, tasks: list[str], *, items: int | None = None, batch_size: int = 64,
             max_tokens: int = 10240, dtype: str = "float32", device: str = "cpu", seed: int = 0,
             keep: Path | None = None, labels: dict[str, str] | None = None, prompt: str | None = None,
             repeat: int = 0, temperature: float = 0.0, top_p: float = 1.0, backend: str = "transformers",
             url: str | None = None, served: str | None = None, concurrency: int = 1,
             model_args: dict[str, object] | None = None) -> pd.DataFrame:  # fmt: skip
    """Records: one row per (task, item); one response each, greedy unless the temperature or the task says otherwise.

    model: folder. tasks: lm-eval names. items: how many of each task, from its start. max_tokens: token cap.
    keep: folder for finished batches, for resuming. labels: columns to set, such as profile and method.
    prompt: one of acm.evaluation.prompts for the mathematics tasks: qwen25-math-cot (their default), few-shot, chat-template.
    repeat: the number of this repeat, for the column; each has random states of its own. temperature: above 0 samples, with top_p.
    backend: transformers; vllm; or server, which runs the model: then the folder gives the tokenizer, and dtype and device are not known.
    url, served, concurrency: of the server: its address, the model's name there, requests at a time. model_args: see MODEL_ARGS.
    Length is in tokens, thinking included, end token excluded. Raises UserError for a missing model or task,
    a task that generates no text or asks for repeats, a prompt that a task or model does not take, a value out of range,
    or a server that does not answer as it should.
    """
    folder, extra, temperature, top_p = model_folder(model), dict(model_args or {}), float(temperature), float(top_p)
    check_prompt(prompt, tasks)
    check_sampling(repeat, temperature, top_p)
    check_backend(backend, url, served, concurrency, device, extra)
    manager = task_manager(tasks, prompt)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    remote = {"url": url, "served": served, "concurrency": concurrency, "chat": prompt == "chat-template"}
    lm = load(
        backend, folder, dtype, device, max_tokens, remote, extra, batch_size=batch_size, seed=seed, repeat=repeat
    )
    if prompt == "chat-template" and not getattr(lm.tokenizer, "chat_template", None):
        raise UserError(
            f"{folder} has no chat template; choose another prompt: {', '.join(p for p in PROMPTS if p != prompt)}."
        )
    here = {} if backend == "server" else {"dtype": dtype, "device": device}  # a server does not state its own
    chosen = {"prompt": (prompt, None), "temperature": (temperature, 0), "top_p": (top_p, 1), "repeat": (repeat, 0),
              "backend": (backend, "transformers"), "concurrency": (concurrency, 1), "model_args": (extra, {})}  # fmt: skip
    setting = {"engine": f"lm-eval/{backend}", **here, "batch_size": batch_size, "max_tokens": max_tokens, "seed": seed,
               "model": identity(folder), **{key: value for key, (value, usual) in chosen.items() if value != usual}, **lm.facts}  # fmt: skip
    if keep:  # the labels too: two large merges of one base may have one identity
        lm.keep = Path(keep) / hashlib.sha256(json.dumps([setting, labels]).encode()).hexdigest()[:16]
    generation: dict[str, object] = {"max_gen_toks": max_tokens} | (
        {"until": FEW_SHOT_STOPS} if prompt == "few-shot" else {}
    )
    if temperature:
        generation |= {"do_sample": True, "temperature": temperature, "top_p": top_p}
        generation |= {"top_k": 0} if backend == "transformers" else {}  # else 50
    results = simple_evaluate(
        lm, tasks=tasks, limit=items, task_manager=manager, gen_kwargs=generation, bootstrap_iters=0,
        apply_chat_template=prompt == "chat-template",
        random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
    )  # fmt: skip
    known = {"profile": "", "experiment": "", "model": folder.name, "method": folder.name} | (labels or {})
    return table(results, tasks, lm, known, setting)


def load(
    backend: str, folder: Path, dtype: str, device: str, max_tokens: int, remote: dict, extra: dict, **shared
) -> Recording:
    """The model behind a backend. remote: what a server's needs; extra: model_args; shared: what every backend takes."""
    if backend == "transformers":
        return RecordingLM(pretrained=str(folder), dtype=dtype, device=device, **shared)
    if backend == "vllm":
        from acm.evaluation.backends_vllm import RecordingVLLM

        return RecordingVLLM(folder, dtype=dtype, max_gen_toks=max_tokens, **extra, **shared)
    from acm.evaluation.backends_server import connect

    return connect(folder, extra=extra, **remote, **shared)


def table(results: dict, tasks: list[str], lm: Recording, known: dict[str, str], setting: dict) -> pd.DataFrame:
    """The records of all tasks, each with what is known of it and the setting that it was made with."""
    rows = []
    for task in tasks:
        own = (results["configs"][task].get("metadata") or {}).get("reflection")
        reflection = re.compile(f"{REFLECTION.pattern}|{own}", re.IGNORECASE) if own else REFLECTION
        rows += task_rows(task, results["samples"][task], lm.rows, reflection, lm.repeat)
    data = {
        task: hashlib.sha256("".join(s["doc_hash"] for s in results["samples"][task]).encode()).hexdigest()[:16]
        for task in tasks
    }
    setting = setting | {"tasks": data, "source": source_hash("evaluation"), "versions": versions()}
    return pd.DataFrame(rows).assign(**known, setting=json.dumps(setting))


def check_sampling(repeat: int, temperature: float, top_p: float) -> None:
    """UserError for a value out of its range."""
    if repeat < 0:
        raise UserError(f"repeat: is {repeat}; number the repeats 0, 1, 2, ….")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UserError(f"temperature: is {temperature}; give 0 for greedy responses, or a number above.")
    if not 0 < top_p <= 1:
        raise UserError(f"top_p: is {top_p}; give a number above 0 and at most 1, which keeps all tokens.")
    if top_p < 1 and not temperature:
        raise UserError(f"top_p: {top_p} has no effect at temperature 0; set a temperature, or leave top_p out.")


def check_backend(
    backend: str, url: str | None, served: str | None, concurrency: int, device: str, model_args: dict
) -> None:
    """UserError for an unknown backend, one that cannot run here, or what it does not take."""
    if backend not in MODEL_ARGS:
        raise unknown("backend", backend, MODEL_ARGS)
    if odd := [name for name in model_args if name not in MODEL_ARGS[backend]]:
        raise unknown(f"model argument of backend {backend}", odd[0], MODEL_ARGS[backend])
    if backend == "server" and not url:
        raise UserError("backend server: give its address as url, such as http://localhost:8000/v1.")
    if backend != "server" and (url or served or concurrency != 1):
        raise UserError(
            f"backend {backend}: takes no url, served or concurrency; leave them out, or choose the backend server."
        )
    if concurrency < 1:
        raise UserError(f"concurrency: is {concurrency}; give the number of requests at a time, 1 or more.")
    if backend == "transformers" and device.startswith("cuda"):
        devices(device)
    if backend == "vllm" and not find_spec("vllm"):
        raise UserError(
            "backend vllm: the package vllm is not installed; install it on a machine with a GPU, or choose another backend."
        )
    if backend == "vllm" and device == "cpu":
        raise UserError("device: is cpu, and the backend vllm runs on a GPU; give cuda.")


def check_prompt(prompt: str | None, tasks: list[str]) -> None:
    """UserError for an unknown prompt, or a task whose prompt cannot be chosen."""
    if prompt is None:
        return
    if prompt not in PROMPTS:
        raise unknown("prompt", prompt, PROMPTS)
    if fixed := [task for task in tasks if not task.startswith("acm_")]:
        raise UserError(f"task '{fixed[0]}' has its own prompt; choose a prompt for acm_ tasks only.")


def task_rows(
    task: str, samples: list[dict], generated: dict[tuple[str, int, int], Row], reflection: re.Pattern, repeat: int = 0
) -> list[Row]:
    """A record for each sample of a task; where it has several answer filters, the last (most lenient) one counts."""
    last = samples[-1]["filter"]
    rows = []
    for sample in (s for s in samples if s["filter"] == last):
        row = generated[task, sample["doc_id"], repeat]
        text, prompt = str(row["response"]), str(sample["arguments"][0][0])
        rows.append({
            "task": task, "item": sample["doc_id"], "repeat": repeat,
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
