"""lm-eval's own logs as records: what they lack is counted again from the text."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import yaml

from acm.errors import UserError, unknown
from acm.evaluation.code_benchmarks import CODE_BENCHMARKS
from acm.evaluation.harness import REFLECTION, task_rows
from acm.evaluation.prompts import CODE_EXAMPLES, CODE_SYSTEM, FEW_SHOT_STOPS, render
from acm.paths import TASKS
from acm.profiles import Profile
from acm.running.imported import LOG, LOG_ENGINE, TASKS_PROMPT

RETOKENIZED = 0.99  # text tokenized again may have another count by this much, so a response near the cap was cut there


def log_records(
    profile: Profile, experiment: str, paths: list[Path], method: str | None, tokenizer: Path | None
) -> pd.DataFrame:
    """Records of one method from its logs; several of a task are its repeats, in the order of their names.

    Lengths are those of the text tokenized again, stop string and end token not included.
    """
    if method is None or tokenizer is None:
        raise UserError(
            "lm-eval's logs name no method and hold no token counts: give --method NAME and --tokenizer, the model's folder."
        )
    if len({hashlib.sha256(path.read_bytes()).digest() for path in paths}) < len(paths):
        raise UserError(
            f"two of the logs for {method} are the same file or copies of one, so they are no repeats; name each log once."
        )
    count, asked, rows, repeats = token_counter(tokenizer), profile.evaluation(experiment, method), [], Counter()
    asked["prompt"] = asked["prompt"] or TASKS_PROMPT
    for path in sorted(paths, key=lambda path: path.name):
        task = LOG.fullmatch(path.name)["task"]
        if task not in profile.experiment(experiment).tasks:
            raise UserError(f"{path}: {unknown(f'task of {experiment}', task, profile.experiment(experiment).tasks)}")
        check_thinking_kept(path)
        rows += [row | {"repeat": repeats[task]} for row in log_rows(path, task, count, asked)]
        repeats[task] += 1
    setting = {"engine": LOG_ENGINE, **{key: asked[key] for key in ("max_tokens", "temperature", "top_p")}, "model": method,
               "lengths": f"text tokenized again by {tokenizer.name}"}  # fmt: skip
    return pd.DataFrame(rows).assign(
        profile=profile.name, experiment=experiment, model=method, method=method, setting=json.dumps(setting)
    )


def token_counter(folder: Path) -> Callable[[str], int]:
    from transformers import AutoTokenizer

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
    """UserError where the results beside a log say that the harness cut the thinking away, which no length could then count."""
    for results in sorted(path.parent.glob("results_*.json")):
        try:
            config = json.loads(results.read_text(encoding="utf-8")).get("config") or {}
        except (ValueError, AttributeError):
            raise UserError(f"{results} is not readable JSON; copy it again.") from None
        arguments = config.get("model_args") or {}
        used = (
            arguments.get("think_end_token")
            if isinstance(arguments, dict)
            else re.search(r"think_end_token=([^,]+)", str(arguments))
        )
        if used:
            raise UserError(
                f"{path} was made with think_end_token ({results.name}), so the thinking is lost; evaluate without it."
            )


def log_rows(path: Path, task: str, count: Callable[[str], int], wanted: dict) -> list[dict]:
    """The rows of one log; UserError that names the line of what is wrong. wanted: the profile's settings of generation."""
    samples, generated, cap = [], {}, wanted["max_tokens"]
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            place = f"{path}, line {number}"
            sample = parsed(line, place)
            (text,), asked = sample["resps"][0], sample["arguments"]["gen_args_0"]
            check_asked(asked.get("arg_1"), wanted, place)
            check_prompted(task, sample["doc"], str(asked["arg_0"]), wanted["prompt"], place)
            length = count(text)
            if length > cap / RETOKENIZED:
                raise UserError(
                    f"{place}: the response has {length} tokens, more than the cap of {cap}; is it another model's tokenizer?"
                )
            generated[task, sample["doc_id"], 0] = {
                "response": text,
                "length": min(length, cap),
                "truncated": length >= RETOKENIZED * cap,
            }
            samples.append(sample | {"arguments": [(asked["arg_0"], asked.get("arg_1"))]})
    if not samples:
        raise UserError(f"{path} holds no sample.")
    return task_rows(task, samples, generated, re.compile(f"{REFLECTION.pattern}{own_reflection(task)}", re.IGNORECASE))


def parsed(line: str, place: str) -> dict:
    """One sample with what a record needs."""
    try:
        sample = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON ({error}); copy the log again.") from None
    needed = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics")
    if not isinstance(sample, dict) or (missing := [key for key in needed if key not in sample]):
        raise UserError(
            f"{place} lacks {missing[0] if isinstance(sample, dict) else 'everything'}; is it a log of lm-eval?"
        )
    resps = sample["resps"][0] if isinstance(sample["resps"], list) and sample["resps"] else None
    if not isinstance(resps, list) or not resps or not all(isinstance(text, str) for text in resps):
        raise UserError(f"{place} holds no generated text; only generating tasks have a length.")
    if len(resps) != 1:
        raise UserError(
            f"{place} has {len(resps)} responses, of which the harness graded the first alone; set `repeats: 1` in the task's YAML, run it "
            "once for each repeat with another --seed, and import all logs together."
        )
    if not isinstance(sample["arguments"], dict) or "arg_0" not in sample["arguments"].get("gen_args_0", {}):
        raise UserError(f"{place} has no prompt (arguments.gen_args_0.arg_0); is it a log of lm-eval 0.4.5 or later?")
    if bad := [metric for metric in sample["metrics"][:1] if not isinstance(sample.get(metric), (int, float))]:
        raise UserError(f"{place} has no number for its metric {bad[0]}.")
    return sample


def check_asked(arguments: object, wanted: dict, place: str) -> None:
    """The generation settings of a sample, where the log has them, are the profile's. Without a temperature the harness is greedy."""
    arguments = arguments if isinstance(arguments, dict) else {}
    if (found := arguments.get("max_gen_toks", wanted["max_tokens"])) != wanted["max_tokens"]:
        raise UserError(
            f"{place}: generated with a cap of {found} tokens, and the profile says {wanted['max_tokens']}."
        )
    sampled = arguments.get("do_sample")
    temperature = 0.0 if sampled is False else arguments.get("temperature", 1.0 if sampled else 0.0)
    found = (temperature, arguments.get("top_p", 1.0) if temperature else 1.0)
    if found != (wanted["temperature"], wanted["top_p"]):
        texts = [
            f"at temperature {t}, top_p {p}" if t else "greedily"
            for t, p in (found, (wanted["temperature"], wanted["top_p"]))
        ]
        raise UserError(f"{place}: generated {texts[0]}, and the profile generates {texts[1]}.")
    until = arguments.get("until", FEW_SHOT_STOPS)
    if wanted["prompt"] == "few-shot" and not all(
        stop in (until if isinstance(until, list) else [until]) for stop in FEW_SHOT_STOPS
    ):
        raise UserError(
            f"{place}: generated without the few-shot prompt's stop string, so a base model goes on with questions of its own; run lm-eval "
            f"with --gen_kwargs 'until={json.dumps(FEW_SHOT_STOPS)}'."
        )


def check_prompted(task: str, doc: dict, text: str, prompt: str, place: str) -> None:
    """The text that a sample was asked is the profile's prompt around its question, in the tasks of ours that let one choose."""
    if not task.startswith("acm_"):
        return
    if not isinstance(doc, dict) or not isinstance(doc.get("question"), str):
        raise UserError(f"{place} has no question (doc.question); is it a log of {task}?")
    code = task.removeprefix("acm_") in CODE_BENCHMARKS
    wanted = render(prompt, doc["question"], *((CODE_SYSTEM, CODE_EXAMPLES) if code else ()))
    if prompt == "chat-template" and wanted in text and wanted != text:  # the model's own template stands around it
        return
    if prompt == "chat-template" or text != wanted:
        raise UserError(
            f"{place}: asked {text[:60]!r}…, which is not the prompt {prompt} of the profile; run lm-eval with "
            f'--metadata \'{{"prompt": "{prompt}"}}\'{", --apply_chat_template" if prompt == "chat-template" else ""} and no other prompt.'
        )


def own_reflection(task: str) -> str:
    """The word that a task of ours counts as reflecting, beside the paper's list, as a further alternative of the pattern."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!function", lambda *_: None)
    path, content = TASKS / f"{task}.yaml", {}
    while path.is_file():
        own = yaml.load(path.read_text(), Loader)  # a safe loader
        content, path = own | content, TASKS / own.get("include", "")
    word = (content.get("metadata") or {}).get("reflection")
    return f"|{word}" if word else ""
