"""Checkers of lesson 6: the steps of the project."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from acm.course import Answer, NotYet, exercise, need, need_kind, need_not, read, same
from acm.files import write_json

PLAN = {
    "rule": "a ramp",
    "measure": "points above the bar",
    "holdout": [3, 1, 2],
    "rules_tried": 2,
    "success": "the interval lies above 0",
}
PLAN_HASH = "75f35f91f6a5746f10f04ede61a9d08918746f019fecb760f395c6da3b2a192c"


@exercise("6.1")
def the_bar(undominated: Answer) -> str:
    points = {
        "d": (80.0, 0.90), "g": (20.0, 0.20), "a": (20.0, 0.30), "e": (90.0, 0.85), "c": (60.0, 0.90),
        "b": (40.0, 0.60), "f": (120.0, 0.95),
    }  # fmt: skip
    found = undominated(dict(points))
    need(found is not None, "The answer is None: does your function end with `return`?")
    found = list(found)
    need(set(found) <= set(points), "Return names of points.")
    otherwise = (
        "A point that is longer and less accurate than another counts for nothing: (90, 0.85) is beaten by (60, 0.90)."
    )
    need("e" not in found, otherwise)
    need("d" not in found, "(80, 0.90) is no more accurate than (60, 0.90) and longer: it is beaten too.")
    need("g" not in found, "(20, 0.20) is as long as (20, 0.30) and less accurate: it is beaten.")
    need("f" in found, "(120, 0.95) is the longest, but the most accurate: nothing beats it.")
    otherwise = f"Left should be a, b, c and f, and are {', '.join(sorted(found))}: compare each point with all others."
    need(set(found) == {"a", "b", "c", "f"}, otherwise)
    need(found == ["a", "b", "c", "f"], "The right points, in the wrong order: the shortest first.")
    otherwise = "Of two equal points only the first stays."
    need(list(undominated({"one": (5.0, 0.5), "two": (5.0, 0.5)})) == ["one"], otherwise)
    return "what is left is the bar: more accuracy costs tokens, at every point of it."


@exercise("6.2")
def holdout(split_items: Answer) -> str:
    found = split_items(101, 0.3, 7)
    need(isinstance(found, tuple | list) and len(found) == 2, "Return a pair: development items and holdout items.")
    development, kept = (read(part, "A part", None) for part in found)
    need(not set(development) & set(kept), "An item is in both parts: then the holdout is no holdout.")
    need(set(development) | set(kept) == set(range(101)), "Every item from 0 to n − 1 must be in one of the parts.")
    otherwise = (
        f"Of 101 items a share of 0.3 is 30 after rounding, and your holdout has {len(kept)}: the holdout is the "
        "second of the pair."
    )
    need(len(kept) == 30, otherwise)
    need(all((np.diff(part) > 0).all() for part in (development, kept)), "Sort both parts.")
    otherwise = "The holdout is a stretch of neighbours: draw it at random, for items may stand in an order."
    need(len(set(np.diff(kept))) > 1, otherwise)
    otherwise = "Two calls with one seed differ: make the generator from `seed`."
    need(all(np.array_equal(a, b) for a, b in zip(found, split_items(101, 0.3, 7), strict=True)), otherwise)
    otherwise = "Every seed gives the same split."
    need(any(not np.array_equal(kept, split_items(101, 0.3, s)[1]) for s in range(4)), otherwise)
    return "the holdout is closed; open it once."


def feature_table(layers: int, seed: int, flat: bool = False) -> pd.DataFrame:
    """Made-up features of so many layers. flat: all layers have the same, but for their position."""
    rng = np.random.default_rng(seed)
    names = ["embed", *map(str, range(layers - 3)), "norm", "lm_head"]
    values = np.full((layers, 2), 0.2) if flat else rng.uniform(0.01, 0.6, size=(layers, 2))
    return pd.DataFrame(values, index=names, columns=["magnitude", "excess"]).assign(
        position=np.linspace(0, 1, layers)
    )[["position", "magnitude", "excess"]]


@exercise("6.3")
def rule(my_rule: Answer) -> str:
    tables = {layers: feature_table(layers, layers) for layers in (9, 5, 12)}
    found = {}
    for layers, table in tables.items():
        try:
            found[layers] = my_rule(table.copy())
        except KeyError as error:
            otherwise = (
                f"Your rule asks for the layer {error} in a model that has none of that name: work on features.index, "
                "whatever it holds."
            )
            need(layers == 9, otherwise)
            raise
    for layers, answer in [*found.items(), (9, my_rule(feature_table(9, 0, flat=True)))]:
        need(isinstance(answer, dict), f"Return a dictionary from layers to numbers, not {type(answer).__name__}.")
        lacking = [name for name in tables[layers].index if name not in answer]
        otherwise = (
            f"In a model of {layers} layers yours lacks layer '{lacking[:1] and lacking[0]}': take the layers from "
            "features.index."
        )
        need(not lacking, otherwise)
        otherwise = f"In a model of {layers} layers yours has {len(answer)} entries: some of them are no layers."
        need(len(answer) == layers, otherwise)
        values = read(list(answer.values()), "λ", (layers,))
        otherwise = (
            f"λ must lie in [0, 1], and goes from {values.min():.2f} to {values.max():.2f} for one table: clip it."
        )
        need(((values >= 0) & (values <= 1)).all(), otherwise)
    otherwise = "All λ are the same: that is plain interpolation, of which the bar is made."
    need(len(set(found[9].values())) > 1, otherwise)
    need(my_rule(tables[9].copy()) == found[9], "Two calls give unlike λ: a rule holds no chance.")
    return "a rule for any number of layers. Whether it is a good one, only the holdout says."


LAMBDA = {"embed": 0.1, "0": 0.5, "1": 1.0, "norm": 0.25, "lm_head": 0.75}
TENSORS = {  # name → its layer and its shape
    "model.embed_tokens.weight": ("embed", (4, 4)),
    "model.layers.0.mlp.down_proj.weight": ("0", (4, 4)),
    "model.layers.1.mlp.down_proj.weight": ("1", (4, 4)),
    "model.norm.weight": ("norm", (4,)),
    "lm_head.weight": ("lm_head", (4, 4)),
}
CONFIG = {  # of no known architecture: one would ask for more tensors
    "model_type": "exercise", "vocab_size": 4, "hidden_size": 4, "num_hidden_layers": 2, "tie_word_embeddings": False
}  # fmt: skip
TOKENIZER = {"model": {"vocab": {"a": 0, "b": 1, "c": 2, "d": 3}}}


def write_model(folder: Path, value: float) -> Path:
    """A model folder in which every number is ``value``."""
    import torch
    from safetensors.torch import save_file

    write_json(folder / "config.json", CONFIG)
    write_json(folder / "tokenizer.json", TOKENIZER)
    tensors = {name: torch.full(shape, value) for name, (_, shape) in TENSORS.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def merged_coefficients(made: dict, out: Path) -> dict[str, float]:
    """The λ of each layer in the merge of a recipe of a model of 1.0 and one of 1.5; NotYet where it is refused."""
    from safetensors.torch import load_file

    from acm.errors import UserError
    from acm.merging.engine import merge

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # no progress bar within a check
            merged = load_file(merge(made, out, threads=1, kernels=False) / "model.safetensors")
    except UserError as error:
        raise NotYet(f"acm.merge refuses the recipe: {' '.join(str(error).split())}") from None
    return {layer: 2 * float(merged[name].flatten()[0]) - 2 for name, (layer, _) in TENSORS.items()}


@exercise("6.4")
def recipe(recipe_of: Answer) -> str:
    with tempfile.TemporaryDirectory() as place:
        base, finetuned = write_model(Path(place) / "quick-one", 1.0), write_model(Path(place) / "slow-one", 1.5)
        made = recipe_of(base, finetuned, dict(LAMBDA))
        need_kind(made, dict, "a dictionary")
        lacking = [key for key in ("merge_method", "base_model", "models", "coefficients") if key not in made]
        need(not lacking, f"The recipe lacks the key '{lacking[:1] and lacking[0]}'.")
        given = made["coefficients"]
        nested = "`coefficients` maps the fine-tuned model's name to its λ: one more dictionary around them."
        need(isinstance(given, dict) and set(given) != set(LAMBDA), nested)
        wanted = f"The key in `coefficients` should be the folder's name, '{finetuned.name}'"
        need(set(given) == {finetuned.name}, f"{wanted}, and is {str(list(given))[:80]}: use finetuned.name.")
        found = merged_coefficients(made, Path(place) / "merged")
    need(max(found.values()) > 0, "The merge is the base itself: is the fine-tuned model listed under `models`?")
    for layer, weight in LAMBDA.items():
        told = f"Layer '{layer}' is merged with {found[layer]:.2f}, and its λ is {weight}"
        same(found[layer], weight, "The merge", f"{told}: are base and fine-tuned model in their places?")
    return "the merge has your λ in every layer."


MODELS = {  # accuracy on the first 60 items and on the rest, and length
    "short": (0.3, 0.3, 20), "middle": (0.1, 0.9, 50), "long": (0.7, 0.7, 100), "mine": (0.8, 0.2, 60),
    "far": (0.9, 0.9, 200),
}  # fmt: skip


def made_records() -> tuple[pd.DataFrame, np.ndarray]:
    """Records of two tasks of 120 items, and the first 60 items.

    Three methods make a bar. On the first 60 items ``short`` beats ``middle``, so it does not count there. ``mine`` is
    better than the bar on these items and worse on the rest; ``far`` is longer.
    """
    rng, rows = np.random.default_rng(0), []
    for task in ("one", "two"):
        for item in range(120):
            for method, (early, late, length) in MODELS.items():
                correct = float(rng.random() < (early if item < 60 else late))
                rows.append((method, task, item, correct, length + rng.integers(-3, 4)))
    return pd.DataFrame(rows, columns=["method", "task", "item", "correct", "length"]), np.arange(60)


@exercise("6.5")
def judgement(judge: Answer) -> str:
    from acm.reporting.statistics import above_bar, above_frontier, average, bootstrap, describe, verdict

    records, chosen = made_records()
    bar = ["short", "middle", "long"]

    def right(part: pd.DataFrame, method: str) -> dict:
        lead = above_bar(bootstrap(part, [method, *bar], ["one", "two"]), method, bar)
        return describe(lead) | {"verdict": verdict(lead)}

    part = records[records["item"] < 60]
    found, expected = judge(records.copy(), "mine", list(bar), chosen), right(part, "mine")
    known = isinstance(found, dict) and {"value", "low", "high", "verdict"} <= set(found)
    need(known, "Return a dictionary with value, low, high and verdict.")
    value = read(found["value"], "value")
    every = "These numbers are of all items: take those of `chosen` alone, or the holdout is open."
    curve = "This is the lead over the curve: a point of it is beaten on these items, and `above_bar` leaves that out."
    alone = bootstrap(part, ["mine", *bar], ["one", "two"])
    need_not(value, {
        curve: 100 * above_frontier(alone, "mine", bar)[0],
        every: right(records, "mine")["value"],
        "The lead is a fraction: `describe` turns it into points.": expected["value"] / 100,
        "This is the accuracy, not the lead over the bar.": 100 * average(alone, "mine")[0],
    })  # fmt: skip
    lead = f"The lead should be {expected['value']:.1f} points, and is {float(value):.1f}"
    same(value, expected["value"], "value", f"{lead}: is it taken at equal length, over all tasks?")
    ends = "The value is right, the interval is not: take it from `describe`, paired over items."
    same([found["low"], found["high"]], [expected["low"], expected["high"]], "The interval", ends, 1.0)
    wrong = f"The verdict should be '{expected['verdict']}', and is '{found['verdict']}'"
    equal = found["verdict"] == expected["verdict"]
    need(equal, f"{wrong}: it follows from the interval, not from the value.")
    outside = judge(records.copy(), "far", list(bar), chosen)["verdict"] == "outside"
    need(outside, "A method longer than the whole bar is 'outside': pass the lead to `verdict` as it is.")
    return "a lead, its interval, and a verdict that follows from them."


@exercise("6.6")
def plan(fingerprint: Answer) -> str:
    found = fingerprint(dict(PLAN))
    need(isinstance(found, str), f"Return text, not {type(found).__name__}: `hexdigest()` gives it.")
    otherwise = f"A SHA-256 has 64 hexadecimal digits, and this has {len(found)} characters."
    need(len(found) == 64 and set(found) <= set("0123456789abcdef"), otherwise)
    otherwise = "The same plan with its keys in another order gets another fingerprint: sort the keys."
    need(fingerprint(dict(reversed(PLAN.items()))) == found, otherwise)
    for key in PLAN:
        otherwise = f"A plan with another '{key}' gets the same fingerprint."
        need(fingerprint(PLAN | {key: "something else"}) != found, otherwise)
    otherwise = "A plan with something added gets the same fingerprint: the whole plan goes in."
    need(fingerprint(PLAN | {"note": "added later"}) != found, otherwise)
    otherwise = "The fingerprint is not that of json.dumps(plan, sort_keys=True) in UTF-8: others could not check it."
    need(found == PLAN_HASH, otherwise)
    for key in PLAN:
        try:
            fingerprint({k: v for k, v in PLAN.items() if k != key})
        except ValueError as error:
            need(key in str(error), f"The error should name what the plan lacks, '{key}'.")
        else:
            need(False, f"A plan without '{key}' is accepted: raise ValueError that names it.")
    return "fixed: whoever has the fingerprint can check the plan."


# p-values, which of them pass at 0.05, and what to say otherwise.
HOLM = (
    (
        [0.06, 0.03, 0.02],
        [False, False, False],
        "Of [0.06, 0.03, 0.02] none passes: the smallest has to pass 0.05 / 3 first.",
    ),
    (
        [0.20, 0.001, 0.012, 0.04],
        [False, True, True, False],
        "The limits grow: 0.05 / 4 for the smallest, then 0.05 / 3, 0.05 / 2 and 0.05.",
    ),
    ([0.001, 0.024, 0.5], [True, True, False], "0.024 is the second of three: its limit is 0.05 / 2, not 0.05 / 3."),
    (
        [0.02, 0.001, 0.024, 0.5],
        [False, True, False, False],
        "Stop at the first that fails: nothing after it passes, whatever its limit.",
    ),
    ([0.02, 0.9, 0.03, 0.035], [False] * 4, "The smallest fails at 0.05 / 4, so all fail."),
    ([0.05], [True], "A p-value equal to its limit passes."),
)


@exercise("6.7")
def multiple(holm: Answer) -> str:
    for p, expected, told in HOLM:
        found = holm(list(p))
        answered = found is not None and len(found) == len(p)
        need(answered, f"Return one True or False for each of the {len(p)} p-values, in the order given.")
        found = [bool(value) for value in found]
        sorted_alike = sorted(found) == sorted(expected) and found != expected
        order = f"For {p} as many pass as should, but others: answer in the order given, not the sorted one."
        need(not sorted_alike, order)
        need(found == expected, told)
    need(not any(holm([0.03], 0.01)), "`level` has no effect.")
    return "the chance of even one false success stays at 5 %."
