"""Figures from synthetic frames: the right points are drawn and no labels overlap."""

import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest

from acm.reporting import figures, statistics
from acm.reporting.plotting import save_figure, use_theme

matplotlib.use("Agg")
LEVELS = {
    "fast": 0.0,
    "slow": 1.0,
    "TA": 0.7,
    "ACM-TA": 0.69,
    "Null-TA": 0.68,
    "frontier-0.3": 0.3,
    "frontier-0.7": 0.7,
}


@pytest.fixture(scope="module")
def records():
    rng, rows = np.random.default_rng(0), []
    for (method, level), task, item in itertools.product(LEVELS.items(), ("a", "b"), range(40)):
        right, length = rng.random() < 0.3 + 0.6 * level, 20 + 100 * level + rng.normal()
        rows.append((method, task, item, float(right), length, int(rng.random() < level), 1 + item % 3))
    return pd.DataFrame(rows, columns=["method", "task", "item", "correct", "length", "reflections", "steps"])


@pytest.fixture(scope="module")
def sample(records):
    use_theme()
    return statistics.bootstrap(records, list(LEVELS), ["a", "b"], draws=200)


def test_trade_off_labels_every_method_once_and_none_overlap(sample):
    frontier = ["fast", "frontier-0.3", "frontier-0.7", "slow"]
    figure = figures.trade_off(sample, ["TA", "ACM-TA", "Null-TA"], ["fast", "slow"], frontier, "slow")
    figure.canvas.draw()
    for axes, names in zip(figure.axes, ({"fast", "slow"}, {"TA", "ACM-TA", "Null-TA"}), strict=True):
        assert sorted(t.get_text() for t in axes.texts) == sorted(names)
        boxes = [t.get_window_extent() for t in axes.texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("reference", ["DeepSeek-R1-Distill-Qwen-7B", "a model of three dozen letters, $x$"])
def test_a_long_name_leaves_the_label_of_the_axis_whole(records, reference):
    use_theme()
    renamed = statistics.bootstrap(records.replace({"slow": reference}), ["fast", reference, "TA"], ["a", "b"], draws=9)
    figure = figures.trade_off(renamed, ["TA"], ["fast", reference], ["fast"], reference)
    figure.canvas.draw()
    for axes in figure.axes:
        assert figure.bbox.containsx(axes.xaxis.label.get_window_extent().x1)


def test_scaling_sweep_draws_accuracy_and_length(sample):
    figure = figures.scaling_sweep(sample, {0.3: "frontier-0.3", 0.7: "frontier-0.7"})
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([100 * statistics.average(sample, m)[0] for m in ("frontier-0.3", "frontier-0.7")])
    lengths = figure.axes[1].lines[0].get_ydata()
    assert list(lengths) == pytest.approx(
        [statistics.average(sample, m, "length")[0] for m in ("frontier-0.3", "frontier-0.7")]
    )


def test_by_steps_has_three_panels_of_all_methods(records):
    figure = figures.by_steps(records, ["fast", "slow", "TA"])
    assert [a.get_ylabel() for a in figure.axes] == ["length, tokens", "accuracy, %", "reflecting responses, %"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["fast", "slow", "TA"]


def test_coefficients_show_the_real_pair_beside_both_nulls():
    rng = np.random.default_rng(1)
    cells = itertools.product(("x", "y"), ("embed", "0", "lm_head"), range(5), ("none", "shuffled", "gaussian"))
    table = pd.DataFrame([(f, layer, s, "plug-in", c, rng.random()) for f, layer, s, c in cells],
                         columns=["finetuned", "layer", "sample", "estimator", "control", "value"])  # fmt: skip
    figure = figures.coefficients_by_layer(table)
    assert len(figure.axes) == 6 and all(len(a.lines) == 3 for a in figure.axes)
    strips = figures.coefficient_strips({"x": {"embed": 0.5, "0": 0.6}, "y": {"embed": 0.7, "0": 0.8}})
    assert [t.get_text() for t in strips.axes[0].texts] == ["0.500", "0.600", "0.700", "0.800"]


def test_a_saved_figure_has_a_caption_and_the_same_bytes_twice(sample, tmp_path):
    for name in ("one", "two"):
        save_figure(
            figures.scaling_sweep(sample, {0.3: "frontier-0.3"}), tmp_path / name / "sweep", "caption", {"n": 40}
        )
    for kind in ("svg", "png", "json"):
        assert (tmp_path / "one" / f"sweep.{kind}").read_bytes() == (tmp_path / "two" / f"sweep.{kind}").read_bytes()
