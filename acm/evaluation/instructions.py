"""Loads IFEval and grades it by the checks of lm-evaluation-harness (arXiv 2311.07911, prompt-level strict accuracy).

A row has the fields ``prompt``, ``instruction_id_list`` and ``kwargs``, one dictionary for each instruction. Of a
response that thinks, only the part after the last ``</think>`` counts. Blank lines around it are no part of the answer.
A response whose thinking never closes is wrong.
"""

from __future__ import annotations

import json

from acm.errors import UserError, unknown
from acm.evaluation.benchmarks import BENCHMARKS, Instructions, Row, check_number, read_rows, remedy
from acm.evaluation.task_files import Item, check_checks
from acm.evaluation.thinking import after_thinking


def load_instructions(name: str) -> list[Item]:
    """All items: question, instructions (their names) and arguments (JSON).

    UserError for data that is missing or has another form or number of items.
    """
    known = BENCHMARKS.get(name)
    if not isinstance(known, Instructions):
        raise unknown("benchmark", name, [key for key, found in BENCHMARKS.items() if isinstance(found, Instructions)])
    rows, source = read_rows(name)
    items = [instructed(row, f"{source}, row {i}. {remedy(name)}") for i, row in enumerate(rows, 1)]
    check_number(items, known.items, source, name)
    return items


def instructed(row: Row, place: str) -> Item:
    """The item of a row. UserError that names the place where the row has not what grading needs."""
    try:
        names, arguments = list(map(str, row["instruction_id_list"])), [dict(one) for one in row["kwargs"]]
        if len(names) != len(arguments) or not names:
            raise ValueError(f"{len(names)} instructions with {len(arguments)} kwargs")
        return {"question": str(row["prompt"]), "instructions": names, "arguments": json.dumps(arguments)}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"no instructions to check ({error!r}) in {place}") from None


def follows(item: Item, response: str) -> bool:
    """Whether a response follows all instructions of its item, strictly. UserError where the checks cannot be run."""
    check_checks("acm_ifeval")
    import langdetect
    from lm_eval.tasks.ifeval.utils import process_results

    langdetect.DetectorFactory.seed = 0  # else the language of a short text is drawn anew each time
    text, closed = after_thinking(response)
    doc = {
        "key": 0, "prompt": item["question"], "instruction_id_list": item["instructions"],
        "kwargs": json.loads(item["arguments"]),
    }  # fmt: skip
    return bool(process_results(doc, ["" if closed is False else text.strip()])["prompt_level_strict_acc"])
