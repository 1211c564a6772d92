"""Question 5: is there a better rule? Proposed on the shipped family, fixed, and tested on families that no one has looked at.

On the shipped family tilted coefficients were tried (:func:`tried`): none stood above plain interpolation where that is monotone. So the
rule that goes to the test is ``flat``, the mean of ACM's λ over the blocks everywhere, which drops what is layer-wise in ACM and keeps its
level; beside it ``ramp``, the tilt that did best below 118 tokens. Both were fixed before any fresh family was evaluated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from abacus.families import FOLDER, FRESH
from acm import calibrate, evaluate
from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.texts import read_texts, select_texts
from acm.errors import UserError
from acm.questions.study import SLIM, Study, counted, evaluate_merge, inside
from acm.questions.variants import Layers
from acm.reporting import statistics
from acm.reporting.intervals import interval_columns
from acm.reporting.plotting import COLOURS
from acm.reporting.statistics import above_bar, above_frontier, average, bootstrap, describe, detectable, over_draws
from acm.reporting.tables import cell

QUESTION = "Is there a rule that beats the paper's?"
BASE, FINETUNED = "abacus-fast", "abacus-slow"
RULES = {
    "ACM": "the paper's rule",
    "flat": "mean of ACM's λ over the blocks, everywhere",
    "ramp": "λ from 0.1 at the first layer to 0.5 at the last",
}
RAMP = (0.1, 0.5)


def flat(layers: Layers) -> Layers:
    """The rule: the mean of ACM's λ over the blocks, in every layer."""
    return dict.fromkeys(layers, float(np.mean([value for layer, value in layers.items() if layer.isdigit()])))


def line(layers: Layers, first: float, last: float) -> Layers:
    """λ along a straight line over the layers in their order, cut to [0, 1]."""
    return dict(zip(layers, map(float, np.clip(np.linspace(first, last, len(layers)), 0, 1)), strict=True))


def parted(layers: Layers, early: float, late: float, head: float | None = None) -> Layers:
    """``late`` in the last block and the norm, ``head`` (None: as ``late``) in the head, ``early`` elsewhere."""
    last = max((layer for layer in layers if layer.isdigit()), key=int)
    return dict.fromkeys(layers, early) | {last: late, "norm": late, "lm_head": late if head is None else head}


def tried(layers: Layers) -> dict[str, Layers]:
    """What was tried on the shipped family before the rule was fixed."""
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


def against_frontier(sample: statistics.Sample, names: list[str], frontier: list[str]) -> pd.DataFrame:
    """Accuracy, length and points above the frontier and above the bar of each merge, with 95 % intervals over items."""
    rows = {}
    for name in names:
        above, bar = (f(sample, name, frontier) for f in (above_frontier, above_bar))
        rows[name] = {"accuracy": 100 * average(sample, name)[0], "length": average(sample, name, "length")[0],
                      **interval_columns("above", describe(inside(above))), "verdict": statistics.verdict(above),
                      **interval_columns("bar", describe(inside(bar))), "bar_verdict": statistics.verdict(bar)}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def family_records(study: Study, name: str, folder: Path = FOLDER) -> pd.DataFrame:
    """Records of a fresh family: its parents, its frontier, ACM with its own calibration, and the rules. Batches are kept."""
    base, finetuned = folder / name / BASE, folder / name / FINETUNED
    if not finetuned.is_dir():
        raise UserError(f"the fresh family {name} is not trained; `make families` does it (hours).")
    profile, chosen = study.profile, study.setting.calibration
    texts = select_texts(read_texts(chosen.source, chosen.field), chosen.clusters, chosen.per_cluster, chosen.seed)
    table = calibrate(base, {FINETUNED: finetuned}, texts, ("none",), (study.setting.estimator,), profile.seed, profile.dtype, profile.device,
                      max_tokens=chosen.max_tokens)  # fmt: skip
    acm = coefficients_from_table(table, study.setting.t, study.setting.shift, estimator=study.setting.estimator)[
        FINETUNED
    ]
    merges = {f"frontier-{x:g}": dict.fromkeys(acm, x) for x in study.setting.frontier}
    merges |= {"ACM": acm, "flat": flat(acm), "ramp": line(acm, *RAMP)}
    setting = profile.evaluation(study.experiment) | {"keep": study.folder / "batches"}
    found = [
        evaluate(path, tasks, repeat=repeat, labels={"method": path.name}, **setting)
        for path in (base, finetuned)
        for tasks, repeat in study.setting.calls()
    ]
    for method, layers in merges.items():
        recipe = {
            "merge_method": "task_arithmetic",
            "base_model": str(base),
            "models": [{"model": str(finetuned)}],
            "coefficients": {FINETUNED: layers},
        }
        found.append(evaluate_merge(recipe, profile, study.experiment, study.folder, method))
    return pd.concat(found, ignore_index=True)[SLIM].assign(family=name)


def trained(folder: Path = FOLDER) -> list[str]:
    """The fresh families that are there; UserError if none is."""
    found = [name for name in FRESH if (folder / name / FINETUNED).is_dir()]
    if not found:
        raise UserError(f"no fresh family is trained in {folder}; `make families` does it (hours).")
    return found


def leads(
    records: pd.DataFrame, tasks: list[str], frontier: list[str], seed: int
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Points above the frontier by family and rule, and the lead of each rule over ACM; the last rows hold all families.

    All families: mean, intervals over items and families. Returns the lead of each rule too, (families, draws + 1).
    """
    curves = [BASE, *frontier, FINETUNED]
    rows, residuals = [], {rule: [] for rule in RULES}
    for family, part in records.groupby("family", sort=False):
        sample = bootstrap(part, [*curves, *RULES], tasks, seed=seed)
        for rule in RULES:
            above = above_frontier(sample, rule, curves)
            residuals[rule].append(above)
            rows.append({"family": family, "rule": rule, "accuracy": 100 * average(sample, rule)[0], "length": average(sample, rule, "length")[0],
                         **interval_columns("above", describe(inside(above))), **interval_columns("lead", describe(inside(above - residuals["ACM"][-1])))})  # fmt: skip
    lead = {rule: np.array(values) - np.array(residuals["ACM"]) for rule, values in residuals.items() if rule != "ACM"}
    for rule, values in residuals.items():
        rows.append(
            {"family": "all", "rule": rule, **interval_columns("above", describe(inside(over_draws(np.array(values)))))}
        )
        if rule in lead:
            ahead = over_draws(lead[rule])
            rows[-1] |= interval_columns("lead", describe(inside(ahead))) | {
                "detectable": np.nan if statistics.verdict(ahead) == "outside" else 100 * detectable(ahead)
            }
    return pd.DataFrame(rows), lead


def draw(records: pd.DataFrame, tasks: list[str], frontier: list[str]) -> Figure:
    """A panel for each family: its frontier, and the rules on it."""
    names = list(records["family"].unique())
    figure, panels = plt.subplots(1, len(names), figsize=(4.6 * len(names), 4.3), squeeze=False, sharey=True)
    for axes, family in zip(panels[0], names, strict=True):
        part = records[(records["family"] == family) & records["task"].isin(tasks)]
        means = part.groupby(["method", "task"])[["correct", "length"]].mean().groupby("method").mean()
        curve = means.loc[[BASE, *frontier, FINETUNED]].sort_values("length")
        axes.plot(curve["length"], 100 * curve["correct"], ".-", color=COLOURS["frontier"], label="frontier")
        for rule, marker, colour in zip(RULES, "Dov", ("acm", "baseline", "control"), strict=True):
            axes.plot(
                means.loc[rule, "length"],
                100 * means.loc[rule, "correct"],
                marker,
                color=COLOURS[colour],
                ms=8,
                ls="none",
                label=rule,
            )
        axes.set(title=family, xlabel="mean length, tokens")
    panels[0, 0].set_ylabel("accuracy, %")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncol=4)
    return figure


def verdict(table: pd.DataFrame, lead: dict[str, np.ndarray], attempts: pd.DataFrame) -> tuple[str, dict]:
    """The answer in words, and the numbers it is made of."""
    whole = table[table["family"] == "all"].set_index("rule")
    families = [f for f in table["family"].unique() if f != "all"]
    outcome = statistics.verdict(over_draws(lead["flat"]))
    head = {
        "above": "Yes, the plainest: one λ for all layers beats the paper's on fresh families.", "below": "No: the paper's rule beats one λ for all layers on fresh families.",
        "no difference shown": "None shown: on fresh families one λ for all layers cannot be told from the paper's.", "outside": "Undecided: the lengths lie outside the frontier.",
    }[outcome]  # fmt: skip
    fresh = "1 fresh family" if len(families) == 1 else f"{len(families)} fresh families"
    numbers = {"families": families, "outcome": outcome, "rules": whole.drop(columns=["family", "accuracy", "length"]).T.to_dict(),
               "tried": attempts[["accuracy", "length", "above", "verdict", "bar", "bar_verdict"]].T.to_dict()}  # fmt: skip

    def words(rule: str, what: str) -> str:
        r = whole.loc[rule]
        return "outside their range" if np.isnan(r[what]) else cell(r, what, 2, signed=True)

    found = (
        f"Over {fresh} the flat rule's lead over it has no value at equal length" if outcome == "outside" else
        f"Over {fresh} the flat rule's lead over it is {words('flat', 'lead')} points at equal length ({whole.loc['flat', 'detectable']:.1f} is the least true "
        "lead found in four of five cases)"
    )  # fmt: skip
    text = (
        f"{head} {found}; against their frontiers ACM is at {words('ACM', 'above')}, a rising ramp at {words('ramp', 'above')}. "
        f"Of {counted(len(attempts), 'tilt')} tried on the shipped family {(attempts['verdict'] == 'above').sum()} stood above its frontier and "
        f"{(attempts['verdict'] == 'below').sum()} below; above the bar, its frontier without the points that a shorter one beats, "
        f"{(attempts['bar_verdict'] == 'above').sum() or 'none'}."
    )  # fmt: skip
    return text, numbers
