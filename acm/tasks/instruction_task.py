"""Loads and grades instructions that a program can check. lm-evaluation-harness calls this for ``acm_ifeval``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acm.evaluation.benchmarks import BENCHMARKS
from acm.evaluation.instructions import follows, load_instructions
from acm.evaluation.prompts import CHAT_TEMPLATE, USUAL_PROMPT, render
from acm.evaluation.task_files import Item, as_dataset

if TYPE_CHECKING:
    from datasets import DatasetDict

SYSTEM = "You are a helpful assistant."  # a request for a box would break what the items ask for


def asked(prompt: str, question: str) -> str:
    """The text that a model is given: the item's own words, without examples, which would contradict them."""
    return question if prompt == CHAT_TEMPLATE else render(prompt, question, SYSTEM, ())


def rows(name: str, prompt: str = USUAL_PROMPT, **_: object) -> list[Item]:
    """The items: question, what grading needs, and prompt, the text that a model is given."""
    return [item | {"prompt": asked(prompt, item["question"])} for item in load_instructions(name)]


def count(name: str, **_: object) -> int:
    """The number of items, without reading them."""
    return BENCHMARKS[name].items


def load(**arguments: Any) -> DatasetDict:
    """The items for lm-evaluation-harness."""
    return as_dataset(rows(**arguments))


def gold(doc: Item) -> str:
    """The names of the instructions; there is no reference answer."""
    return ", ".join(doc["instructions"])


def process_results(doc: Item, results: list[str]) -> dict[str, float]:
    """Whether the one response follows all instructions of its item."""
    return {"correct": float(follows(doc, results[0]))}
