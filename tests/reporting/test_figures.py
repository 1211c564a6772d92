"""Figures from synthetic frames: the right points are drawn and no labels overlap."""

import itertools
import json

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from acm.profiles import load_profile
from acm.reporting import figures, statistics
from acm.reporting.plotting import COLOURS, save_figure, use_theme
from acm.reporting.results import Results
from acm.reporting.sweep_figures import apart
from acm.reporting.trade_off_figures import point

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


def labels(axes):
    """The texts in a panel, without the mark that says which way is better."""
    return [text for text in axes.texts if text.get_gid() != "better"]


def test_trade_off_labels_every_method_once_and_none_overlap(sample):
    frontier = ["fast", "frontier-0.3", "frontier-0.7", "slow"]
    figure = figures.trade_off(sample, ["TA", "ACM-TA", "Null-TA"], ["fast", "slow"], frontier, "slow")
    figure.canvas.draw()
    (axes,) = figure.axes
    named = [name for text in labels(axes) for name in text.get_text().replace("\n", " ").split(", ")]
    curve = ["plain interpolation", "λ swept"]
    assert sorted(named) == sorted(["fast", "slow", "TA", "ACM-TA", "Null-TA", *curve])
    boxes = [t.get_window_extent() for t in labels(axes)]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_methods_whose_marks_would_overlap_have_one_of_both_colours(records):
    twins = pd.concat([records, records[records["method"] == "TA"].assign(method="Null-TA")])
    twins = twins.drop_duplicates(["method", "task", "item"], keep="last")
    found = statistics.bootstrap(twins, list(LEVELS), ["a", "b"], draws=9)
    (axes,) = figures.trade_off(found, ["TA", "Null-TA"], ["fast", "slow"], ["fast", "slow"], "slow").axes
    mark = next(line for line in axes.lines if line.get_gid() == "Null-TA, TA")
    expected = point(found, "TA", "slow")
    assert [mark.get_xdata()[0], mark.get_ydata()[0]] == pytest.approx([expected["x"], expected["y"]])
    assert {mark.get_markerfacecolor(), mark.get_markerfacecoloralt()} == {COLOURS["control"], COLOURS["baseline"]}
    assert not any(line.get_gid() in ("TA", "Null-TA") for line in axes.lines)


def test_all_experiments_have_the_same_axes(sample):
    for frontier in (["fast", "slow"], ["fast", "frontier-0.7", "slow"]):
        (axes,) = figures.trade_off(sample, ["ACM-TA"], ["fast", "slow"], frontier, "slow").axes
        assert (axes.get_xlim(), axes.get_ylim()) == ((-5, 90), (0, 108))


def test_accuracy_stands_alone_where_lengths_are_alike(records):
    found = statistics.bootstrap(records.assign(length=50.0), list(LEVELS), ["a", "b"], draws=200)
    frontier = ["fast", "frontier-0.3", "frontier-0.7"]
    figure = figures.trade_off(found, ["TA", "ACM-TA"], ["fast", "slow"], frontier, "slow")
    (axes,) = figure.axes
    rows = [tick.get_text() for tick in axes.get_yticklabels()]
    names = {"fast", "slow", "TA", "ACM-TA", "frontier-0.3", "frontier-0.7"}
    by_accuracy = sorted(names, key=lambda m: statistics.average(found, m)[0])
    assert rows == [name.replace("frontier-", "single λ = ") for name in by_accuracy]
    assert figure.get_label().startswith("No difference is shown between a single λ = 0.7")


@pytest.mark.parametrize("reference", ["DeepSeek-R1-Distill-Qwen-7B", "a model of three dozen letters, $x$"])
def test_a_long_name_leaves_the_label_of_the_axis_whole(records, reference):
    use_theme()
    renamed = statistics.bootstrap(records.replace({"slow": reference}), ["fast", reference, "TA"], ["a", "b"], draws=9)
    figure = figures.trade_off(renamed, ["TA"], ["fast", reference], ["fast"], reference)
    figure.canvas.draw()
    for axes in figure.axes:
        assert figure.bbox.containsx(axes.xaxis.label.get_window_extent().x1)


def test_scaling_sweep_draws_accuracy_and_length_in_panels_of_their_own(sample):
    names = ["frontier-0.3", "frontier-0.7"]
    upper, lower = figures.scaling_sweep(sample, dict(zip((0.3, 0.7), names, strict=True))).axes
    for axes, what, scale in ((upper, "accuracy", 100), (lower, "length", 1)):
        expected = [scale * statistics.average(sample, m, what)[0] for m in names]
        assert list(axes.lines[0].get_ydata()) == pytest.approx(expected)
        assert list(axes.lines[0].get_xdata()) == [0.3, 0.7]


def test_by_steps_names_each_line_at_its_end(records):
    figure = figures.by_steps(records, ["fast", "slow", "TA"], ["fast", "slow"])
    assert [a.get_ylabel().split(",")[0] for a in figure.axes] == ["accuracy", "length", "reflecting"]
    assert figure.axes[0].get_legend() is None and figure.get_label().startswith("Long problems tell the models apart")
    means = records.groupby(["method", "steps"])["length"].mean()
    for axes in figure.axes:
        assert {text.get_text() for text in axes.texts} == {"fast", "slow", "TA"}
        boxes = [text.get_window_extent() for text in axes.texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    ends = {text.get_text(): text.xy[1] for text in figure.axes[1].texts}
    assert ends == pytest.approx({m: means[m, 3] for m in ends})


def test_crowded_labels_spread_about_their_middle_and_stay_inside():
    assert apart([1, 1, 1, 50], 10, -100, 100) == [-9, 1, 11, 50]
    assert apart([98, 99, 100], 10, 0, 100) == [80, 90, 100]
    assert apart([0, 0, 5], 10, 0, 100) == [0, 10, 20]
    assert apart([0, 20, 40], 10, 0, 100) == [0, 20, 40]


def test_coefficients_show_the_real_pair_beside_both_nulls_on_the_whole_range():
    rng = np.random.default_rng(1)
    cells = itertools.product(("x", "y"), ("embed", "0", "lm_head"), range(5), ("none", "shuffled", "gaussian"))
    table = pd.DataFrame([(f, layer, s, "plug-in", c, rng.random()) for f, layer, s, c in cells],
                         columns=["finetuned", "layer", "sample", "estimator", "control", "value"])  # fmt: skip
    figure = figures.coefficients_by_layer(table)
    assert [a.get_title("left") for a in figure.axes] == ["x", "y"]
    assert all(len(a.lines) == 3 and a.get_ylim() == (0, 1) for a in figure.axes)
    strips = figures.coefficient_strips({"x": {"embed": 0.5, "0": 0.6}, "y": {"embed": 0.7, "0": 0.8}})
    assert [t.get_text() for axes in strips.axes for t in axes.texts] == ["0.500", "0.600", "0.700", "0.800"]
    assert {axes.collections[0].get_clim() for axes in strips.axes} == {(0, 1)}
    assert strips.axes[1].get_title("left") == "y: 0.700 (embed) to 0.800 (0)"


@pytest.fixture(scope="module", params=["long-to-short", "general"])
def drawn(request, tmp_path_factory):
    """All figures of a committed experiment, and where they are saved."""
    use_theme()
    folder = tmp_path_factory.mktemp("figures")
    return folder, list(figures.draw_all(Results(load_profile("tiny"), request.param, "reports"), folder))


def test_every_figure_can_be_read_on_a_phone(drawn):
    for drawing, figure in drawn[1]:
        FigureCanvasAgg(figure).draw()  # a closed figure has no canvas that draws
        inches = figure.get_size_inches()[0]
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert min(330 / (72 * inches) * text.get_fontsize() for text in texts) >= 9, drawing.name
        placed = [
            *figure.texts,
            *(a for axes in figure.axes for a in (*axes.texts, axes.xaxis.label, axes.yaxis.label)),
        ]
        boxes = [Text.get_window_extent(text) for text in placed if text.get_text()]  # without lines to markers
        assert all(box.x0 > -1 and box.x1 < figure.bbox.width + 1 for box in boxes), drawing.name


def test_no_panel_lies_on_another(drawn):
    for _, figure in drawn[1]:
        boxes = [axes.get_position() for axes in figure.axes]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_every_caption_begins_with_the_message(drawn):
    folder, made = drawn
    for drawing, figure in made:
        caption = json.loads((folder / f"{drawing.name}.json").read_text())["caption"]
        assert caption.startswith(f"{figure.get_label()}. ") and len(figure.get_label()) > 20
        assert figure.get_suptitle().split() == figure.get_label().split()


def test_a_saved_figure_has_a_caption_and_the_same_bytes_twice(sample, tmp_path):
    for name in ("one", "two"):
        save_figure(
            figures.scaling_sweep(sample, {0.3: "frontier-0.3"}), tmp_path / name / "sweep", "caption", {"n": 40}
        )
    for kind in ("svg", "png", "json"):
        assert (tmp_path / "one" / f"sweep.{kind}").read_bytes() == (tmp_path / "two" / f"sweep.{kind}").read_bytes()
