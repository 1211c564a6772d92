"""Finds how the responses of a log were generated, and compares that with the profile.

lm-evaluation-harness accepts several names for one setting, and its model classes do not all read them in the same
way. What follows is how ``lm_eval/models`` of version 0.4.13 reads them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from acm.errors import UserError, shown
from acm.evaluation.prompts import CHAT_TEMPLATE, FEW_SHOT, FEW_SHOT_STOPS, USUAL_PROMPT
from acm.evaluation.task_files import asking, is_ours, read_task
from acm.reading import read_json
from acm.running.imported_given import OWN_PROMPT, Given, settled
from acm.running.imported_results import Facts

DEFAULT_CAP = 256  # of lm-eval's model classes, where nothing states another
CAPS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Kind of model class → the names of the cap that it reads. Not known: those that every class reads.
READ = {"local": CAPS, "served": ("max_gen_toks", "max_tokens"), "": ("max_gen_toks", "max_tokens")}
# What else a sample may state. Values that change nothing are those of the profile.
NEUTRAL: dict[str, tuple[float, ...]] = {
    "min_p": (0,), "repetition_penalty": (1,), "presence_penalty": (0,), "frequency_penalty": (0,), "num_beams": (1,),
    "n": (1,), "no_repeat_ngram_size": (0,), "min_new_tokens": (0,), "min_length": (0,), "length_penalty": (1,),
}  # fmt: skip
HARMLESS = ("do_sample", "temperature", "top_p", "top_k", "until", "seed", "use_cache", "skip_special_tokens",
            "add_special_tokens", "spaces_between_special_tokens", *CAPS)  # fmt: skip


def check_generation(arguments: dict[str, Any], facts: Facts, given: Given, wanted: dict[str, Any], place: str) -> None:
    """UserError where a sample was not generated as the profile does it, and where nobody says how it was generated.

    arguments: the sample's settings of generation. wanted: how the profile evaluates.
    """
    stated = {name: value for name, value in arguments.items() if value is not None}
    cap, ours = cap_of(stated, facts, given, place), wanted["max_tokens"]
    if cap != ours:
        raise UserError(f"{place}: generated with a cap of {shown(cap)} tokens, and the profile says {ours}.")
    check_sampling(stated, facts, given, wanted["sampling"], place)
    for name, value in stated.items():
        if name not in HARMLESS and value not in NEUTRAL.get(name, ()):
            raise UserError(
                f"{place}: generated with {shown(name)} {shown(value)}, which the profile does not use; "
                "run lm-eval without it."
            )


def cap_of(stated: dict[str, Any], facts: Facts, given: Given, place: str) -> int:
    """The token cap, by whichever name. UserError where it is not known."""
    if "max_length" in stated:
        raise UserError(
            f"{place}: max_length {shown(stated['max_length'])} caps prompt and response together, so responses have "
            "no cap of their own; run lm-eval with max_gen_toks."
        )
    found = {name: number_of_tokens(name, stated[name], place) for name in CAPS if name in stated}
    if len(set(found.values())) > 1:
        names = ", ".join(f"{name} {value}" for name, value in found.items())
        raise UserError(f"{place} states several caps ({names}); run lm-eval with max_gen_toks alone.")
    heeded = [value for name, value in found.items() if name in READ[facts.kind]]
    if heeded:
        return int(settled("max-tokens", heeded[0], given.max_tokens, place))
    if found and not facts.kind:
        name, value = next(iter(found.items()))
        why = f" for certain: not every model class of lm-eval heeds {name} {value}, and the default is {DEFAULT_CAP}"
        settled("max-tokens", None, given.max_tokens, place, why)
        if given.max_tokens not in (value, DEFAULT_CAP):
            raise UserError(f"{place} states {name} {value}, and --max-tokens says {given.max_tokens}.")
        return int(given.max_tokens)
    default = facts.model_args.get("max_gen_toks", DEFAULT_CAP if facts.kind else None)
    known = None if default is None else number_of_tokens("max_gen_toks", default, facts.name)
    why = f" (max_gen_toks; lm-eval's own cap is {DEFAULT_CAP})"
    return int(settled("max-tokens", known, given.max_tokens, place, why))


def number_of_tokens(name: str, value: object, place: str) -> int:
    """A cap as a number; lm-eval takes text too. UserError for anything else."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 12:
        return int(value)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value != int(value)
    ):
        raise UserError(f"{place}: {name} is {shown(value)}, which is no number of tokens.")
    return int(value)


def check_sampling(stated: dict[str, Any], facts: Facts, given: Given, profile: Any, place: str) -> None:
    """UserError where tokens were chosen in another way than the profile's, and where the log leaves it open."""
    for name in ("temperature", "top_p", "top_k"):
        value = stated.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value != value):
            raise UserError(f"{place}: {name} is {shown(value)}, which is no number.")
    if not isinstance(stated.get("do_sample", False), bool):
        raise UserError(f"{place}: do_sample is {shown(stated['do_sample'])}, which is neither true nor false.")
    readings = temperatures(stated, facts.kind)
    said = ", ".join(f"{name} {shown(stated[name])}" for name in ("do_sample", "temperature") if name in stated)
    why = f" for certain ({said})" if said else ""
    known = readings.pop() if len(readings) == 1 else None
    temperature = settled("temperature", known, given.temperature, place, why)
    if readings and None not in readings and temperature not in readings:
        raise UserError(f"{place} states {said}, and --temperature says {temperature}.")
    if temperature != profile.temperature:
        raise UserError(
            f"{place}: generated {generated(temperature)}, and the profile generates {generated(profile.temperature)}."
        )
    if temperature:
        top_p = settled("top-p", stated.get("top_p"), given.top_p, place)
        if top_p != profile.top_p:
            raise UserError(f"{place}: generated with top_p {shown(top_p)}, and the profile says {profile.top_p}.")
        top_k = settled("top-k", stated.get("top_k"), given.top_k, place, " (transformers' own is 50; 0 is off)")
        if top_k not in (0, -1):
            raise UserError(f"{place}: generated with top_k {shown(top_k)}, and the profile uses none.")


def temperatures(stated: dict[str, Any], kind: str) -> set[float | None]:
    """The temperatures that a sample's settings may mean, by the kind of the model class. None: the model's own.

    Classes that run the model are greedy where do_sample is false, whatever the temperature. Those that ask a server
    send the temperature, or 0, and no do_sample.
    """
    sampled, value = stated.get("do_sample"), stated.get("temperature")
    local = 0.0 if sampled is False or (value is None and not sampled) else value
    served = 0.0 if value is None else value
    if not kind and sampled is None and value is None:
        return {None}
    return {"local": {local}, "served": {served}}.get(kind, {local, served})


def own_settings(folder: Path) -> dict[str, Any]:
    """What a model's ``generation_config.json`` sets that changes greedy responses too, such as a penalty."""
    path = folder / "generation_config.json"
    found = read_json(path) if path.is_file() else {}
    return {name: value for name, value in found.items() if value not in (None, *NEUTRAL.get(name, (value,)))}


def check_own_settings(arguments: dict[str, Any], own: dict[str, Any], facts: Facts, place: str) -> None:
    """UserError where the model's own settings held, which the profile's evaluation switches off.

    All of lm-eval's classes heed them but vllm, and servers do too.
    """
    held = [name for name in own if arguments.get(name) is None]
    if held and facts.part("config").get("model") != "vllm":
        raise UserError(
            f"{place}: the model's generation_config.json sets {shown(held[0])} {shown(own[held[0]])}, which lm-eval "
            f"heeds and the profile does not; run lm-eval with --gen_kwargs {shown(held[0])}={NEUTRAL[held[0]][0]}."
        )


def generated(temperature: object) -> str:
    """How responses were generated, in words."""
    return f"at temperature {shown(temperature)}" if temperature else "greedily"


def stops_of(task: str, prompt: str | None) -> list[str]:
    """The strings at which a response to one of our tasks ends. prompt: the profile's."""
    if prompt == FEW_SHOT:
        return FEW_SHOT_STOPS
    return list((read_task(task).get("generation_kwargs") or {}).get("until") or [])


def check_stops(arguments: dict[str, Any], prompt: str | None, task: str, place: str) -> None:
    """UserError where a sample of one of our tasks ended at other strings than the task's."""
    if not is_ours(task):
        return
    until = arguments.get("until") or []
    stops = [stop for stop in (until if isinstance(until, list) else [until]) if stop]
    wanted, own = stops_of(task, prompt), stops_of(task, None)
    if lacking := [stop for stop in wanted if stop not in stops]:
        whose = f"the {prompt} prompt" if prompt == FEW_SHOT else task
        raise UserError(
            f"{place}: generated without {whose}'s stop string {lacking[0]!r}, so a base model goes on after its "
            f"answer; run lm-eval with --gen_kwargs 'until={json.dumps(wanted)}'."
        )
    if further := [stop for stop in stops if stop not in [*wanted, *own]]:
        raise UserError(
            f"{place}: generated with the further stop string {shown(further[0])!r}, which cuts responses; "
            "run lm-eval with the task's own."
        )


def check_prompted(task: str, question: object, text: str, wanted: dict[str, Any], facts: Facts, given: Given,
                   place: str) -> None:  # fmt: skip
    """UserError where a sample was asked another text than the profile's prompt around its question.

    Of a task that is not ours only the results or the user can say so: its prompt is the task's own.
    """
    if not is_ours(task):
        why = f" ({OWN_PROMPT}: without a chat template and a system instruction)"
        if (found := settled("prompt", facts.prompt, given.prompt, place, why)) != OWN_PROMPT:
            raise UserError(f"--prompt says {shown(found)}, and the profile asks {task} by its own prompt.")
        return
    ask, prompt = asking(task), wanted["prompt"] or (USUAL_PROMPT if asking(task) else OWN_PROMPT)
    settled("prompt", prompt, given.prompt, "profile")
    if not isinstance(question, str):
        raise UserError(f"{place} has no question (doc.question); is it a log of {task}?")
    right = ask(prompt, question) if ask else question
    templated = prompt == CHAT_TEMPLATE  # the model's own template stands around the text
    system = facts.content.get("system_instruction") is not None or text.startswith("system: ")
    if right in text and right != text and not system if templated else text == right:
        return
    remedy = f'--metadata \'{{"prompt": "{prompt}"}}\'{", --apply_chat_template" if templated else ""}'
    raise UserError(
        f"{place}: asked {text[:60]!r}…, which is not the prompt {prompt} of the profile; "
        f"run lm-eval with {remedy if ask else 'the task as it stands'} and no other prompt."
    )
