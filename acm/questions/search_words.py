"""The words of question 8: its samplers, models, null merges, λ, targets and layers as sentences name them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from acm.questions.search import ALL
from acm.questions.search_nulls import BEST
from acm.questions.search_points import MOVED, RANKS
from acm.reporting.intervals import interval_in, interval_text

SAMPLERS = {"cmaes": "CMA-ES", "tpe": "TPE", "nsga2": "NSGA-II", "random": "random search"}
PLACES = {"abacus": "the shipped family", "four": "the shipped family with four λ", ALL: "the fresh families",
          "smol": "the pretrained weights of smol"}  # fmt: skip
NULLS = {"blocks alike": "where all blocks share their mean λ", "blocks dealt": "where the λ of the blocks are dealt "
         "to them at random", "head alone": "where all but the head share one λ"}  # fmt: skip
OF_BLOCKS = ("blocks alike", "blocks dealt")  # nulls that take away which block has which λ, and that alone
TITLES = {
    "best λ, moved": "the best λ moved from the shipped family",
    "mean λ, moved": "the mean λ of its seeds moved from the shipped family",
    "best λ of four, moved": "the best four λ moved from the shipped family",
    "mean λ of four, moved": "the mean four λ moved from the shipped family",
}  # fmt: skip
PARTS_TOLD = {"attention": "attention", "mlp": "MLP"}


def told(row: Any, name: str, unit: str, digits: int = 1) -> str:
    """A signed value with its interval and unit."""
    return f"{interval_text(**interval_in(row, name), signed=True, digits=digits)} {unit}"


def shown(rows: pd.DataFrame, name: str) -> pd.Series:
    """Whether a column is shown to be above 0, after Holm."""
    return (rows["p_adjusted"] < 0.05) & (rows[name] > 0)


def named(trials: list[str]) -> str:
    """Trials in few words."""
    ranks = " and of ".join(plainly(trial.removeprefix(RANKS)) for trial in trials if trial.startswith(RANKS))
    found = ["λ moved from the shipped family"] if any(trial.endswith(MOVED) for trial in trials) else []
    found += [f"λ by the ranks of {ranks}"] if ranks else []
    found += [trial for trial in trials if not trial.endswith(MOVED) and not trial.startswith(RANKS)]
    return " and ".join(found)


def title(trial: str) -> str:
    """A trial in words."""
    if trial.startswith(BEST):
        return f"the best λ at {target_told(trial.removeprefix(BEST))}"
    return TITLES.get(trial, f"λ by the {plainly(trial)}" if trial.startswith(RANKS) else trial)


def plainly(quantity: str) -> str:
    """A quantity in a sentence: "less" is a minus."""
    return quantity.replace(" less ", " minus ")


def where(rows: pd.DataFrame, tested: pd.DataFrame) -> str:
    """The searches of some tested rows in words, with their targets where not all of the search's are among them."""
    named = []
    for name in dict.fromkeys(rows["search"]):
        targets = [*rows.loc[rows["search"] == name, "target"]]
        part = len(targets) < (tested["search"] == name).sum()
        named.append(PLACES.get(name, name) + (f" at {', '.join(targets)} %" if part else ""))
    return " and ".join(named)


def target_told(target: str) -> str:
    """A target's label in words."""
    if not target:
        return "any length"
    return f"{target[:-1]} tokens" if target.endswith("t") else f"the length where one λ has {target} % of its best"


def listed(layers: list[str]) -> str:
    """Layers in words."""
    words = {"embed": "the embedding", "lm_head": "the head", "norm": "the last norm"}
    return ", ".join(words.get(layer, f"block {layer}") for layer in layers) or "no layer"


def missed(row: Any) -> str:
    """Where nothing is shown, that this is so, and the smallest true difference that would have been found."""
    return "" if row["p_adjusted"] < 0.05 else f" (not shown, {row['detectable']:.1f})"
