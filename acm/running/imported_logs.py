"""Turns logs of lm-evaluation-harness into records.

A log is a file ``samples_<task>_<date>.jsonl``, with one sample on each line. It has no token counts and names no
method. Lengths are counted again from the text. What the log states of its settings must be the profile's; what
neither it nor the results file beside it states, the user says.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from acm.errors import UserError, listed, unknown
from acm.evaluation.samples import Record, records_of
from acm.evaluation.task_files import is_ours, read_task
from acm.profiles import Profile
from acm.running.imported_given import Given, chosen
from acm.running.imported_results import LOG, Facts, check_facts, check_mean, check_number, facts_of
from acm.running.imported_samples import LoggedSample, samples_in
from acm.running.imported_settings import (
    check_generation,
    check_own_settings,
    check_prompted,
    check_stops,
    own_settings,
)

LOG_ENGINE = "lm-eval's log"  # the engine that the setting of such records names
# The number of tokens of text that is tokenized again may differ from the number generated, up to this factor. So a
# response of at least this fraction of the cap counts as cut by the cap.
RETOKENIZED = 0.99
NOTED = ("model", "model_args", "batch_size", "device", "random_seed", "torch_seed")  # of the results, in the setting


def log_records(
    profile: Profile, experiment: str, paths: list[Path], method: str | None, tokenizer: Path | None, given: Given
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Records of one method from its logs, and the numbers of items that their results state.

    Several logs of a task are its repeats, in the order of their names. tokenizer: the model's folder. Lengths are
    tokens of the text tokenized again, without stop string and end token. Raises UserError for a log that does not fit
    the profile.
    """
    if method is None or tokenizer is None:
        raise UserError(
            "lm-eval's logs name no method and hold no token counts: "
            "give --method NAME and --tokenizer, the model's folder."
        )
    wanted, tasks = profile.evaluation(experiment, method), profile.experiment(experiment).tasks
    by_task = by_tasks(paths, experiment, tasks, profile.experiment(experiment).repeats)
    count, reader = token_counter(tokenizer), Reader(wanted, given, own_settings(tokenizer))
    records: list[Record] = []
    for task, logs in by_task.items():
        repeats = [reader.read(path, task, count) for path in logs]
        check_apart(repeats, logs, wanted["sampling"].temperature)
        records += [record | {"repeat": k} for k, found in enumerate(repeats) for record in found]
    reader.check_choices()
    check_model(method, list(profile.experiment(experiment).parents), reader.facts)
    frame = pd.DataFrame(records).assign(
        profile=profile.name, experiment=experiment, model=method, method=method,
        setting=json.dumps(reader.setting(method, tokenizer)),
    )  # fmt: skip
    return frame, reader.items


def by_tasks(paths: list[Path], experiment: str, tasks: list[str], repeats: int) -> dict[str, list[Path]]:
    """Task → its logs by name. UserError for a task that is not the profile's, and for more logs than repeats."""
    names = {path: task_of(path) for path in paths}
    if odd := [path for path, task in names.items() if task not in tasks]:
        raise UserError(f"{odd[0]}: {unknown(f'task of {experiment}', names[odd[0]], tasks)}")
    seen: dict[bytes, Path] = {}
    for path in paths:
        if (twin := seen.setdefault(digest_of(path), path)) != path or paths.count(path) > 1:
            raise UserError(
                f"{path} and {twin} are the same log or copies of one, so they are no repeats; name each log once."
            )
    by_task = {task: sorted((p for p in paths if names[p] == task), key=lambda p: p.name) for task in tasks}
    for task, logs in by_task.items():
        if len(logs) > repeats:
            raise UserError(
                f"{task} has {len(logs)} logs ({listed(logs)}), and the profile asks for "
                f"{repeats}; name those that count, one by one."
            )
    return {task: logs for task, logs in by_task.items() if logs}


def task_of(path: Path) -> str:
    """The task that a log's name says."""
    found = LOG.fullmatch(path.name)
    return found["task"] if found else ""


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def token_counter(folder: Path) -> Callable[[str], int]:
    """A function from a text to its number of tokens. UserError where the folder holds no tokenizer."""
    from transformers import AutoTokenizer  # takes seconds

    if not folder.is_dir():
        raise UserError(f"tokenizer folder {folder} does not exist; name the folder of the model that answered.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever the files raise
        raise UserError(
            f"no tokenizer in {folder} ({type(error).__name__}); name the folder of the model that answered."
        ) from None
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def check_model(method: str, parents: list[str], facts: Facts) -> None:
    """UserError where results name one of the profile's models, and the log is to be another's."""
    arguments = facts.model_args
    model = Path(str(arguments.get("pretrained") or arguments.get("model") or "")).name
    if model in parents and model != method and not {"peft", "delta"} & arguments.keys():
        raise UserError(f"{facts.name} is of the model {model}, and --method says {method}; say --method {model}.")


class Reader:
    """Reads the logs of one method, which share a setting.

    wanted: how the profile evaluates. own: the model's own settings of generation. items: task → how many it has,
    where results state it.
    """

    def __init__(self, wanted: dict[str, Any], given: Given, own: dict[str, Any]) -> None:
        self.wanted, self.given, self.own = wanted, given, own
        self.items: dict[str, int] = {}
        self.chosen: dict[str, dict[str, str]] = {}
        self.facts = Facts()  # of the first log that has results
        self.models: dict[str, str] = {}  # arguments of the model class → the first results file that states them

    def read(self, path: Path, task: str, count: Callable[[str], int]) -> list[Record]:
        """The records of one log. UserError for what is wrong in it, with the line."""
        facts, cap = facts_of(path), self.wanted["max_tokens"]
        check_facts(path, facts, self.wanted["engine"].dtype)
        if facts.content:
            self.facts = self.facts if self.facts.content else facts
            own = {key: value for key, value in facts.model_args.items() if key != "seed"}
            self.models.setdefault(json.dumps(own, sort_keys=True), facts.name)
        if (items := facts.items(task)) is not None:
            self.items[task] = items
        samples = self.counted(list(samples_in(path)), path, task, facts)
        metric, name = self.chosen[task]["metric"], self.chosen[task]["filter"]
        responses = {}
        for sample in samples:
            length = count(sample.text)
            if length > cap / RETOKENIZED:
                raise UserError(
                    f"{sample.place}: the response has {length} tokens, more than the cap of {cap}; "
                    "is it another model's tokenizer?"
                )
            cut = length >= RETOKENIZED * cap
            responses[task, sample.item, 0] = {"response": sample.text, "length": min(length, cap), "truncated": cut}
        grades = [sample.grade(metric) for sample in samples]
        check_number(path, facts, task, len(grades))
        if not (self.given.recompute and is_ours(task)):  # whose grades are replaced
            check_mean(path, facts, task, sum(grades) / len(grades), f"{metric},{name}")
        return records_of(task, [sample.sample(metric) for sample in samples], responses)

    def counted(self, samples: list[LoggedSample], path: Path, task: str, facts: Facts) -> list[LoggedSample]:
        """The samples of the filter that counts, once all were found to be of the profile's setting."""
        if not samples:
            raise UserError(f"{path} holds no sample.")
        for sample in samples:
            check_generation(sample.arguments, facts, self.given, self.wanted, sample.place)
            check_own_settings(sample.arguments, self.own, facts, sample.place)
            question = sample.content["doc"].get("question")
            check_prompted(task, question, sample.asked, self.wanted, facts, self.given, sample.place)
            check_stops(sample.arguments, self.wanted["prompt"], task, sample.place)
        name = chosen("filter", (sample.filter for sample in samples), self.given.filters, str(path))
        samples = [sample for sample in samples if sample.filter == name]
        if is_ours(task):  # whose first metric is the grade
            metric = read_task(task)["metric_list"][0]["metric"]
        else:
            names = itertools.chain.from_iterable(sample.metrics for sample in samples)
            metric = chosen("metric", names, self.given.metrics, str(path))
        self.chosen[task] = {"metric": metric, "filter": name}
        return samples

    def check_choices(self) -> None:
        """UserError for a metric or filter that the user named and no log has, and for logs of different models."""
        for kind, given in (("metric", self.given.metrics), ("filter", self.given.filters)):
            used = {one[kind] for one in self.chosen.values()}
            if odd := [name for name in given if name not in used]:
                raise UserError(f"--{kind} {odd[0]}: no log is graded by it; they have {listed(sorted(used))}.")
        if len(self.models) > 1:
            one, other, *_ = self.models.values()
            raise UserError(f"{one} and {other} state different model_args; import logs of one model at a time.")

    def setting(self, method: str, tokenizer: Path) -> dict[str, Any]:
        """The setting of the records: what is known of it, what the user said, and how lengths were counted."""
        sampling, config = self.wanted["sampling"], self.facts.part("config")
        return {
            "engine": LOG_ENGINE, "max_tokens": self.wanted["max_tokens"], "temperature": sampling.temperature,
            "top_p": sampling.top_p, "model": method, "lengths": f"text tokenized again by {tokenizer.name}",
            "graded_by": self.chosen, "shots": self.facts.part("n-shot"), "given": self.given.stated(),
            "results": {name: config[name] for name in NOTED if name in config},
        }  # fmt: skip


def check_apart(repeats: list[list[Record]], logs: list[Path], temperature: float) -> None:
    """UserError where two repeats that were drawn at random have the same responses: one is a copy."""
    texts = [{record["item"]: record["response"] for record in found} for found in repeats]
    for one, other in itertools.combinations(range(len(texts)), 2):
        if temperature and texts[one] == texts[other]:
            raise UserError(
                f"{logs[one]} and {logs[other]} hold the same responses, so they are copies of one and no repeats; "
                "name logs of runs with different seeds."
            )
