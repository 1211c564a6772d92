"""Question 8: which merges are tried on the fresh items of a search; see ``search_trials.py`` for their kinds.

The λ are found on one pair, the source. There the ranks of every quantity are tried, and the best :data:`FIXED` are
taken as they are, a and b included, to every other pair. They are chosen on fresh items of the source that no search of
another pair asks. So the other pairs, and their fresh items, had no part in choosing them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from acm.calibration.layer_rules import by_depth, by_ranks, rule_coefficients
from acm.calibration.rules import RULES
from acm.errors import UserError
from acm.paths import REPORTS, RUNS
from acm.profiles import Profile, load_profile
from acm.questions.rivals_inputs import RULE_SETTINGS
from acm.questions.search import Judged
from acm.questions.search_layers import TABLE, fitted, quantities
from acm.questions.search_nulls import BEST
from acm.questions.search_points import LAYERS, MOVED, RANKS, coarser, home_of, same_pair, was_run
from acm.questions.search_trials import Trials
from acm.questions.study import inside
from acm.questions.variants import Layers
from acm.records import write_parquet
from acm.searching.front import front_of
from acm.searching.points import FRONT, best_points, experiment_of, layers_of, mean_layers, models_of, point_of
from acm.searching.profiled import folder_of, search_of

FIXED = 2  # quantities whose rule is taken to other pairs


def make(profile_name: str, name: str, source: str, jobs: int = 1, nulls: bool = True) -> pd.DataFrame:
    """Try all merges of a search, and store them beside it; returns their facts.

    source: ``profile/search`` on which the λ were found; the search itself, or another one that has its trials.
    nulls: whether null merges are tried too, which are most of the trials of another pair.
    UserError for a search of which the trials cannot be made.
    """
    profile = load_profile(profile_name)
    check_triable(profile, name)
    trials = Trials(search_of(profile, name), folder_of(profile, name), nulls)
    front = pd.read_csv(trials.folder / FRONT)
    add_plain(trials, front)
    base, finetuned = (model.folders[0] for model in trials.search.plan.models)
    table = known_layers(profile, name, base, finetuned, trials.folder)
    own = f"{profile.name}/{name}" == source
    if own:
        at_home(trials, front, table)
    elif not same_pair(profile, name, source):
        from_elsewhere(trials, source, table)
    for title, layers in rule_sets(profile, name, base, finetuned, trials.folder, own).items():
        trials.add(title, "rule", layers)
    return trials.run(jobs)


def check_triable(profile: Profile, name: str) -> None:
    """UserError for a search that has no λ for every layer of one fine-tuned model, or no fresh items."""
    block, (_, models) = profile.searches[name], models_of(profile, name)
    if block.genome not in (None, "layer") or block.also or len(models) != 1 or block.fresh_items is None:
        raise UserError(
            f"trials of search {name} cannot be made: they need genome layer, no `also`, one fine-tuned model and "
            "fresh_items."
        )


def add_plain(trials: Trials, front: pd.DataFrame) -> None:
    """The points of plain interpolation's front that were not judged: without them the bar would be too low."""
    candidates = pd.read_parquet(trials.folder / "candidates.parquet")
    judged = set(front.loc[front["arm"] == "one", "candidate"])
    for _, row in front_of(candidates[candidates["arm"] == "one"]).iterrows():
        if row["candidate"] not in judged:
            trials.add(point_of(row), "one", dict.fromkeys(trials.space.genes, row["λ"]))


def known_layers(profile: Profile, name: str, base: Path, finetuned: Path, folder: Path) -> pd.DataFrame:
    """:func:`quantities` of the search's models, stored as :data:`LAYERS`."""
    chosen = experiment_of(profile, name).calibration
    table = quantities(base, finetuned, profile, chosen, folder / "calibration", effects_of(profile.name, name))
    write_parquet(table.reset_index(), folder / LAYERS)
    return table


def effects_of(profile: str, name: str) -> pd.DataFrame | None:
    """Question 7's records of single layers of a family; None where it was not asked there."""
    for root in (RUNS, REPORTS):
        if (place := root / profile / "questions" / "scores" / "records.parquet").is_file():
            records = pd.read_parquet(place)
            return records[records["family"] == ("shipped" if name == "abacus" else name)]
    return None


def rule_sets(
    profile: Profile, name: str, base: Path, finetuned: Path, folder: Path, every: bool
) -> dict[str, dict[str, float]]:
    """λ by layer rules, as question 6 names them; ACM's alone where not every rule is asked for."""
    measured, found = folder / "calibration", {}
    e = experiment_of(profile, name)
    models: dict[str, Any] = {"base": base, "finetuned": [finetuned]}
    for title, (rule, given) in RULE_SETTINGS.items():
        if every or title == "ACM":
            needs = RULES[rule].needs
            own = {"table": measured / TABLE} if "table" in needs else models
            own = own | ({"sensitivity": measured / "sensitivity.json"} if "sensitivity" in needs else {})
            settings = {"t": e.t, "estimator": e.estimator} | given if rule == "acm" else given
            found[title] = rule_coefficients(rule, settings, **own)["coefficients"][finetuned.name]
    return found


def at_home(trials: Trials, front: pd.DataFrame, table: pd.DataFrame) -> None:
    """The trials of the pair on which the λ were found."""
    best = best_points(front)
    for target, rows in best.items():
        trials.add_back(target, layers_of(rows[0]))
        trials.add_nulls(f"{BEST}{target}", layers_of(rows[0]), target)
        trials.add(f"mean of the seeds at {target}", "mean", mean_layers(rows), target)
    found = mean_layers(next(iter(best.values())))
    for quantity in table:
        add_ranks(trials, str(quantity), table, *fitted(table[quantity], found))


def from_elsewhere(trials: Trials, source: str, table: pd.DataFrame) -> None:
    """The trials of a pair on which no λ were found: the source's λ, its coarser searches', and its best ranks."""
    home, own = source.split("/")
    genes, searches = [*trials.space.genes], [own, *coarser(load_profile(home), source)]
    for name in filter(lambda name: was_run(home, name), searches):
        rows = next(iter(best_points(pd.read_csv(home_of(home, name) / FRONT)).values()))
        of = "" if name == own else f" of {name}"
        for title, layers in ((f"best λ{of}{MOVED}", layers_of(rows[0])), (f"mean λ{of}{MOVED}", mean_layers(rows))):
            moved = trials.within(by_depth(layers, genes))
            trials.add(title, "moved", moved)
            if name == own:
                trials.add_nulls(title, moved)
    found = mean_layers(next(iter(best_points(pd.read_csv(home_of(home, own) / FRONT)).values())))
    there = pd.read_parquet(home_of(home, own) / LAYERS).set_index("layer")
    for quantity in fixed(source):
        if quantity in table:
            layers = add_ranks(trials, quantity, table, *fitted(there[quantity], found))
            trials.add_nulls(f"{RANKS}{quantity}", layers)


def fixed(source: str) -> list[str]:
    """The quantities whose ranks gave the highest lead on the source, on items that no search of another pair asks."""
    home, name = source.split("/")
    profile = load_profile(home)
    others = [block for own, block in profile.searches.items() if not same_pair(profile, own, source)]
    asked = max([block.fresh_items[1] for block in others if block.fresh_items], default=0)
    judged = Judged(home_of(home, name), asked)
    leads = {row: inside(judged.lead(row))[0] for row in judged.trials.query("kind == 'ranks'")["trial"]}
    order = pd.Series(leads).dropna().sort_values(ascending=False, kind="stable")
    return [row.removeprefix(RANKS) for row in order.index[:FIXED]]


def add_ranks(trials: Trials, quantity: str, table: pd.DataFrame, a: float, b: float) -> Layers:
    """λ = a + b · rank of a quantity over the layers that have a λ; a where the quantity is not known."""
    genes = list(trials.space.genes)
    known = table[quantity].reindex(genes)
    layers = trials.within(dict.fromkeys(genes, a) | by_ranks(dict(known.dropna()), a, b))
    trials.add(f"{RANKS}{quantity}", "ranks", layers)
    return layers
