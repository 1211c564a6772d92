"""Trains fresh families of models: the shipped family's recipe with other seeds, and with other sizes.

What was found on the shipped family is tested on the fresh ones.
``python -m abacus.families`` trains the missing ones into ``runs/abacus/<name>``. After an interruption the same
command continues with the next stage. On a GPU: ``python -m abacus.families deep wide --device cuda``.
"""

from __future__ import annotations

import argparse

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

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="family", help=f"of {', '.join(FRESH)}; default: all")
    parser.add_argument("--device", default="cpu", help="torch device, such as cuda; default: cpu")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in FRESH]:
        parser.error(f"there is no family {unknown[0]}; give one of {', '.join(FRESH)}.")
    for name in asked.names or FRESH:
        train_family(FOLDER / name, stages=STAGES, device=asked.device, **FRESH[name])
