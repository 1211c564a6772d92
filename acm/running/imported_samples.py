"""Reads the lines of lm-evaluation-harness's logs: one sample each, with what a record needs, of the right type."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acm.errors import UserError, os_reason, shown
from acm.reading import parse_json

NEEDED = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics")  # keys of a sample
KEPT = ("doc_id", "doc", "target", "filtered_resps", "filter", "metrics")  # in memory; logs may be many gigabytes
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LoggedSample:
    """One line of a log. place: file and line. asked: the text that the model was given. text: its response.

    arguments: the settings of generation. content: what a record needs of the line.
    """

    place: str
    item: int
    asked: str
    arguments: dict[str, Any]
    text: str
    filter: str
    metrics: list[str]
    content: dict[str, Any]

    def grade(self, metric: str) -> float:
        """The value of a metric, 0 to 1. UserError for what is none."""
        value = self.content.get(metric)
        if not isinstance(value, (bool, int, float)) or not 0 <= value <= 1:
            raise UserError(f"{self.place} has no number for its metric {metric} from 0 to 1, but {shown(value)}.")
        return float(value)

    def sample(self, metric: str) -> dict[str, Any]:
        """As :func:`acm.evaluation.samples.records_of` takes it, graded by this metric."""
        if "correct_string" in self.metrics:
            self.grade("correct_string")
        steps = self.content["doc"].get("steps")
        return self.content | {
            "arguments": [(self.asked, self.arguments)],
            "metrics": [metric, *(name for name in self.metrics if name != metric)],
            metric: self.grade(metric),
            "doc": {"steps": steps if whole_number(steps) else None},
        }


def samples_in(path: Path) -> Iterator[LoggedSample]:
    """The samples of a log, line by line. UserError that names the line of what is wrong."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield parsed(line, f"{path}, line {number}")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {os_reason(error)}.") from None


def parsed(line: bytes, place: str) -> LoggedSample:
    """One sample. UserError where a field is missing or of another type."""
    content = decoded(line, place)
    if not isinstance(content, dict):
        raise UserError(f"{place} lacks everything; is it a log of lm-eval?")
    if missing := [key for key in NEEDED if key not in content]:
        raise UserError(f"{place} lacks {missing[0]}; is it a log of lm-eval?")
    check_types(content, place)
    asked, arguments = request_of(content["arguments"], place)
    check_digests(content, place)
    text, kept = response_of(content["resps"], place), {*KEPT, *content["metrics"]}
    content = {key: value for key, value in content.items() if key in kept}
    content["doc"] = {key: value for key, value in content["doc"].items() if key in ("question", "steps")}
    return LoggedSample(
        place, content["doc_id"], asked, arguments, text, content["filter"], content["metrics"], content
    )


def decoded(line: bytes, place: str) -> Any:
    """The JSON of a line. UserError for what is none, and for text that cannot be stored."""
    try:
        return parse_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{place} is not UTF-8; copy the log again.") from None
    except ValueError as error:
        cut = "" if line.endswith(b"\n") else ", and the file ends within the line"
        raise UserError(f"{place} is not JSON ({error!s:.200}){cut}; copy the log again.") from None


def check_types(content: dict[str, Any], place: str) -> None:
    """UserError where a field is not of its type."""
    texts = content["filtered_resps"]
    tests = {
        "doc_id": (whole_number(content["doc_id"]), "a whole number"),
        "doc": (isinstance(content["doc"], dict), "an object"),
        "target": (isinstance(content["target"], (str, int, float)) and content["target"] is not None, "a text"),
        "filter": (isinstance(content["filter"], str), "a text"),
        "metrics": (names(content["metrics"]), "a list of names"),
        "filtered_resps": (isinstance(texts, list) and texts and isinstance(texts[0], str), "a list of texts"),
    }
    if bad := [key for key, (right, _) in tests.items() if not right]:
        raise UserError(f"{place}: {bad[0]} is {shown(content[bad[0]])}, not {tests[bad[0]][1]}.")


def whole_number(value: object) -> bool:
    """Whether a value numbers an item."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def names(value: object) -> bool:
    """Whether a value is a list of names, at least one."""
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def response_of(value: object, place: str) -> str:
    """The one response to the item. UserError for none, several, and what is no text."""
    texts = value[0] if isinstance(value, list) and len(value) == 1 else None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{place} holds no generated text; only generating tasks have a length.")
    if len(texts) != 1:
        raise UserError(
            f"{place} has {len(texts)} responses, of which the harness graded the first alone; set `repeats: 1` in "
            "the task's YAML, run it once for each repeat with another --seed, and import all logs together."
        )
    return str(texts[0])


def request_of(value: object, place: str) -> tuple[str, dict[str, Any]]:
    """The text that the model was given, and the settings of generation."""
    request = value.get("gen_args_0") if isinstance(value, dict) else None
    if not isinstance(request, dict) or "arg_0" not in request:
        raise UserError(f"{place} has no prompt (arguments.gen_args_0.arg_0); is it a log of lm-eval 0.4.5 or later?")
    arguments = request.get("arg_1")
    if arguments is not None and not isinstance(arguments, dict):
        raise UserError(f"{place}: the settings of generation (arguments.gen_args_0.arg_1) are {shown(arguments)}.")
    return asked_text(request["arg_0"], place), arguments or {}


def asked_text(value: object, place: str) -> str:
    """A prompt as one text. A chat server's is a list of one JSON text, the turns; of these each gets its role."""
    if isinstance(value, str):
        return value
    try:
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in json.loads(value[0]))  # type: ignore[index]
    except (TypeError, ValueError, KeyError, IndexError, RecursionError):
        raise UserError(f"{place}: the prompt (arguments.gen_args_0.arg_0) is {shown(value)}, not a text.") from None


def check_digests(content: dict[str, Any], place: str) -> None:
    """UserError where prompt or reference answer are not those whose hashes the harness wrote beside them."""
    asked = content["arguments"]["gen_args_0"]["arg_0"]
    texts = {"prompt_hash": asked if isinstance(asked, str) else asked[0], "target_hash": content["target"]}
    for key, text in texts.items():
        stated = content.get(key)
        known = isinstance(stated, str) and DIGEST.fullmatch(stated) and isinstance(text, str)
        if known and hashlib.sha256(text.encode()).hexdigest() != stated:
            raise UserError(f"{place}: {key} is of another text than the line holds; copy the log again.")
