"""Finds where two runs of one model part: the first token that differs, and whether the grade changes with it.

Two runs may differ in batch size, dtype, engine or GPU. In exact arithmetic their greedy responses would be the same.
Records keep text alone, so responses are tokenized again; the tokens can be others than those that were generated.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from acm.errors import UserError, shown

KEYS = ["task", "item", "repeat"]
INCIDENTAL = ("tasks", "repeat", "weights")
END = "(end)"  # in place of a token, where a response has ended


def partings(one: pd.DataFrame, other: pd.DataFrame, tokenizer: Any) -> pd.DataFrame:
    """A row for each response that both runs have, in the order of the first.

    one, other: records of the same model. tokenizer: the model's. Columns: task, item, repeat; parted, whether the
    texts differ; token, the number of the first that does, from 0; one and other, these two tokens as text, END for
    none; correct_one, correct_other; regraded, whether these differ. token, one and other are missing for equal texts.
    UserError for records of another model or of several, and for runs that share no response.
    """
    check_same_model(one, other)
    told = [*KEYS, "response", "correct"]
    both = one[told].merge(other[told], on=KEYS, suffixes=("_one", "_other"), validate="one_to_one")
    if both.empty:
        raise UserError("the two runs share no task, item and repeat; give runs of the same items.")
    places = [place(tokenizer, *texts) for texts in zip(both["response_one"], both["response_other"], strict=True)]
    both["parted"] = both["response_one"] != both["response_other"]
    found = pd.DataFrame(places, columns=["token", "one", "other"], index=both.index).astype({"token": "Int64"})
    both["regraded"] = both["correct_one"] != both["correct_other"]
    columns = [*KEYS, "parted", "token", "one", "other", "correct_one", "correct_other", "regraded"]
    return pd.concat([both, found], axis=1)[columns]


def place(tokenizer: Any, one: str, other: str) -> tuple[int | None, str | None, str | None]:
    """The number of the first token that differs, and both tokens as text; three times None for equal texts."""
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (one, other))
    if one == other:
        return None, None, None
    pairs = enumerate(zip(first, second, strict=False))
    shared = next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
    left, right = (tokenizer.decode([ids[shared]]) if shared < len(ids) else END for ids in (first, second))
    return shared, left, right


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """How often responses part, for each task and for all.

    found: of :func:`partings`. Columns: n; parted and regraded, how many; token, the median number of the first token
    that differs; lost and won, how many are right in the first run alone and in the other alone.
    """
    groups = [*found.groupby("task", sort=False), ("all", found)]
    rows = {
        task: {
            "n": len(rows), "parted": rows["parted"].sum(), "token": rows["token"].median(),
            "regraded": rows["regraded"].sum(), "lost": (rows["correct_one"] > rows["correct_other"]).sum(),
            "won": (rows["correct_one"] < rows["correct_other"]).sum(),
        }
        for task, rows in groups
    }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def settings_apart(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, tuple[Any, Any]]:
    """What the settings of two runs say otherwise: name → both values; None where one says nothing.

    Versions and the code of the evaluation (source) count; tasks, repeat and the hash of the loaded weights do not.
    """
    first, second = (json.loads(records["setting"].iloc[0]) for records in (one, other))
    names = [name for name in {**first, **second} if name not in INCIDENTAL and first.get(name) != second.get(name)]
    return {name: (first.get(name), second.get(name)) for name in names}


def check_same_model(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """UserError unless all records are of one model, by its identity."""
    models = {json.loads(text).get("model") for records in (one, other) for text in records["setting"].unique()}
    if len(models) > 1 or None in models:
        said = ", ".join(sorted(shown(str(model)) for model in models))
        raise UserError(f"the records are of other models ({said}); give two runs of one model, each in a file.")
