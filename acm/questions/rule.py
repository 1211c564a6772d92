"""Question 5: is there a better rule? It was proposed on the shipped family, fixed, and is tested on fresh families.

A family is a base with its fine-tuned models; one is shipped with the repository. On its first edition we tried
coefficients that rise or fall from layer to layer, called tilted (``tilts.py``). None stood above the bar, plain
interpolation without the points that a shorter one beats. So the rule that is tested is ``flat``: every layer gets the
mean of ACM's λ over the blocks. It keeps the level of ACM's λ and drops the differences between layers. A second rule
is tested beside it, ``ramp``: the tilt that did best among the short ones. Both rules were fixed before any fresh
family was evaluated, and before the second edition was made. A third, the tilt :data:`TILT`, is exploratory: it was
chosen after looking at the shipped family's second edition, so only the fresh families test it.

Plain interpolation stands beside the rules. :data:`SINGLE` is the best single λ that other items chose, a rule fixed in
advance; :data:`PLAIN` is a λ that was chosen after looking at fresh families.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from abacus.families import FOLDER, FRESH
from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.walk import calibrate
from acm.errors import UserError
from acm.profiles.experiment import frontier_name
from acm.questions.messages import on_flat
from acm.questions.study import (
    LEAST,
    SLIM,
    Apart,
    Study,
    apart,
    counted,
    evaluate_merge,
    evaluate_model,
    inside,
    joined,
    texts_of,
)
from acm.questions.variants import Layers, line, parted
from acm.reporting import statistics
from acm.reporting.contrast_figures import draw_contrasts
from acm.reporting.dominance import chosen_elsewhere
from acm.reporting.intervals import interval_columns, interval_in
from acm.reporting.statistics import above_bar, average, bootstrap, describe, detectable, over_draws
from acm.reporting.tables import cell

QUESTION = "Is there a rule that beats the paper's?"
BASE, FINETUNED = "abacus-fast", "abacus-slow"
TILT = "tilt (chosen on the shipped family)"
SINGLE = "best single λ (chosen on other items)"
PLAIN = "λ = 0.4 (chosen after looking)"
PLAIN_COEFFICIENT = 0.4
RULES = {  # rule → its name in words
    "ACM": "the paper's rule",
    "flat": "mean of ACM's λ over the blocks, everywhere",
    "ramp": "λ from 0.1 at the first layer to 0.5 at the last",
    TILT: "λ = 0.5 in the last block, the norm and the head, 1 elsewhere",
    SINGLE: "the λ most often right on the other half of the items, among those not longer than ACM there",
    PLAIN: "λ = 0.4 everywhere",
}
SHOWN = {"flat": "flat (ACM's mean λ)", "ramp": "ramp (λ = 0.1 to 0.5)"}  # rule → its name in the figure
RAMP, LATE = (0.1, 0.5), (1.0, 0.5)
HEADS = {  # verdict on the lead of the flat rule over ACM → the answer
    "above": "One λ for all layers, the mean of ACM's, beats the paper's rule on fresh families of models.",
    "below": "The paper's rule beats one λ for all layers, the mean of its own, on fresh families of models.",
    "no difference shown": "One λ for all layers, the mean of ACM's, is not shown to beat the paper's rule on fresh "
    "families of models. Nor is the paper's rule shown to beat that one λ.",
    "outside": "No rule is shown to beat the paper's, because some merges have lengths outside the bar's range.",
}


def flat(layers: Layers) -> Layers:
    """The rule: the mean of ACM's λ over the blocks, in every layer."""
    return dict.fromkeys(layers, float(np.mean([value for layer, value in layers.items() if layer.isdigit()])))


def family_records(study: Study, name: str, folder: Path = FOLDER) -> pd.DataFrame:
    """Records of a fresh family: its parents, its frontier, ACM with its own calibration, and the rules.

    Finished batches are kept. Raises UserError for a family that is not trained.
    """
    base, finetuned = folder / name / BASE, folder / name / FINETUNED
    if not finetuned.is_dir():
        raise UserError(f"the fresh family {name} is not trained; `make families` does it (hours).")
    acm = own_coefficients(study, base, finetuned)
    merges = {frontier_name(x): dict.fromkeys(acm, x) for x in study.setting.frontier}
    merges |= {"ACM": acm, "flat": flat(acm), "ramp": line(acm, *RAMP), TILT: parted(acm, *LATE)}
    place = (study.profile, study.experiment, study.folder)
    found = [evaluate_model(path, *place, path.name) for path in (base, finetuned)]
    models = {"base_model": str(base), "models": [{"model": str(finetuned)}]}
    for method, layers in merges.items():
        recipe = {"merge_method": "task_arithmetic", **models, "coefficients": {FINETUNED: layers}}
        found.append(evaluate_merge(recipe, *place, method))
    return pd.concat(found, ignore_index=True)[SLIM].assign(family=name)


def own_coefficients(study: Study, base: Path, finetuned: Path) -> Layers:
    """ACM's λ of a family, from a calibration of its own with the study's settings."""
    profile, setting, chosen = study.profile, study.setting, study.setting.calibration
    table = calibrate(
        base,
        {FINETUNED: finetuned},
        texts_of(chosen),
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


def with_plain(records: pd.DataFrame, curve: list[str]) -> pd.DataFrame:
    """The records of a family, and those of :data:`SINGLE` and :data:`PLAIN` under these names. curve: frontier."""
    single = chosen_elsewhere(records, "ACM", curve).assign(method=SINGLE)
    plain = records[records["method"] == frontier_name(PLAIN_COEFFICIENT)].assign(method=PLAIN)
    return pd.concat([records, single, plain], ignore_index=True)


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
    above: dict[str, list[np.ndarray]] = {}
    found: dict[str, list[Apart]] = {}
    for family, part in records.groupby("family", sort=False):
        whole = with_plain(part, curve)
        rules = [rule for rule in RULES if rule in set(whole["method"])]
        sample = bootstrap(whole, [*curve, *rules], tasks, seed=seed)
        for rule in rules:
            bar = above_bar(sample, rule, curve)
            above.setdefault(rule, []).append(bar)
            rows.append({
                "family": family,
                "rule": rule,
                "accuracy": 100 * average(sample, rule)[0],
                "length": average(sample, rule, "length")[0],
                **interval_columns("above", describe(inside(bar))),
            })  # fmt: skip
            if rule != "ACM":
                found.setdefault(rule, []).append(apart(sample, [(rule, "ACM")]))
                rows[-1] |= interval_columns("lead", describe(inside(bar - above["ACM"][-1])))
                rows[-1] |= found[rule][-1].columns()
    lead = {rule: np.array(values) - np.array(above["ACM"]) for rule, values in above.items() if rule != "ACM"}
    for rule, values in above.items():
        row = interval_columns("above", describe(inside(over_draws(np.array(values)))))
        row |= together(joined(found[rule]), lead[rule]) if rule in lead else {}
        rows.append({"family": "all", "rule": rule, **row})
    return pd.DataFrame(rows), lead


def together(differences: Apart, lead: np.ndarray) -> dict[str, float]:
    """The columns of one rule less ACM over all families. lead: (families, draws + 1)."""
    ahead = over_draws(lead)
    row = interval_columns("lead", describe(inside(ahead))) | differences.columns()
    return row | {"detectable": np.nan if statistics.verdict(ahead) == "outside" else 100 * detectable(ahead)}


def draw(table: pd.DataFrame) -> Figure:
    """What each rule has more than ACM over all families, and small what it has in each. table: of :func:`leads`."""
    compared = table[table["rule"] != "ACM"]
    whole = compared[compared["family"] == "all"].reset_index(drop=True)
    single = [compared[(compared["family"] != "all") & (compared["rule"] == rule)] for rule in whole["rule"]]
    flat_lead = interval_in(whole[whole["rule"] == "flat"].iloc[0], "lead")
    names = [SHOWN.get(rule, rule) for rule in whole["rule"]]
    return draw_contrasts(on_flat(flat_lead, len(single[0])), whole, names, single, " less ACM's")


def verdict(table: pd.DataFrame, lead: dict[str, np.ndarray], attempts: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """The answer in words, and the numbers that it is made of.

    table, lead: of :func:`leads`. attempts: of :func:`acm.questions.tilts.against_frontier`, what was tried on the
    shipped family.
    """
    whole = table[table["family"] == "all"].set_index("rule").drop(columns=["family", "accuracy", "length"])
    rules = {str(rule): {str(column): value for column, value in row.items()} for rule, row in whole.iterrows()}
    families = [family for family in table["family"].unique() if family != "all"]
    counts = {rule: in_families(table[(table["rule"] == rule) & (table["family"] != "all")]) for rule in lead}
    outcome = statistics.verdict(over_draws(lead["flat"]))
    columns = ["accuracy", "length", "above", "verdict", "bar", "p_adjusted", "bar_verdict"]
    numbers = {"families": families, "outcome": outcome, "rules": rules, "in_families": counts}
    numbers["tried"] = attempts[columns].T.to_dict()
    n = len(families)
    ramp, single = (
        f"is shown to be shorter than ACM in {among(counts[rule], 'shorter', n)} and less often right in "
        f"{among(counts[rule], 'lost', n)}"
        for rule in ("ramp", SINGLE)
    )
    text = (
        f"{HEADS[outcome]} On the same items of {fresh(n)} a ramp fixed in advance {ramp}. The best single λ of other "
        f"items {single}. That single λ is hardly ever longer than ACM, because of how it is chosen. The rules: "
        f"{'; '.join(f'{rule}: {RULES[rule]}' for rule in rules)}. {above_the_bar(rules, outcome, n)} On the same "
        f"items, with the number of families where a difference is shown, accuracy and length minus ACM's: "
        f"{'; '.join(on_the_same_items(rule, rules[rule], counts[rule], n) for rule in lead)}. These intervals and "
        f"counts are not adjusted. {of_tilts(attempts)}"
    )
    return text, numbers


def in_families(rows: pd.DataFrame) -> dict[str, int]:
    """In how many families a rule is shorter than ACM, and loses or gains accuracy, by intervals that exclude 0."""
    return {
        "shorter": int((rows["longer_high"] < 0).sum()),
        "lost": int((rows["righter_high"] < 0).sum()),
        "gained": int((rows["righter_low"] > 0).sum()),
    }


def among(counts: dict[str, int], what: str, families: int) -> str:
    """``all``, ``none``, ``1 of 5``."""
    return {0: "none", families: "all"}.get(counts[what]) or f"{counts[what]} of {families}"


def above_the_bar(rules: dict[str, dict[str, Any]], outcome: str, families: int) -> str:
    """The lead of the flat rule, and where the rules stand, in sentences."""
    found = f"Over {fresh(families)} flat has no lead over ACM, because some lengths lie outside the bar's range."
    if outcome != "outside":
        found = (
            f"Over {fresh(families)} flat lies {words(rules['flat'], 'lead')} points farther above the bar than ACM. "
            f"The {LEAST} is {rules['flat']['detectable']:.1f} points."
        )
    stand = "; ".join(f"{rule} {words(row, 'above') if row['above'] else 'on the bar'}" for rule, row in rules.items())
    return f"{found} Points above the bar, mean over families: {stand}."


def fresh(families: int) -> str:
    """How many fresh families, in words."""
    return "1 fresh family" if families == 1 else f"{families} fresh families"


def on_the_same_items(rule: str, row: dict[str, Any], counts: dict[str, int], families: int) -> str:
    """What a rule's accuracy and length are less ACM's, and in how many families which is shown."""
    points, tokens = (cell(row, *what, signed=True) for what in (("righter", 1), ("longer", 1)))
    shorter, lost, gained = (among(counts, what, families) for what in ("shorter", "lost", "gained"))
    shown = f"shorter in {shorter}, less often right in {lost}, more often in {gained}"
    return f"{rule} {points} points, {tokens} tokens ({shown})"


def of_tilts(attempts: pd.DataFrame) -> str:
    """How many of the tilts that were tried stand above the frontier and the bar, in sentences."""
    verdicts, bar = attempts["verdict"], attempts["bar_verdict"]
    over, under = ((bar == word).sum() or "none" for word in ("above", "below"))
    return (
        f"A tilt has λ that rise, fall or part from layer to layer. Of {counted(len(attempts), 'tilt')} tried on the "
        f"shipped family {(verdicts == 'above').sum()} lie above plain "
        f"interpolation of the same length and {(verdicts == 'below').sum()} below. Above the bar lie {over} of "
        f"these tilts and below the bar {under}, adjusted together by Holm."
    )


def words(row: Mapping[str, Any], what: str) -> str:
    """A rule's points above the bar, its lead, or another difference, with the interval."""
    return "outside the bar's range" if np.isnan(row[what]) else cell(row, what, 2, signed=True)
