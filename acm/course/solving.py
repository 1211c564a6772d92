"""Asks a loaded model the embedded benchmarks: greedy responses, graded as the benchmarks grade them.

The pipeline asks through lm-evaluation-harness (``acm.evaluate``), and stores everything. A lesson needs less, and runs
where the harness is not installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from abacus import BENCHMARKS, problems
from acm.evaluation.task_files import read_task

Item = dict[str, Any]  # question and gold
CAP = 320  # tokens of a response, as in the profile `tiny`


def items_of(task: str, first: int, end: int, fresh: bool = False) -> list[Item]:
    """Items ``first`` to ``end`` − 1 of a benchmark, such as ``abacus_easy``. fresh: others of its kind, made anew."""
    if fresh:
        return list(problems.fresh(task)[first:end])
    lines = (BENCHMARKS / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[first:end]]


def responses(
    model: Any, tokenizer: Any, asked: Mapping[str, Sequence[Item]], cap: int = CAP, method: str = "model"
) -> pd.DataFrame:
    """One row for each response: method, task, item (its place from 0), correct (0 or 1), length (tokens), truncated.

    model: of transformers, loaded. asked: task → its items. cap: the most tokens of a response. The end token does not
    count.
    """
    rows = [(task, place, item) for task, items in asked.items() for place, item in enumerate(items)]
    prompts = tokenizer([i["question"] for _, _, i in rows], return_tensors="pt", padding=True, padding_side="left")
    with torch.no_grad():
        written = model.generate(**prompts, max_new_tokens=cap, do_sample=False)[:, prompts["input_ids"].shape[1] :]
    ended = (written == tokenizer.eos_token_id).int()
    length = torch.where(ended.any(1), ended.argmax(1), written.shape[1]).tolist()
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    (grading,) = read_task("abacus_easy")["filter_list"]  # that of all embedded tasks
    pattern = grading["filter"][0]["regex_pattern"]
    said = [(re.findall(pattern, text) or [""])[-1].strip() for text in texts]
    found = [
        (method, task, place, float(answer == item["gold"]), tokens, not end)
        for (task, place, item), answer, tokens, end in zip(rows, said, length, ended.any(1).tolist(), strict=True)
    ]
    return pd.DataFrame(found, columns=["method", "task", "item", "correct", "length", "truncated"])
