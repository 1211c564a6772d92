"""Question 8: what can be known of the layers of a pair before any search.

quantity                             of a layer
depth                                its place, 0 (embedding) to 1 (head): a control
MI                                   plug-in MI of its activations, nats per entry, mean over texts (the paper's)
MI less shuffled                     the same less its value with one side's entries shuffled
1 − CKA, activation shift            how far its activations moved, mean over texts
norm, relative norm                  ‖δ‖, and ‖δ‖ / ‖θ_0‖
effective rank                       of θ_0 over that of δ
FIM-Merging, sensitivity             λ by these rules
alone: accuracy, length, value       what the fast model gains with this layer of the slow one alone (question 7):
                                     points, tokens, and points less 0.6 for each token

symbol   meaning
r        rank of a quantity over the layers, scaled to −1 … 1
a, b     of λ = a + b · r, fitted to the λ that a search found, by least squares
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from acm.calibration.layer_rules import by_ranks, rule_coefficients
from acm.calibration.task_vectors import sizes
from acm.calibration.texts import texts_hash
from acm.calibration.walk import calibrate
from acm.checkpoints import Checkpoint
from acm.files import write_json
from acm.identity import identity
from acm.profiles import Profile
from acm.profiles.calibration import Calibration
from acm.questions.study import texts_of
from acm.questions.variants import Layers
from acm.reading import read_json
from acm.records import write_parquet
from acm.sources import source_hash

MEASURED = {"MI": "plug-in", "MI less shuffled": "shuffle-corrected", "1 − CKA": "cka", "activation shift": "distance"}
RULES = {"relative norm": "magnitude", "effective rank": "effective_rank", "FIM-Merging": "fim",
         "sensitivity": "sensitivity"}  # fmt: skip
ALONE = ("alone: accuracy", "alone: length", "alone: value")
PRICE = 0.6  # points for a token, as in the search
TABLE, FACTS = "mutual_information.parquet", "measured.json"


def quantities(
    base: Path, finetuned: Path, profile: Profile, chosen: Calibration, folder: Path, effects: pd.DataFrame | None
) -> pd.DataFrame:
    """One row for each layer, in their order, and one column for each quantity; the index is the layer.

    chosen: calibration texts. folder: for the calibration's files. effects: records of question 7 of this family; None
    where it did not ask.
    """
    name = finetuned.name
    means = measured(base, finetuned, profile, chosen, folder)
    columns: dict[str, Any] = {"depth": pd.Series(np.linspace(0, 1, len(means)), means.index)}
    columns |= {title: means[estimator] for title, estimator in MEASURED.items()}
    columns["1 − CKA"] = 1 - columns["1 − CKA"]
    change = {layer: size.change**0.5 for layer, size in sizes(Checkpoint(base), Checkpoint(finetuned)).items()}
    columns["norm"] = pd.Series(change)
    for title, rule in RULES.items():
        read = folder / "sensitivity.json" if rule == "sensitivity" else None
        own = rule_coefficients(rule, base=base, finetuned=[finetuned], sensitivity=read)["coefficients"][name]
        columns[title] = pd.Series(own)
    if effects is not None and len(effects):
        columns |= alone(effects, base.name)
    return pd.DataFrame(columns).loc[means.index].rename_axis("layer")


def measured(base: Path, finetuned: Path, profile: Profile, chosen: Calibration, folder: Path) -> pd.DataFrame:
    """Mean over texts of every estimator by layer, from a calibration; one of the same facts is kept."""
    texts = texts_of(chosen)
    facts = {"models": [identity(base), identity(finetuned)], "texts": texts_hash(texts), "dtype": profile.dtype,
             "source": source_hash("calibration"), "max_tokens": chosen.max_tokens, "seed": profile.seed}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / FACTS).is_file() or read_json(folder / FACTS) != facts:
        found = calibrate(
            base, {finetuned.name: finetuned}, texts, controls=("none",), estimators=tuple(MEASURED.values()),
            seed=profile.seed, dtype=profile.dtype, device=profile.device, max_tokens=chosen.max_tokens,
            statistics=folder, kinds=("sensitivity",),
        )  # fmt: skip
        write_parquet(found, folder / TABLE)
        write_json(folder / FACTS, facts)
    table = pd.read_parquet(folder / TABLE)
    return table.groupby(["layer", "estimator"], sort=False)["value"].mean().unstack()


def alone(records: pd.DataFrame, base: str) -> dict[str, pd.Series]:
    """What the base gains with one layer of the fine-tuned model: layer → points, tokens and value."""
    tasks = records.loc[records["method"].str.startswith("only "), "task"].unique()  # the base was asked others too
    records = records[records["task"].isin(tasks)]
    means = records.groupby(["method", "task"])[["correct", "length"]].mean().groupby("method").mean()
    gains = means[means.index.str.startswith("only ")] - means.loc[base]
    gains.index = gains.index.str.removeprefix("only ")
    points, tokens = 100 * gains["correct"], gains["length"]
    return dict(zip(ALONE, (points, tokens, points - PRICE * tokens), strict=True))


def fitted(values: pd.Series, found: Layers) -> tuple[float, float]:
    """a and b, from the layers that both know. values: of a quantity by layer. found: λ of a search."""
    both = values[[layer for layer in found if layer in values.index and np.isfinite(values[layer])]]
    ranks = by_ranks(dict(both), 0, 1)
    b, a = np.polyfit([*ranks.values()], [found[layer] for layer in ranks], 1)
    return float(a), float(b)
