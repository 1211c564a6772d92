"""What lm-eval calls for the mathematics benchmarks: items, reference answer, grades."""

import datasets

from acm.evaluation.benchmarks import load_benchmark
from acm.evaluation.grading import grade
from acm.evaluation.prompts import render


def load(name: str, prompt: str, **_) -> datasets.DatasetDict:
    """A benchmark's items as split ``test``: question, gold, and prompt, the text that the model is given."""
    rows = [item | {"prompt": render(prompt, item["question"])} for item in load_benchmark(name)]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})


def gold(doc: dict) -> str:
    """As it stands: through a template, lm-eval would read ``[1,2]`` as a list."""
    return doc["gold"]


def process_results(doc: dict, results: list[str]) -> dict[str, float]:
    """Both grades of the one response."""
    found = grade(results[0], doc["gold"])
    return {"correct": float(found.correct), "correct_string": float(found.correct_string)}
