"""Loads the word problems of the smol profile for lm-eval."""

import json

import datasets

from acm.errors import UserError
from acm.evaluation.prompts import render
from smol import FOLDER


def load(prompt: str, **_) -> datasets.DatasetDict:
    """The generated items as split ``test``: question, gold, and prompt, the text that the model is given."""
    path = FOLDER / "benchmark.jsonl"
    if not path.is_file():
        raise UserError(f"{path} does not exist; `make smol-models` makes it.")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [
        {"question": row["question"], "gold": row["gold"], "prompt": render(prompt, row["question"])} for row in rows
    ]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})
