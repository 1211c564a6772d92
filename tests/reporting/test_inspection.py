"""The figures of an inspection show its numbers; its notebook runs from the top."""

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from typer.testing import CliRunner

from acm.__main__ import app
from acm.merging.inspection import inspect
from acm.paths import ROOT
from acm.reporting import inspection_figures as figures
from acm.running.notebooks import run_notebook

NAMES = {"sizes": 4, "kinship": 3, "conflicts": 6, "overlaps": 6}  # figure → its panels, for four models


@pytest.fixture(scope="module")
def found(f32, make_model, tmp_path_factory):
    """The inspection of four models, one of them with a name that matplotlib could take for mathematics."""
    folder = tmp_path_factory.mktemp("more")
    more = [make_model(folder / name, seed, f32[0]) for seed, name in ((3, "a$b$"), (4, "far"))]
    return inspect(f32[0], [*f32[1:], *more], top=0.3)


@pytest.fixture(autouse=True)
def closed():
    """No figure outlives its test."""
    yield
    plt.close("all")


def shown(figure):
    """The panels that are seen."""
    return [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]


@pytest.mark.parametrize("name", NAMES)
def test_every_model_or_pair_has_a_panel(found, name):
    figure = getattr(figures, name)(found)
    figure.draw_without_rendering()
    assert len(shown(figure)) == NAMES[name]


def test_conflicts_are_drawn_as_they_were_found(found):
    figure = figures.conflicts(found)
    axes, rows = shown(figure)[0], found.pairs.query("first == 'left' and second == 'right' and kind == 'all'")
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    for label, column in (("sign conflict", "sign_conflict"), ("expected", "sign_expected")):
        assert np.array_equal(lines[label], rows[column][1:])
    bars = [(bar.get_y(), bar.get_height()) for bar in axes.patches]
    assert bars == [pytest.approx((0.5 - half, 2 * half)) for half in rows["sign_half_width"][1:]]
    assert sum(text.get_gid() == "key" for text in axes.texts) == 4
    assert "of what the correlation alone gives" in figure.get_label()


def test_overlaps_leave_out_layers_without_matrices(found):
    lines = {line.get_label(): line.get_ydata() for line in shown(figures.overlaps(found))[0].lines}
    rows = found.pairs.query("first == 'left' and second == 'right' and kind == 'all' and layer in ('0', '1')")
    assert np.array_equal(lines["left"], rows["overlap_left"])
    assert np.array_equal(lines["right, random"], rows["overlap_right_null"])


def test_kinship_is_symmetric_and_a_model_is_its_own_kin(found):
    shown_values = [axes.collections[0].get_array().reshape(4, 4) for axes in shown(figures.kinship(found))]
    for values, own in zip(shown_values, (1, 0, 1), strict=True):
        assert np.array_equal(values, values.T) and (np.diag(values) == own).all()
    assert shown_values[0][0, 1] == found.pairs["cosine"][0]


def test_without_decompositions_and_with_one_model_what_is_there_is_drawn(f32):
    quick = inspect(f32[0], f32[1:], fast=True)
    assert len(shown(figures.kinship(quick))) == 2 and len(shown(figures.conflicts(quick))) == 1
    alone = inspect(f32[0], [f32[1]], fast=True)
    assert len(shown(figures.sizes(alone))) == 1


def test_the_example_of_the_command_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    models = [f"abacus/checkpoints/abacus-{name}" for name in ("base", "sums", "words")]
    done = CliRunner().invoke(app, ["inspect", *models, "--fast"])
    assert done.exit_code == 0 and "abacus-sums and abacus-words" in done.output


@pytest.mark.pipeline
def test_the_notebook_draws_four_figures_and_ends_with_numbers(tmp_path):
    parameters = {"finetuned": ["abacus-sums", "abacus-words"], "output": str(tmp_path / "figures")}
    done = run_notebook(ROOT / "notebooks" / "inspect.ipynb", tmp_path / "inspect.ipynb", parameters)
    assert {path.stem for path in (tmp_path / "figures").glob("*.svg")} == set(NAMES)
    said = nbformat.read(done, 4).cells[-2].outputs[0].text
    assert "Nearest kin: abacus-sums and abacus-words, cosine 0.18" in said and "as random ones" in said
