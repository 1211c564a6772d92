"""Trains fresh families of models: the shipped family's recipe with other seeds, and with other sizes.

What was found on the shipped family is tested on the fresh ones.
``python -m abacus.families`` trains the missing ones into ``runs/abacus/<name>``. After an interruption the same
command continues with the next stage.
"""

from __future__ import annotations

from acm.paths import RUNS

FRESH = {
    "seed-1": {"seed": 1},
    "seed-2": {"seed": 2},
    "narrow": {"seed": 3, "hidden": 96, "layers": 4},
    "deep": {"seed": 4, "layers": 10},
    "wide": {"seed": 5, "hidden": 192},
}
STAGES = ("base", "fast", "slow")
FOLDER = RUNS / "abacus"

if __name__ == "__main__":
    from abacus.training import train_family

    for name, setting in FRESH.items():
        train_family(FOLDER / name, stages=STAGES, **setting)
