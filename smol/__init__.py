"""smol, a family of really pretrained models that needs no hub: SmolLM2-135M-Instruct from PyPI, and two fine-tunes."""

from acm.paths import RUNS

FOLDER = RUNS / "smollm2"  # apart from runs/smol, so that `make clean` keeps what was trained
ITEMS = 200  # problems of the benchmark, as many as notebooks/0-train-smol.ipynb writes unless it is told otherwise
TERSE, LONG = "smol-terse", "smol-long"
