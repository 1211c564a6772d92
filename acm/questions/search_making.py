"""Question 8: which merges are tried on the fresh items of a search; see ``search_trials.py`` for their kinds.

The λ are found on one pair, the source. There the ranks of every quantity are tried, and the best :data:`FIXED` are
taken as they are, a and b included, to every other pair. So the other pairs had no part in choosing them.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from acm.paths import REPORTS, RUNS
from acm.profiles import Profile, load_profile
from acm.questions.rivals_inputs import RULE_SETTINGS
from acm.questions.search import Judged
from acm.questions.search_layers import by_depth, by_ranks, fitted, quantities
from acm.questions.search_trials import Trials, best_points, home_of, layers_of, mean_layers
from acm.records import write_parquet
from acm.searching.profiled import folder_of, search_of

FIXED = 2  # quantities whose rule is taken to other pairs
LAYERS = "layers.parquet"
NO_QUANTITY = ["ACM"]  # a column of the layers' table that is λ, not a quantity


def make(profile_name: str, name: str, source: str, jobs: int = 1) -> pd.DataFrame:
    """Try all merges of a search, and store them beside it; returns their facts.

    source: ``profile/search`` on which the λ were found; the search itself, or another one that has its trials.
    """
    profile = load_profile(profile_name)
    search, folder = search_of(profile, name), home_of(profile.name, name)
    trials = Trials(search, folder_of(profile, name))
    base, finetuned = (model.folders[0] for model in search.plan.models)
    table = known_layers(profile, name, base, finetuned, trials.folder)
    own = f"{profile.name}/{name}" == source
    if own:
        at_home(trials, pd.read_csv(folder / "front.csv"), table)
    else:
        from_elsewhere(trials, source, table)
    rules = {title: spec for title, spec in RULE_SETTINGS.items() if own or title == "ACM"}
    for title in rules:
        if title in table:
            trials.add(title, "rule", dict(table[title]))
    return trials.run(jobs)


def known_layers(profile: Profile, name: str, base: Path, finetuned: Path, folder: Path) -> pd.DataFrame:
    """:func:`quantities` of the search's models, stored as :data:`LAYERS`."""
    experiment = profile.searches[name].experiment or next(iter(profile.experiments))
    measured = folder / "calibration"
    measured.mkdir(parents=True, exist_ok=True)
    chosen = profile.experiment(experiment).calibration
    table = quantities(base, finetuned, profile, chosen, measured, effects_of(profile.name, name))
    write_parquet(table.reset_index(), folder / LAYERS)
    return table


def effects_of(profile: str, name: str) -> pd.DataFrame | None:
    """Question 7's records of single layers of a family; None where it was not asked there."""
    for root in (RUNS, REPORTS):
        if (place := root / profile / "questions" / "scores" / "records.parquet").is_file():
            records = pd.read_parquet(place)
            return records[records["family"] == ("shipped" if name == "abacus" else name)]
    return None


def at_home(trials: Trials, front: pd.DataFrame, table: pd.DataFrame) -> None:
    """The trials of the pair on which the λ were found."""
    best = best_points(front)
    for target, rows in best.items():
        trials.add_back(target, layers_of(rows[0]))
        trials.add(f"mean of the seeds at {target}", "mean", mean_layers(rows), target)
    found = mean_layers(next(iter(best.values())))
    for quantity in table.columns.drop(NO_QUANTITY):
        add_ranks(trials, quantity, table, *fitted(table[quantity], found))


def from_elsewhere(trials: Trials, source: str, table: pd.DataFrame) -> None:
    """The trials of a pair on which no λ were found: the source's λ, and its best rules by rank."""
    home = home_of(*source.split("/"))
    rows = next(iter(best_points(pd.read_csv(home / "front.csv")).values()))
    blocks = trials.search.plan.blocks
    trials.add("best λ, moved", "moved", outside(trials, by_depth(layers_of(rows[0]), blocks)))
    trials.add("mean λ, moved", "moved", outside(trials, by_depth(mean_layers(rows), blocks)))
    there = pd.read_parquet(home / LAYERS).set_index("layer")
    for quantity in fixed(source):
        if quantity in table:
            add_ranks(trials, quantity, table, *fitted(there[quantity], mean_layers(rows)))


def fixed(source: str) -> list[str]:
    """The quantities whose ranks gave the highest lead on the source, among those that lie in the bar's range."""
    judged = Judged(*source.split("/"))
    ranks = judged.trials[judged.trials["kind"] == "ranks"]["trial"]
    leads = pd.Series({name: judged.lead(name)[0] for name in ranks}).dropna().sort_values(ascending=False)
    return [name.removeprefix("ranks of ") for name in leads.index[:FIXED]]


def add_ranks(trials: Trials, quantity: str, table: pd.DataFrame, a: float, b: float) -> None:
    """λ = a + b · rank of a quantity over the layers that have a λ; a where the quantity is not known."""
    genes = list(trials.space.genes)
    known = table[quantity].reindex(genes)
    trials.add(f"ranks of {quantity}", "ranks", dict.fromkeys(genes, a) | by_ranks(known, a, b))


def outside(trials: Trials, layers: dict[str, float]) -> dict[str, float]:
    """λ of every layer that has one; the mean where the source knows none, such as the head of a tied source."""
    mean = sum(layers.values()) / len(layers)
    return dict.fromkeys(trials.space.genes, mean) | layers
