"""Reads our tasks: their YAML files in ``acm/tasks``, and their items, which a loader beside the file supplies.

A task is one YAML file of lm-evaluation-harness. The file has the name of the task. The key ``custom_dataset`` names a
function of a Python file in the same folder, the loader. A loader has these functions:

    load(**arguments)          the items as a data set, for lm-evaluation-harness
    rows(**arguments)          the same items, one dictionary each; UserError where the data cannot be had
    count(**arguments)         how many items there are
    asked(prompt, question)    the text that a model is given; only where a task lets one choose its prompt

``arguments`` are the YAML's ``metadata`` and ``dataset_kwargs`` together. Nothing heavy is imported here, nor by a
loader before ``load`` or ``rows`` is called. So the plan of a run takes a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import yaml

from acm.errors import UserError, unknown
from acm.evaluation.prompts import PROMPTS
from acm.paths import TASKS

if TYPE_CHECKING:
    from datasets import DatasetDict

SENTENCES = "punkt_tab"  # nltk's data, by which IFEval's checks count sentences
Item = dict[str, Any]  # one item of a task: the question, the gold, and what grading needs


class Plain(yaml.SafeLoader):
    """Reads ``!function module.name`` as the text after it. Nothing is called."""


Plain.add_constructor("!function", lambda _, node: node.value)


def tasks_folder() -> Path:
    """The folder of our tasks."""
    return TASKS


def our_tasks() -> list[str]:
    """The names of our tasks. Files whose names start with ``_`` are shared parts, not tasks."""
    return sorted(path.stem for path in TASKS.glob("*.yaml") if not path.name.startswith("_"))


def is_ours(task: str) -> bool:
    """Whether a task is one of ours. All others are those of lm-evaluation-harness."""
    path = TASKS / f"{task}.yaml"
    return path.parent == TASKS and path.is_file() and not task.startswith("_")


def read_task(task: str) -> dict[str, Any]:
    """What the YAML file of one of our tasks says, with what it includes. Empty for other tasks."""
    return read_file(TASKS / f"{task}.yaml") if is_ours(task) else {}


def read_file(path: Path) -> dict[str, Any]:
    """A YAML file, laid over those that it includes."""
    own = dict(parse(path, path.stat().st_mtime_ns))
    included = own.pop("include", [])
    content: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        content |= read_file(path.parent / name)
    return content | own


@cache
def parse(path: Path, changed: int) -> dict[str, Any]:
    """A YAML file, read again only once it has changed. changed: when it was written, nanoseconds."""
    content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=Plain)  # a safe loader
    return content


def arguments_of(task: str) -> dict[str, Any]:
    """What lm-evaluation-harness gives to the loader of one of our tasks."""
    content = read_task(task)
    return (content.get("metadata") or {}) | (content.get("dataset_kwargs") or {})


def loader_of(task: str) -> ModuleType | None:
    """The Python file that loads the items of one of our tasks. None for other tasks."""
    module = str(read_task(task).get("custom_dataset", "")).rpartition(".")[0]
    path = TASKS / f"{module}.py"
    return run_file(path, path.stat().st_mtime_ns) if path.is_file() else None


@cache
def run_file(path: Path, changed: int) -> ModuleType | None:
    """A Python file as a module, run again only once it has changed. changed: when it was written, nanoseconds."""
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        return None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_items(task: str) -> list[Item]:
    """The items of one of our tasks. Empty for other tasks; UserError where the data cannot be had."""
    rows = getattr(loader_of(task), "rows", None)
    return rows(**arguments_of(task)) if rows else []


def count_items(task: str) -> int | None:
    """How many items one of our tasks has. None for other tasks."""
    count = getattr(loader_of(task), "count", None)
    return count(**arguments_of(task)) if count else None


def asking(task: str) -> Callable[[str, str], str] | None:
    """The function from prompt and question to the text that a model is given. None where no prompt can be chosen.

    A prompt can be chosen for tasks of ours whose loader has ``asked``.
    """
    return getattr(loader_of(task), "asked", None)


def check_prompt(prompt: str | None, tasks: Iterable[str]) -> None:
    """UserError for an unknown prompt, and for a task whose prompt cannot be chosen. None chooses no prompt."""
    if prompt is None:
        return
    if prompt not in PROMPTS:
        raise unknown("prompt", prompt, PROMPTS)
    if fixed := [task for task in tasks if not asking(task)]:
        raise UserError(f"task '{fixed[0]}' has its own prompt; choose a prompt only for tasks that take one.")


def check_grader(tasks: Iterable[str]) -> None:
    """UserError for a task whose grader is not here: responses take hours, then fail."""
    for task in tasks:
        grader = str(read_task(task).get("process_results", "")).partition(".")[0]
        if grader == "math_task" and not find_spec("math_verify"):
            raise UserError(f"task '{task}' is graded by math-verify; install it with pip install 'lm-eval[math]'.")
        if grader == "instruction_task":
            check_checks(task)


def check_checks(task: str) -> None:
    """UserError where lm-eval's checks of instructions cannot run: without a package, or without nltk's sentences."""
    if lacking := [name for name in ("langdetect", "immutabledict", "nltk") if not find_spec(name)]:
        raise UserError(
            f"task '{task}' is graded by lm-eval's checks, which need {lacking[0]}; pip install 'lm-eval[ifeval]'."
        )
    import nltk

    try:
        nltk.data.find(f"tokenizers/{SENTENCES}")
    except LookupError:
        raise UserError(
            f"task '{task}' counts sentences by nltk's {SENTENCES}, which is not here; where there is network: "
            f"python -m nltk.downloader {SENTENCES}."
        ) from None


def as_dataset(rows: list[Item]) -> DatasetDict:
    """Items as the data set that lm-evaluation-harness expects: one split, ``test``."""
    import datasets  # takes seconds

    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})
