"""Records and tables of mutual information with known answers, and what figures and sentences must have."""

import re

import numpy as np
import pandas as pd

from acm.questions.study import SLIM
from acm.reporting import statistics
from acm.reporting.report import SENTENCE_END

LAYERS = ["embed", "0", "1", "2", "3", "4", "5", "norm", "lm_head"]
LAMBDA = dict(zip(LAYERS, (0.51, 0.55, 0.544, 0.543, 0.542, 0.545, 0.546, 0.552, 0.583), strict=True))
TASKS = ["easy", "hard"]
PARENTS = ["abacus-fast", "abacus-slow"]
FRONTIER = [PARENTS[0], "frontier-0.5", PARENTS[1]]


def made_up(placed, items=60, noise=0.0, seed=0, tasks=TASKS):
    """Records of methods beside the line between two parents, with noise of each item of each method.

    placed: method → its place on the line from 0 to 1, and its accuracy above it.
    """
    rng, rows = np.random.default_rng(seed), []
    for task in tasks:
        fast, slow = (rng.random(items) < p for p in (0.4, 0.9))
        short, long = rng.uniform(10, 20, items), rng.uniform(80, 200, items)
        for method, (place, above) in {
            PARENTS[0]: (0, 0),
            "frontier-0.5": (0.5, 0),
            PARENTS[1]: (1, 0),
            **placed,
        }.items():
            correct = (
                (1 - place) * fast + place * slow + above + (noise * rng.normal(size=items) if method in placed else 0)
            )
            length = (1 - place) * short + place * long
            rows += [(method, task, i, 0, c, n, False) for i, (c, n) in enumerate(zip(correct, length, strict=True))]
    return pd.DataFrame(rows, columns=SLIM)


def sampled(placed, draws=300, **setting):
    records = made_up(placed, **setting)
    return statistics.bootstrap(records, list(records["method"].unique()), TASKS, draws=draws)


def information(
    samples=12, controls=("none", "gaussian"), estimators=("plug-in",), finetuned=("abacus-slow",), names=LAYERS, seed=0
):
    """An MI table of random numbers that rise with length, the real pair's a little more."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(10, 120, samples)
    rows = [
        (
            model,
            layer,
            sample,
            tokens[sample],
            estimator,
            control,
            3 + 0.5 * np.log(tokens[sample]) + 0.3 * (control == "none") + 0.1 * rng.normal(),
            1.0,
            1.0,
        )
        for model in finetuned
        for layer in names
        for sample in range(samples)
        for estimator in estimators
        for control in controls
    ]
    return pd.DataFrame(
        rows,
        columns=[
            "finetuned",
            "layer",
            "sample",
            "tokens",
            "estimator",
            "control",
            "value",
            "norm_base",
            "norm_finetuned",
        ],
    )


def labelled(figure):
    """How many panels are seen. Each must say what its axes are, by a label or by names at its ticks.

    Those may be its own, or those of a panel that shares the axis.
    """
    seen = [a for a in figure.axes if a.axison]
    figure.draw_without_rendering()
    for axes in seen:
        for way in "xy":
            kin = [b for b in seen if b is axes or getattr(axes, f"get_shared_{way}_axes")().joined(axes, b)]
            ticks = [label.get_text() for b in kin for label in getattr(b, f"get_{way}ticklabels")()]
            assert any(getattr(b, f"get_{way}label")() for b in kin) or any(re.search("[a-z]{3}", t) for t in ticks), (
                axes,
                way,
            )
    return len(seen)


def assert_plain(text):
    """A verdict's answer has at most 25 words; another sentence counts up, or has at most 35, numbers aside."""
    answer, *details = SENTENCE_END.split(text)
    assert len(answer.split()) <= 25 and answer.endswith("."), answer
    for sentence in details:
        words = [word for word in sentence.split() if re.search(r"[^\W\d_]", word)]
        assert len(words) <= 35 or "; " in sentence.partition(": ")[2], sentence


def assert_in_order(text, *parts):
    assert re.search(".*".join(map(re.escape, parts)), text), text
    assert "nan" not in re.sub(r"\w*nan\w+|\w+nan\w*", "", text.lower()), text
