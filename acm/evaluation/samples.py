"""Turns the samples of lm-evaluation-harness into our records, one record for each response.

A sample is what lm-evaluation-harness returns for one item: the document, the prompt, and the grade of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acm.evaluation.grading import extract
from acm.evaluation.reflections import pattern_of
from acm.evaluation.thinking import after_thinking, opened

Sample = Mapping[str, Any]
Record = dict[str, Any]


def records_of(
    task: str, samples: list[Sample], responses: Mapping[tuple[str, int, int], Any], repeat: int = 0
) -> list[Record]:
    """A record for each sample of a task. Of several answer filters the last one counts, the most lenient.

    responses: (task, item, repeat) → response, its length in tokens, and whether the cap cut it.
    """
    reflection = pattern_of(task)
    last = samples[-1]["filter"]
    records = []
    for sample in (s for s in samples if s["filter"] == last):
        generated = responses[task, sample["doc_id"], repeat]
        text, prompt = str(generated["response"]), str(sample["arguments"][0][0])
        records.append({
            "task": task, "item": sample["doc_id"], "repeat": repeat,
            "correct": float(sample[sample["metrics"][0]]), "answer": str(sample["filtered_resps"][0]),
            "gold": str(sample["target"]), **generated, "reflections": len(reflection.findall(text)),
            "thinking_closed": after_thinking(opened(prompt) + text)[1],
            "steps": sample["doc"].get("steps"), "question": prompt, **mathematics(sample),
        })  # fmt: skip
    return records


def mathematics(sample: Sample) -> Record:
    """What only a record of our mathematics tasks has: the second grade, the answer, and where it stood."""
    if "correct_string" not in sample["metrics"]:
        return {}
    answer, source = extract(sample["filtered_resps"][0])
    return {"correct_string": float(sample["correct_string"]), "answer": answer, "answer_from": source}
