"""One arm of a search: a sampler asks, a loaded model answers, and a journal keeps every candidate.

The journal is Optuna's. A killed arm goes on with the candidate that it was at, and finds what it would have found
without the kill. Several processes may work on one arm; then the order of the candidates is chance.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from tqdm import tqdm

from acm.errors import UserError
from acm.merging.tensors import merged_tensors, planned
from acm.searching.objective import Objective
from acm.searching.resident import Resident, Rows
from acm.searching.samplers import Numbered
from acm.searching.spaces import Space

JOURNAL = "journal.log"
FIRST = 3  # a third of the items is asked first; a candidate that cannot win any more is not asked the rest
LEAST = 10  # items of each task that are asked first; fewer tell nothing, and nothing is stopped


@dataclass
class Arm:
    """A search by one sampler in one space.

    folder: of the journal. key: what decides the result beside the arm's own settings. rows: the validation items.
    home: where the recipe's relative paths start. candidates: how many. racing: whether hopeless ones are stopped.
    """

    name: str
    space: Space
    sampler: str
    objective: Objective
    rows: Rows
    seed: int
    folder: Path
    home: Path
    key: dict[str, Any]
    candidates: int
    racing: bool = True

    def run(self, model: Resident) -> None:
        """Ask until there are as many candidates."""
        with joined(self.folder) as (alone, share):
            study = self.study(alone)
            left = [t.number for t in study.get_trials(deepcopy=False) if alone and t.state == TrialState.RUNNING]
            share()
            done = len(self.told(study))
            with tqdm(total=self.candidates, initial=done, desc=self.name, unit="candidate", mininterval=5) as bar:
                while trial := self.next(study, left):
                    self.tell(study, trial, model)
                    bar.update()
                    bar.set_postfix_str(self.leader(study), refresh=False)

    def study(self, alone: bool) -> optuna.Study:
        """The arm's study, made or continued. UserError where the journal is of another search."""
        if alone:
            mend(self.folder / JOURNAL)
        try:
            storage = JournalStorage(JournalFileBackend(str(self.folder / JOURNAL)))
        except ValueError:
            raise UserError(f"{self.folder / JOURNAL} is damaged; remove {self.folder} and search anew.") from None
        directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: 2 if self.objective.target is None else 1]
        study = optuna.create_study(
            storage=storage, study_name=self.name, directions=directions, load_if_exists=True,
            sampler=Numbered(self.sampler, self.space, self.seed),
        )  # fmt: skip
        known, key = study.user_attrs.get("key"), json.loads(json.dumps(self.settings))
        if known is None:
            study.set_user_attr("key", key)
        elif odd := [name for name in key if known.get(name) != key[name]]:
            raise UserError(
                f"{self.folder} holds another search (another {', '.join(odd)}); name another folder, or remove it."
            )
        return study

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the candidates and their values."""
        space = {name: getattr(self.space, name) for name in ("genome", "low", "high", "group", "terms")}
        own = {"sampler": self.sampler, "target": self.objective.target, "seed": self.seed,
               "also": dict(self.space.also),
               "items": {task: list(items) for task, items in self.rows.items()}}  # fmt: skip
        raced = {"price": self.objective.price, "racing": self.racing} if self.objective.target is not None else {}
        return self.key | space | own | raced

    def next(self, study: optuna.Study, left: list[int]) -> Trial | None:
        """The next candidate. None where there are enough. left: those that a killed process began; they go first."""
        trials = study.get_trials(deepcopy=False)
        if not left and counted(trials) >= self.candidates:
            return None
        trial = Trial(study, trials[left.pop(0)]._trial_id) if left else study.ask()
        if counted(study.get_trials(deepcopy=False)[: trial.number]) >= self.candidates:  # another process was quicker
            study.tell(trial, state=TrialState.FAIL)
            return None
        for gene, (low, high) in self.space.genes.items():
            trial.suggest_float(gene, low, high)
        return trial

    def tell(self, study: optuna.Study, trial: Trial, model: Resident) -> None:
        """Merge and ask a candidate, and put what came out into the journal."""
        began = time.monotonic()
        recipe = self.space.recipe(trial.params)
        weights = model.take(merged_tensors(planned(recipe, self.home), device="cpu"))
        best = self.best(study)
        part = {task: list(items)[::FIRST] for task, items in self.rows.items()}
        rest = {task: [item for item in items if item not in part[task]] for task, items in self.rows.items()}
        racing = self.racing and best is not None and self.objective.target is not None
        racing = racing and all(len(items) >= LEAST for items in part.values())
        records = model.ask(part if racing else self.rows)
        stopped = bool(racing and best is not None and self.objective.hopeless(records, records_in(best)))
        if racing and not stopped:
            records = pd.concat([records, model.ask(rest)]).sort_values(["task", "item"], ignore_index=True)
        accuracy, tokens, value = self.objective.of(records)
        if stopped and best is not None:  # what it would have had, by its difference on the same items
            known = records_in(best).merge(records[["task", "item"]])
            value += best.values[0] - self.objective.of(known)[2]
        said = {"accuracy": accuracy, "tokens": tokens, "stopped": stopped, "weights": weights,
                "seconds": round(time.monotonic() - began, 2), "records": slim(records)}  # fmt: skip
        for name, found in said.items():
            trial.set_user_attr(name, found)
        study.tell(trial, [accuracy, tokens] if self.objective.target is None else value)

    def told(self, study: optuna.Study) -> list[FrozenTrial]:
        """The finished candidates, in their order."""
        return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    def best(self, study: optuna.Study) -> FrozenTrial | None:
        """The candidate of the highest value among those that were asked all items; the first of equals."""
        whole = [trial for trial in self.told(study) if not trial.user_attrs["stopped"]]
        return max(whole, key=lambda trial: (trial.values[0], -trial.number), default=None)

    def leader(self, study: optuna.Study) -> str:
        """The best candidate so far, in words."""
        found = self.best(study)
        return "" if found is None else "best {accuracy:.1f} % at {tokens:.1f} tokens".format(**found.user_attrs)

    def table(self) -> pd.DataFrame:
        """One row for each candidate, in their order.

        arm, candidate (its number), the genes; asked: items; accuracy (percent) and tokens of these; value; stopped:
        whether it was left after a part of the items, then value is an estimate; seconds; weights: checksum of the
        merge; records: JSON, task → items, grades (0 or 1) and lengths (tokens).
        """
        rows = []
        for trial in self.told(self.study(alone=False))[: self.candidates]:
            known = dict(trial.user_attrs)
            records = known.pop("records")
            asked = sum(len(part["item"]) for part in records.values())
            rows.append({"arm": self.name, "candidate": trial.number, **trial.params, "asked": asked, **known,
                         "value": trial.values[0], "records": json.dumps(records)})  # fmt: skip
        return pd.DataFrame(rows)


def counted(trials: list[FrozenTrial]) -> int:
    """How many candidates are told or in work; not those that came too late."""
    return sum(trial.state in (TrialState.COMPLETE, TrialState.RUNNING) for trial in trials)


def slim(records: pd.DataFrame) -> dict[str, Any]:
    """Records as JSON: task → items, grades and lengths."""
    return {
        str(task): {"item": part["item"].tolist(), "correct": part["correct"].astype(int).tolist(),
                    "length": part["length"].tolist()}
        for task, part in records.groupby("task")
    }  # fmt: skip


def wide(said: dict[str, Any]) -> pd.DataFrame:
    """The records of :func:`slim` as a table: task, item, correct, length."""
    return pd.concat([pd.DataFrame(part).assign(task=task) for task, part in said.items()], ignore_index=True)


def records_in(trial: FrozenTrial) -> pd.DataFrame:
    """The records of a finished candidate."""
    return wide(trial.user_attrs["records"])


@contextlib.contextmanager
def joined(folder: Path) -> Iterator[tuple[bool, Callable[[], None]]]:
    """Join those that work in a folder, which is made.

    Yields whether nobody else is there, and what lets others in; until then they wait.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows, where nothing is held
        yield True, lambda: None
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        alone = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            alone = False
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield alone, lambda: fcntl.flock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def mend(journal: Path) -> None:
    """Cut off the line that a kill or a full disk left half written."""
    if not journal.is_file():
        return
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with journal.open("r+b") as file:
            file.truncate(whole)
