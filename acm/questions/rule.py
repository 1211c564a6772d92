"""Question 5: is there a better rule? It was proposed on the shipped family, fixed, and is tested on fresh families.

A family is a base with its fine-tuned models; one is shipped with the repository. On its first edition we tried
coefficients that rise or fall from layer to layer, called tilted (:func:`tried`). None stood above the bar, plain
interpolation without the points that a shorter one beats. So the rule that is tested is ``flat``: every layer gets the
mean of ACM's λ over the blocks. It keeps the level of ACM's λ and drops the differences between layers. A second rule
is tested beside it, ``ramp``: the tilt that did best among the short ones. Both rules were fixed before any fresh
family was evaluated, and before the second edition was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from abacus.families import FOLDER, FRESH
from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.texts import read_texts, select_texts
from acm.calibration.walk import calibrate
from acm.errors import UserError
from acm.evaluation.harness import evaluate
from acm.profiles import frontier_name
from acm.questions.study import APART, SLIM, Study, apart, apart_columns, counted, evaluate_merge, inside
from acm.questions.variants import Layers
from acm.reporting import statistics
from acm.reporting.intervals import interval_columns
from acm.reporting.plotting import COLOURS
from acm.reporting.statistics import (
    Sample,
    above_bar,
    above_frontier,
    average,
    bootstrap,
    describe,
    detectable,
    over_draws,
)
from acm.reporting.tables import cell

QUESTION = "Is there a rule that beats the paper's?"
BASE, FINETUNED = "abacus-fast", "abacus-slow"
RULES = {  # rule → its name in words
    "ACM": "the paper's rule",
    "flat": "mean of ACM's λ over the blocks, everywhere",
    "ramp": "λ from 0.1 at the first layer to 0.5 at the last",
}
RAMP = (0.1, 0.5)
HEADS = {  # verdict on the lead of the flat rule over ACM → the answer's first sentence
    "above": "Yes, the plainest: one λ for all layers beats the paper's on fresh families.",
    "below": "No: the paper's rule beats one λ for all layers on fresh families.",
    "no difference shown": "None shown: on fresh families one λ for all layers cannot be told from the paper's.",
    "outside": "Undecided: the lengths lie outside the frontier.",
}


def flat(layers: Layers) -> Layers:
    """The rule: the mean of ACM's λ over the blocks, in every layer."""
    return dict.fromkeys(layers, float(np.mean([value for layer, value in layers.items() if layer.isdigit()])))


def line(layers: Layers, first: float, last: float) -> Layers:
    """λ along a straight line over the layers in their order, cut to [0, 1]."""
    return dict(zip(layers, map(float, np.clip(np.linspace(first, last, len(layers)), 0, 1)), strict=True))


def parted(layers: Layers, early: float, late: float, head: float | None = None) -> Layers:
    """λ is ``late`` in the last block and the norm, ``head`` (None: as ``late``) in the head, ``early`` elsewhere."""
    last = max((layer for layer in layers if layer.isdigit()), key=int)
    return dict.fromkeys(layers, early) | {last: late, "norm": late, "lm_head": late if head is None else head}


def tried(layers: Layers) -> dict[str, Layers]:
    """What was tried on the first edition of the shipped family before the rule was fixed."""
    found = {f"early 1, late {x}": parted(layers, 1.0, x) for x in (0.2, 0.5, 0.7)}
    found |= {f"early {x}, late 1": parted(layers, x, 1.0) for x in (0.2, 0.5)}
    for mean in (0.3, 0.5):
        found |= {
            f"rising, mean {mean}": line(layers, mean - 0.2, mean + 0.2),
            f"falling, mean {mean}": line(layers, mean + 0.2, mean - 0.2),
        }
    return found | {
        "head 1, else 0.3": parted(layers, 0.3, 0.3, 1.0),
        "head 0, else 0.6": parted(layers, 0.6, 0.6, 0.0),
    }


def against_frontier(sample: Sample, names: list[str], frontier: list[str]) -> pd.DataFrame:
    """One row for each merge, with 95 % intervals over items.

    accuracy (percent), length (tokens). above, verdict: points above the frontier at equal length, and the verdict on
    them. bar, bar_verdict: the same above the bar.
    """
    rows = {}
    for name in names:
        above, bar = (f(sample, name, frontier) for f in (above_frontier, above_bar))
        rows[name] = {
            "accuracy": 100 * average(sample, name)[0],
            "length": average(sample, name, "length")[0],
            **interval_columns("above", describe(inside(above))),
            "verdict": statistics.verdict(above),
            **interval_columns("bar", describe(inside(bar))),
            "bar_verdict": statistics.verdict(bar),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def family_records(study: Study, name: str, folder: Path = FOLDER) -> pd.DataFrame:
    """Records of a fresh family: its parents, its frontier, ACM with its own calibration, and the rules.

    Finished batches are kept. Raises UserError for a family that is not trained.
    """
    base, finetuned = folder / name / BASE, folder / name / FINETUNED
    if not finetuned.is_dir():
        raise UserError(f"the fresh family {name} is not trained; `make families` does it (hours).")
    acm = own_coefficients(study, base, finetuned)
    merges = {frontier_name(x): dict.fromkeys(acm, x) for x in study.setting.frontier}
    merges |= {"ACM": acm, "flat": flat(acm), "ramp": line(acm, *RAMP)}
    keep, settings = study.folder / "batches", partial(study.profile.evaluation, study.experiment)
    found = [
        evaluate(path, tasks, keep=keep, labels={"method": path.name}, **settings(repeat=repeat))
        for path in (base, finetuned)
        for tasks, repeat in study.setting.calls()
    ]
    models = {"base_model": str(base), "models": [{"model": str(finetuned)}]}
    for method, layers in merges.items():
        recipe = {"merge_method": "task_arithmetic", **models, "coefficients": {FINETUNED: layers}}
        found.append(evaluate_merge(recipe, study.profile, study.experiment, study.folder, method))
    return pd.concat(found, ignore_index=True)[SLIM].assign(family=name)


def own_coefficients(study: Study, base: Path, finetuned: Path) -> Layers:
    """ACM's λ of a family, from a calibration of its own with the study's settings."""
    profile, setting, chosen = study.profile, study.setting, study.setting.calibration
    texts = select_texts(read_texts(chosen.source, chosen.field), chosen.clusters, chosen.per_cluster, chosen.seed)
    table = calibrate(
        base,
        {FINETUNED: finetuned},
        texts,
        controls=("none",),
        estimators=(setting.estimator,),
        seed=profile.seed,
        dtype=profile.dtype,
        device=profile.device,
        max_tokens=chosen.max_tokens,
    )
    return coefficients_from_table(table, setting.t, setting.shift, estimator=setting.estimator)[FINETUNED]


def trained(folder: Path = FOLDER) -> list[str]:
    """The fresh families that are there; UserError if none is."""
    found = [name for name in FRESH if (folder / name / FINETUNED).is_dir()]
    if not found:
        raise UserError(f"no fresh family is trained in {folder}; `make families` does it (hours).")
    return found


def leads(
    records: pd.DataFrame, tasks: list[str], frontier: list[str], seed: int
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Points above the bar by family and rule, and each rule's lead over ACM. The last rows hold all families.

    righter, longer: a rule's accuracy (points) and length (tokens) less ACM's, on the same items. Of one family,
    intervals are over items. Of all families they are means, with intervals over items and families; detectable is the
    smallest true lead that would have been found. The second result is the lead of each rule, (families, draws + 1).
    """
    curve = [BASE, *frontier, FINETUNED]
    rows: list[dict[str, Any]] = []
    above: dict[str, list[np.ndarray]] = {rule: [] for rule in RULES}
    found: dict[str, list[dict[str, np.ndarray]]] = {rule: [] for rule in RULES}
    for family, part in records.groupby("family", sort=False):
        sample = bootstrap(part, [*curve, *RULES], tasks, seed=seed)
        for rule in RULES:
            above[rule].append(above_bar(sample, rule, curve))
            found[rule].append(apart(sample, [(rule, "ACM")]))
            rows.append({
                "family": family,
                "rule": rule,
                "accuracy": 100 * average(sample, rule)[0],
                "length": average(sample, rule, "length")[0],
                **interval_columns("above", describe(inside(above[rule][-1]))),
                **interval_columns("lead", describe(inside(above[rule][-1] - above["ACM"][-1]))),
                **apart_columns(found[rule][-1]),
            })  # fmt: skip
    lead = {rule: np.array(values) - np.array(above["ACM"]) for rule, values in above.items() if rule != "ACM"}
    for rule, values in above.items():
        apart_together = {what: np.concatenate([one[what] for one in found[rule]]) for what in APART}
        rows.append({"family": "all", "rule": rule, **together(np.array(values), apart_together, lead.get(rule))})
    return pd.DataFrame(rows), lead


def together(above: np.ndarray, differences: dict[str, np.ndarray], lead: np.ndarray | None) -> dict[str, float]:
    """The columns of one rule over all families. Arrays are (families, draws + 1); lead: None for ACM itself."""
    row = {**interval_columns("above", describe(inside(over_draws(above)))), **apart_columns(differences)}
    if lead is None:
        return row
    ahead = over_draws(lead)
    row |= interval_columns("lead", describe(inside(ahead)))
    return row | {"detectable": np.nan if statistics.verdict(ahead) == "outside" else 100 * detectable(ahead)}


def draw(records: pd.DataFrame, tasks: list[str], frontier: list[str]) -> Figure:
    """A panel for each family, three in a row: its frontier, and the rules on it."""
    names = list(records["family"].unique())
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.6 * columns, 4.3 * rows), squeeze=False, sharey=True)
    panels = list(grid.flat)
    for axes, family in zip(panels, names, strict=False):
        part = records[(records["family"] == family) & records["task"].isin(tasks)]
        means = part.groupby(["method", "task"])[["correct", "length"]].mean().groupby("method").mean()
        curve = means.loc[[BASE, *frontier, FINETUNED]].sort_values("length")
        axes.plot(curve["length"], 100 * curve["correct"], ".-", color=COLOURS["frontier"], label="frontier")
        for rule, marker, colour in zip(RULES, "Dov", ("acm", "baseline", "control"), strict=True):
            x, y = means.loc[rule, "length"], 100 * means.loc[rule, "correct"]
            axes.plot(x, y, marker, color=COLOURS[colour], ms=8, ls="none", label=rule)
        axes.set(title=family, xlabel="mean length, tokens")
    for axes in panels[len(names) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncol=4)
    return figure


def verdict(table: pd.DataFrame, lead: dict[str, np.ndarray], attempts: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers that it is made of.

    table, lead: of :func:`leads`. attempts: of :func:`against_frontier`, what was tried on the shipped family.
    """
    whole = table[table["family"] == "all"].set_index("rule")
    kept = whole.drop(columns=["family", "accuracy", "length"])
    rules = {rule: {str(column): value for column, value in kept.loc[rule].items()} for rule in RULES}
    families = [family for family in table["family"].unique() if family != "all"]
    outcome = statistics.verdict(over_draws(lead["flat"]))
    columns = ["accuracy", "length", "above", "verdict", "bar", "bar_verdict"]
    tried_so_far = attempts[columns].T.to_dict()
    numbers = {"families": families, "outcome": outcome, "rules": rules, "tried": tried_so_far}
    fresh = "1 fresh family" if len(families) == 1 else f"{len(families)} fresh families"
    if outcome == "outside":
        found = f"Over {fresh} the flat rule's lead over it has no value above the bar"
    else:
        found = f"Over {fresh} the flat rule's lead over it is {words(rules['flat'], 'lead')} points above the bar "
        found += f"({rules['flat']['detectable']:.1f} is the least true lead found in four of five cases)"
    verdicts, over_bar = attempts["verdict"], (attempts["bar_verdict"] == "above").sum()
    accuracy, length = (cell(rules["ramp"], *what, signed=True) for what in (("righter", 1), ("longer", 0)))
    text = (
        f"{HEADS[outcome]} {found}; against their bars ACM is at {words(rules['ACM'], 'above')}, a rising ramp at "
        f"{words(rules['ramp'], 'above')}. On the same items the ramp's accuracy less ACM's is {accuracy} points, its "
        f"length {length} tokens. Of {counted(len(attempts), 'tilt')} tried on the shipped family "
        f"{(verdicts == 'above').sum()} stood above its frontier and {(verdicts == 'below').sum()} below; above the "
        f"bar, its frontier without the points that a shorter one beats, {over_bar or 'none'}."
    )
    return text, numbers


def words(row: Mapping[str, Any], what: str) -> str:
    """A rule's points above the bar, its lead, or another difference, with the interval."""
    return "outside their range" if np.isnan(row[what]) else cell(row, what, 2, signed=True)
