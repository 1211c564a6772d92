"""What lm-eval calls for the code benchmarks: items, reference answer, grade."""

import datasets

from acm.evaluation.code_benchmarks import grade_code, load_code_benchmark
from acm.evaluation.prompts import CODE_EXAMPLES, CODE_SYSTEM, render


def load(name: str, prompt: str, release: str, **_) -> datasets.DatasetDict:
    """A benchmark's items as split ``test``: question, gold, prompt, and what grading needs."""
    items = load_code_benchmark(name, release)
    rows = [item | {"prompt": render(prompt, str(item["question"]), CODE_SYSTEM, CODE_EXAMPLES)} for item in items]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})


def gold(doc: dict) -> str:
    """A solution; empty where the benchmark has none."""
    return doc["gold"]


def process_results(doc: dict, results: list[str]) -> dict[str, float]:
    """Whether the one response's program passes all tests."""
    return {"correct": float(grade_code(doc, results[0]).passed)}
