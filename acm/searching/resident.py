"""A model that stays loaded and takes the weights of one merge after another, without a folder in between.

It is asked by the code of :func:`acm.evaluate`: the same prompts, generation and grading.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from acm.errors import UserError
from acm.evaluation.harness import check_tasks, generation_of, load, task_manager
from acm.evaluation.prompts import CHAT_TEMPLATE
from acm.evaluation.samples import records_of
from acm.evaluation.settings import MAX_TOKENS, Engine, Sampling
from acm.evaluation.task_files import check_grader, check_prompt
from acm.evaluation.tensors import Tensor, put
from acm.merging.engine import merge
from acm.merging.recipe import Recipe

from lm_eval import simple_evaluate  # isort: skip  (after the harness, which says what is missing)
from lm_eval.tasks import get_task_dict  # isort: skip

Rows = Mapping[str, Sequence[int]]  # task → numbers of its items
COLUMNS = ["task", "item", "correct", "length", "truncated"]


@dataclass(frozen=True)
class Items:
    """Items of some tasks: numbers ``first`` to ``end`` − 1 of each."""

    tasks: tuple[str, ...]
    first: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end:
            raise UserError(f"items: {self.first}:{self.end} are none; give first:end, such as 0:60.")

    @property
    def rows(self) -> Rows:
        """Task → numbers of its items."""
        return {task: range(self.first, self.end) for task in self.tasks}


class Resident:
    """A loaded model. Its answers are greedy.

    recipe: any merge of the models; it is merged once, since its folder brings config and tokenizer, and is gone once
    it is loaded. folder: where its relative paths start. ends: task → how many items it must have. prompt, max_tokens,
    engine: as of :func:`acm.evaluate`.
    Raises UserError as ``acm.merge`` and ``acm.evaluate`` do.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, ends: Mapping[str, int], engine: Engine = Engine(),
        max_tokens: int = MAX_TOKENS, prompt: str | None = None,
    ) -> None:  # fmt: skip
        tasks = list(ends)
        check_tasks(tasks)
        check_prompt(prompt, tasks)
        check_grader(tasks)
        engine.check_here()
        if engine.backend != "transformers":
            raise UserError(f"backend: is {engine.backend}; a loaded model can take weights in transformers alone.")
        self.tasks, self.engine, self.prompt = tasks, engine, prompt
        self.sampling, self.generation = Sampling(), generation_of(engine, Sampling(), max_tokens, prompt)
        self.manager = task_manager(tasks, prompt)
        for task, end in ends.items():
            if (count := len(get_task_dict(task, self.manager)[task].eval_docs)) < end:
                raise UserError(f"items: task {task} has {count}, and {end} are asked; ask for items that it has.")
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        with tempfile.TemporaryDirectory() as place:
            merged = merge(recipe, Path(place) / "model", folder, device="cpu")
            self.lm = load(merged, engine, self.sampling, max_tokens, prompt)

    def take(self, tensors: Iterable[Tensor]) -> str:
        """Put the tensors of a merge into the model. Returns a checksum of all, 16 hexadecimal digits.

        UserError where the model has other tensors than the merge.
        """
        return put(self.lm.model, tensors)

    def ask(self, rows: Rows) -> pd.DataFrame:
        """Records of some items: :data:`COLUMNS`, in the order of tasks and items.

        correct is 0 or 1, length in tokens, truncated whether the cap cut the response.
        """
        check_rows(rows)
        self.lm.responses.clear()
        wanted = {task: sorted(items) for task, items in rows.items() if items}
        seed = self.sampling.seed
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # three progress bars for each candidate
                found: dict[str, Any] = simple_evaluate(
                    self.lm, tasks=list(wanted), samples=wanted, task_manager=self.manager, gen_kwargs=self.generation,
                    bootstrap_iters=0, apply_chat_template=self.prompt == CHAT_TEMPLATE, random_seed=seed,
                    numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
                )["samples"]  # fmt: skip
        except AssertionError as error:
            raise UserError(f"items: a task has fewer ({error}); ask for items that it has.") from None
        # Requests are numbered from 0 among the items that are asked; samples have the items' own numbers.
        answers = {(task, wanted[task][k], repeat): value for (task, k, repeat), value in self.lm.responses.items()}
        records = [record for task in wanted for record in records_of(task, found[task], answers)]
        return pd.DataFrame(records)[COLUMNS].sort_values(["task", "item"], ignore_index=True)


def check_rows(rows: Rows) -> None:
    """UserError where nothing is asked, or an item twice."""
    if not any(rows.values()):
        raise UserError("items: none are asked; give at least one item of a task.")
    if twice := [task for task, items in rows.items() if len(set(items)) < len(items)]:
        raise UserError(f"items of {twice[0]}: one comes twice, so it would count twice.")


def check_apart(chooses: Rows, judges: Rows, prompt: str | None) -> None:
    """UserError where an item that judges has the text of one that chooses."""
    tasks = sorted({*chooses, *judges})
    found = get_task_dict(tasks, task_manager(tasks, prompt))

    def texts(rows: Rows) -> dict[str, str]:
        return {
            str(found[task].doc_to_text(doc)): f"item {item} of {task}"
            for task, items in rows.items() for item, doc in enumerate(found[task].eval_docs) if item in items
        }  # fmt: skip

    first, second = texts(chooses), texts(judges)
    if both := [text for text in second if text in first]:
        raise UserError(
            f"items: {second[both[0]]} judges and has the text of {first[both[0]]}, which chooses; give other items."
        )
