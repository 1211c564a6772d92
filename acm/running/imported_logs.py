"""Turns logs of lm-evaluation-harness into records.

A log is a file ``samples_<task>_<date>.jsonl``, with one sample on each line. It has no token counts and names no
method. Lengths are counted again from the text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from acm.errors import UserError, unknown
from acm.evaluation.prompts import CHAT_TEMPLATE, FEW_SHOT, FEW_SHOT_STOPS, USUAL_PROMPT
from acm.evaluation.samples import Record, Sample, records_of
from acm.evaluation.settings import Sampling
from acm.evaluation.task_files import asking
from acm.profiles import Profile

LOG = re.compile(r"samples_(?P<task>.+?)(?:_\d{4}-\d\d-\d\dT[\d.:-]+)?\.jsonl")
LOG_ENGINE = "lm-eval's log"  # the engine that the setting of such records names
# The number of tokens of text that is tokenized again may differ from the number generated, up to this factor. So a
# response of at least this fraction of the cap counts as cut by the cap.
RETOKENIZED = 0.99
NEEDED = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics")  # keys of a sample


def log_records(
    profile: Profile, experiment: str, paths: list[Path], method: str | None, tokenizer: Path | None
) -> pd.DataFrame:
    """Records of one method from its logs. Several logs of a task are its repeats, in the order of their names.

    tokenizer: the model's folder. Lengths are tokens of the text tokenized again, without stop string and end token.
    Raises UserError for a log that does not fit the profile.
    """
    if method is None or tokenizer is None:
        raise UserError(
            "lm-eval's logs name no method and hold no token counts: "
            "give --method NAME and --tokenizer, the model's folder."
        )
    if len({hashlib.sha256(path.read_bytes()).digest() for path in paths}) < len(paths):
        raise UserError(
            f"two of the logs for {method} are the same file or copies of one, so they are no repeats; "
            "name each log once."
        )
    count, tasks = token_counter(tokenizer), profile.experiment(experiment).tasks
    wanted = profile.evaluation(experiment, method)
    records: list[Record] = []
    repeats: Counter[str] = Counter()
    for path in sorted(paths, key=lambda path: path.name):
        task = task_of(path)
        if task not in tasks:
            raise UserError(f"{path}: {unknown(f'task of {experiment}', task, tasks)}")
        check_thinking_kept(path)
        records += [record | {"repeat": repeats[task]} for record in read_log(path, task, count, wanted)]
        repeats[task] += 1
    sampling, setting = wanted["sampling"], {"engine": LOG_ENGINE, "max_tokens": wanted["max_tokens"]}
    setting |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "model": method}
    setting |= {"lengths": f"text tokenized again by {tokenizer.name}"}
    return pd.DataFrame(records).assign(
        profile=profile.name, experiment=experiment, model=method, method=method, setting=json.dumps(setting)
    )


def task_of(path: Path) -> str:
    """The task that a log's name says."""
    found = LOG.fullmatch(path.name)
    return found["task"] if found else ""


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


def check_thinking_kept(path: Path) -> None:
    """UserError where the results beside a log say that the harness cut the thinking away.

    No length could count such thinking.
    """
    for results in sorted(path.parent.glob("results_*.json")):
        try:
            config = json.loads(results.read_text(encoding="utf-8")).get("config") or {}
        except (ValueError, AttributeError):
            raise UserError(f"{results} is not readable JSON; copy it again.") from None
        arguments = config.get("model_args") or {}
        if isinstance(arguments, dict):
            used = arguments.get("think_end_token")
        else:
            used = re.search(r"think_end_token=([^,]+)", str(arguments))
        if used:
            raise UserError(
                f"{path} was made with think_end_token ({results.name}), so the thinking is lost; evaluate without it."
            )


def read_log(path: Path, task: str, count: Callable[[str], int], wanted: dict[str, Any]) -> list[Record]:
    """The records of one log. UserError that names the line of what is wrong. wanted: how the profile evaluates."""
    samples: list[Sample] = []
    responses, cap = {}, wanted["max_tokens"]
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            place = f"{path}, line {number}"
            sample = parsed(line, place)
            (text,), given = sample["resps"][0], sample["arguments"]["gen_args_0"]
            check_generation(given.get("arg_1"), wanted, place)
            check_prompted(task, sample["doc"], str(given["arg_0"]), wanted["prompt"] or USUAL_PROMPT, place)
            length = count(text)
            if length > cap / RETOKENIZED:
                raise UserError(
                    f"{place}: the response has {length} tokens, more than the cap of {cap}; "
                    "is it another model's tokenizer?"
                )
            cut = length >= RETOKENIZED * cap
            responses[task, sample["doc_id"], 0] = {"response": text, "length": min(length, cap), "truncated": cut}
            samples.append(sample | {"arguments": [(given["arg_0"], given.get("arg_1"))]})
    if not samples:
        raise UserError(f"{path} holds no sample.")
    return records_of(task, samples, responses)


def parsed(line: str, place: str) -> dict[str, Any]:
    """One sample with what a record needs. UserError for anything else."""
    try:
        sample = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON ({error}); copy the log again.") from None
    if not isinstance(sample, dict) or (missing := [key for key in NEEDED if key not in sample]):
        raise UserError(
            f"{place} lacks {missing[0] if isinstance(sample, dict) else 'everything'}; is it a log of lm-eval?"
        )
    texts = sample["resps"][0] if isinstance(sample["resps"], list) and sample["resps"] else None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{place} holds no generated text; only generating tasks have a length.")
    if len(texts) != 1:
        raise UserError(
            f"{place} has {len(texts)} responses, of which the harness graded the first alone; set `repeats: 1` in "
            "the task's YAML, run it once for each repeat with another --seed, and import all logs together."
        )
    if not isinstance(sample["arguments"], dict) or "arg_0" not in sample["arguments"].get("gen_args_0", {}):
        raise UserError(f"{place} has no prompt (arguments.gen_args_0.arg_0); is it a log of lm-eval 0.4.5 or later?")
    if bad := [metric for metric in sample["metrics"][:1] if not isinstance(sample.get(metric), (int, float))]:
        raise UserError(f"{place} has no number for its metric {bad[0]}.")
    return sample


def check_generation(arguments: object, wanted: dict[str, Any], place: str) -> None:
    """UserError where the generation settings of a sample, as far as the log has them, are not the profile's.

    Without a temperature the harness is greedy.
    """
    given: dict[str, Any] = arguments if isinstance(arguments, dict) else {}
    cap, profile = wanted["max_tokens"], wanted["sampling"]
    if (found := given.get("max_gen_toks", cap)) != cap:
        raise UserError(f"{place}: generated with a cap of {found} tokens, and the profile says {cap}.")
    sampled = given.get("do_sample")
    temperature = 0.0 if sampled is False else given.get("temperature", 1.0 if sampled else Sampling.temperature)
    top_p = given.get("top_p", Sampling.top_p) if temperature else Sampling.top_p
    if (temperature, top_p) != (profile.temperature, profile.top_p):
        theirs, ours = generated(temperature, top_p), generated(profile.temperature, profile.top_p)
        raise UserError(f"{place}: generated {theirs}, and the profile generates {ours}.")
    until = given.get("until", FEW_SHOT_STOPS)
    stops = until if isinstance(until, list) else [until]
    if wanted["prompt"] == FEW_SHOT and not all(stop in stops for stop in FEW_SHOT_STOPS):
        raise UserError(
            f"{place}: generated without the few-shot prompt's stop string, so a base model goes on with questions of "
            f"its own; run lm-eval with --gen_kwargs 'until={json.dumps(FEW_SHOT_STOPS)}'."
        )


def generated(temperature: object, top_p: object) -> str:
    """How responses were generated, in words."""
    return f"at temperature {temperature}, top_p {top_p}" if temperature else "greedily"


def check_prompted(task: str, doc: object, text: str, prompt: str, place: str) -> None:
    """UserError where a sample was asked another text than the profile's prompt around its question.

    Only tasks of ours that take a prompt are checked.
    """
    ask = asking(task)
    if ask is None:
        return
    if not isinstance(doc, dict) or not isinstance(doc.get("question"), str):
        raise UserError(f"{place} has no question (doc.question); is it a log of {task}?")
    wanted = ask(prompt, doc["question"])
    templated = prompt == CHAT_TEMPLATE  # the model's own template stands around the text
    if (wanted in text and wanted != text) if templated else text == wanted:
        return
    remedy = f'--metadata \'{{"prompt": "{prompt}"}}\'{", --apply_chat_template" if templated else ""}'
    raise UserError(
        f"{place}: asked {text[:60]!r}…, which is not the prompt {prompt} of the profile; "
        f"run lm-eval with {remedy} and no other prompt."
    )
