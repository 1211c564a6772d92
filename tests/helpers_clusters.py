"""A clone with a small profile of the paper's kind for the tests of clusters: on a GPU, with two repeats."""

import os
import time

import yaml
from helpers import clone

from acm.calibration.registry import COEFFICIENT_SETS
from acm.paths import ROOT
from acm.profiles import load_profile
from acm.records import coefficients_name

NAME, EXPERIMENT = "sent", "long-to-short"


def prepare(folder, jobs):
    """A clone whose calibration is done (its files are empty), and its profile. jobs: the profile's."""
    content = yaml.safe_load((ROOT / "tests" / "slurm" / "femto.yaml").read_text())
    source = folder / f"{NAME}.yaml"
    source.write_text(yaml.safe_dump(content | {"device": "cuda", "jobs": jobs}))
    place = clone(folder / "clone", source)
    later = time.time() + 600  # than the manifest that Snakemake writes
    run = place / "runs" / NAME
    names = [
        f"{EXPERIMENT}/{name}" for name in ("mutual_information.parquet", *map(coefficients_name, COEFFICIENT_SETS))
    ]
    for name in [*names, *(f"notebooks/{EXPERIMENT}/{step}.ipynb" for step in ("1-calibrate", "2-coefficients"))]:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).touch()
        os.utime(run / name, (later, later))
    return place, load_profile(str(source))
