"""A profile with made-up records of the pipeline, and a study of it."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from acm.questions.study import SLIM, Study

PROFILE = """
items: 3
batch_size: 3
max_tokens: 16
dtype: float32
experiments:
  long-to-short:
    base: abacus/checkpoints/abacus-fast
    finetuned: [abacus/checkpoints/abacus-slow]
    reference: abacus-slow
    tasks: [abacus_easy]
    calibration: {texts: abacus/benchmarks/calibration_problems.jsonl, clusters: 2, per_cluster: 2}
    frontier: [0.5]
    methods:
      ACM-TA: {merge_method: task_arithmetic, coefficients: none}
  general:
    base: abacus/checkpoints/abacus-base
    finetuned: [abacus/checkpoints/abacus-sums, abacus/checkpoints/abacus-words]
    reference: abacus-base
    tasks: [abacus_sums]
    calibration: {texts: abacus/benchmarks/calibration_skills.jsonl, clusters: 2, per_cluster: 2}
    shift: global
    frontier: [0.5]
    methods:
      ACM-TA: {merge_method: task_arithmetic, coefficients: none}
"""


@pytest.fixture(autouse=True)
def closed_figures():
    """No figure outlives its test."""
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A profile with made-up records of the pipeline; its runs go to a folder of the test."""
    place = tmp_path_factory.mktemp("questions")
    (place / "mini.yaml").write_text(PROFILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("acm.profiles.RUNS", place / "runs")
        for experiment, task in (("long-to-short", "abacus_easy"), ("general", "abacus_sums")):
            setting = Study(str(place / "mini.yaml"), experiment, "none").setting
            records = place / "runs" / "mini" / experiment / "records"
            records.mkdir(parents=True)
            for k, name in enumerate([*setting.parents, *setting.method_names]):
                rows = [(name, task, i, 0, float(i < k), 10 * (k + 1) + i, False, "{}") for i in range(3)]
                pd.DataFrame(rows, columns=[*SLIM, "setting"]).to_parquet(records / f"{name}.parquet")
        yield place


@pytest.fixture
def quick(folder):
    """A study named ``quick`` of the first experiment."""
    return Study(str(folder / "mini.yaml"), "long-to-short", "quick")
