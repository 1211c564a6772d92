"""Reads the results file that lm-evaluation-harness writes beside its logs: the settings that a log itself lacks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acm.errors import UserError, shown
from acm.reading import read_json
from acm.running.imported_given import OWN_PROMPT

LOG = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+))?\.jsonl")
# lm-eval's model classes by how they read the settings of generation (lm_eval/models, 0.4.13).
LOCAL = ("hf", "hf-auto", "huggingface", "vllm", "trtllm")
SERVED = (
    "local-completions", "local-chat-completions", "openai-completions", "openai-chat-completions", "sglang-generate",
)  # fmt: skip
DTYPES = {"half": "float16", "fp16": "float16", "bf16": "bfloat16", "float": "float32", "fp32": "float32"}


@dataclass(frozen=True)
class Facts:
    """What a results file says. Empty where a log has none. name: of the file."""

    name: str = ""
    content: dict[str, Any] = field(default_factory=dict)

    def part(self, key: str, *keys: str) -> dict[str, Any]:
        """An object within the file; empty where it is absent. UserError where it is something else."""
        found = self.content.get(key)
        for further in keys:
            found = found.get(further) if isinstance(found, dict) else found
        if found is not None and not isinstance(found, dict):
            raise UserError(f"{self.name}: {'.'.join((key, *keys))} is {shown(found)}, not an object; copy it again.")
        return found or {}

    @property
    def kind(self) -> str:
        """``local`` or ``served``, by lm-eval's model class; empty for another class and for one that is not known."""
        name = self.part("config").get("model")
        return "local" if name in LOCAL else "served" if name in SERVED else ""

    @property
    def model_args(self) -> dict[str, Any]:
        """The arguments of the model class, from ``a=b,c=d`` or from an object."""
        found = self.part("config").get("model_args")
        if isinstance(found, str):
            return dict(pair.partition("=")[::2] for pair in found.split(",") if pair.strip())
        if found is not None and not isinstance(found, dict):
            raise UserError(f"{self.name}: config.model_args is {shown(found)}, not settings; copy it again.")
        return found or {}

    @property
    def prompt(self) -> str | None:
        """``own`` where neither a chat template nor a system instruction stood around the prompts; None: not stated.

        UserError where one did, and a task's own prompt is wanted.
        """
        keys = ("chat_template", "system_instruction")
        for key in keys:
            if (found := self.content.get(key)) is not None:
                raise UserError(
                    f"{self.name}: the prompts had a {key.replace('_', ' ')} ({shown(found)}), and the profile asks "
                    "the task's own prompt; run lm-eval without it."
                )
        return OWN_PROMPT if all(key in self.content for key in keys) else None

    def items(self, task: str) -> int | None:
        """How many items a task has in all."""
        return self.samples(task, "original")

    def samples(self, task: str, key: str) -> int | None:
        """A number of samples, ``original`` or ``effective``."""
        found = self.part("n-samples", task).get(key)
        if found is not None and (isinstance(found, bool) or not isinstance(found, int)):
            raise UserError(f"{self.name}: n-samples.{task}.{key} is {shown(found)}, not a number; copy it again.")
        return found


def facts_of(log: Path) -> Facts:
    """The results file of a log's own run, by its date, and of a log without a date the only one beside it.

    UserError for a file that is not JSON or that more than one run could have written.
    """
    name = LOG.fullmatch(log.name)
    date = name["date"] if name else None
    found = sorted(log.parent.glob(f"*_{date}.json" if date else "results_*.json"))
    if len(found) > 1:
        raise UserError(
            f"{log}: {found[0].name} and {found[1].name} may both be its results; put one run into a folder of its own."
        )
    return Facts(str(found[0]), read_json(found[0])) if found else Facts()


def check_facts(log: Path, facts: Facts, dtype: str) -> None:
    """UserError where thinking was cut away, so that no length could count it, and where another dtype was used."""
    arguments = facts.model_args
    if arguments.get("think_end_token") not in (None, "", "None"):
        raise UserError(
            f"{log} was made with think_end_token ({Path(facts.name).name}), so the thinking is lost; "
            "evaluate without it."
        )
    stated = arguments.get("dtype", "auto")
    stated = facts.part("config").get("model_dtype") if stated == "auto" else stated
    if stated is not None:
        used = str(stated).removeprefix("torch.")
        if DTYPES.get(used, used) != dtype:
            raise UserError(f"{log} was made with dtype {shown(used)} ({facts.name}), and the profile says {dtype}.")


def check_number(log: Path, facts: Facts, task: str, number: int) -> None:
    """UserError where the results count other samples than the log holds."""
    wanted = facts.samples(task, "effective")
    if wanted is not None and wanted != number:
        raise UserError(f"{log} holds {number} samples, and {facts.name} counts {wanted}; copy the log again.")


def check_mean(log: Path, facts: Facts, task: str, mean: float, key: str) -> None:
    """UserError where the results have another mean of the log's grades. key: ``<metric>,<filter>``."""
    stated, metric = facts.part("results", task).get(key), key.partition(",")[0]
    if isinstance(stated, bool) or not isinstance(stated, (int, float)) or not aggregated_by_mean(facts, task, metric):
        return
    if not math.isclose(stated, mean, rel_tol=0, abs_tol=1e-6):
        raise UserError(
            f"{log}: the mean {shown(metric)} is {mean:.4f}, and {facts.name} says {shown(stated)}; the two do not "
            "belong together, so copy both again."
        )


def aggregated_by_mean(facts: Facts, task: str, metric: str) -> bool:
    """Whether the results state that a metric of a task is averaged."""
    metrics = facts.part("configs", task).get("metric_list")
    return isinstance(metrics, list) and any(
        isinstance(one, dict) and one.get("metric") == metric and one.get("aggregation") == "mean" for one in metrics
    )
