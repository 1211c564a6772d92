"""Open to extension: another estimator, control or shift is one row and at most one function; everybody takes it."""

import inspect
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers_calibration import TEXTS, activations
from helpers_questions import information, labelled
from typer.testing import CliRunner

import acm
import acm.calibration.lockstep
from acm import profiles
from acm.__main__ import app
from acm.calibration import controls, defaults, registry
from acm.calibration import information as estimators
from acm.calibration.coefficients import coefficients_from_table, write_coefficients
from acm.calibration.controls import pairs_up
from acm.calibration.information import estimates
from acm.calibration.layer_rules import rule_coefficients
from acm.calibration.registry import CONTROLS, ESTIMATORS, SHIFTS, SIMILARITY, Control, Estimator
from acm.calibration.texts import read_texts, select_texts
from acm.commands.measuring import calibrate as command
from acm.errors import UserError
from acm.paths import ROOT
from acm.profiles.calibration import Calibration
from acm.profiles.experiment import Experiment
from acm.questions import estimate, stability
from acm.questions.estimate_answer import kept_in_words, of_estimator
from acm.records import write_parquet
from acm.widgets import coefficients as explorer

PROFILE = """
experiments:
  long-to-short:
    base: abacus/checkpoints/abacus-fast
    finetuned: [abacus/checkpoints/abacus-slow]
    reference: abacus-slow
    tasks: [abacus_easy]
    calibration: {texts: abacus/benchmarks/calibration_problems.jsonl}
"""


@pytest.fixture
def rooms(monkeypatch):
    """Registries that forget what a test adds."""
    monkeypatch.setattr(estimators, "FUNCTIONS", dict(estimators.FUNCTIONS))
    monkeypatch.setattr(controls, "FUNCTIONS", dict(controls.FUNCTIONS))
    return lambda names, row: monkeypatch.setitem(names, row.name, row)


@pytest.fixture
def correlation(rooms):
    """An eleventh estimator."""
    rooms(ESTIMATORS, Estimator("correlation", "Pearson's, of all entries", "–", unit=SIMILARITY))

    @estimates("correlation")
    def correlation(x, y):
        return float(np.corrcoef(x.double().flatten(), y.double().flatten())[0, 1])

    return "correlation"


@pytest.fixture
def by_pair(rooms):
    """An estimator that follows from counts alone."""
    rooms(ESTIMATORS, Estimator("per-pair", "MI for each distinct pair", "–", labelled=True, additive=True))

    @estimates("per-pair")
    def per_pair(sums):
        return sums.information / (sums.surplus + sums.entries)

    return "per-pair"


@pytest.fixture
def backwards(rooms):
    """A sixth control."""
    rooms(CONTROLS, Control("backwards", "tokens backwards", "the fine-tuned side's tokens from last to first"))

    @pairs_up("backwards")
    def backwards(sides, chunks, generator):
        for rows in chunks:
            yield sides.left(rows), sides.right(sides.tokens - 1 - rows)

    return "backwards"


def test_every_row_has_a_function_and_every_function_a_row():
    assert set(estimators.FUNCTIONS) == set(ESTIMATORS) and set(controls.FUNCTIONS) == set(CONTROLS)
    assert all(row.labelled for row in ESTIMATORS.values() if row.additive)
    assert all(name == row.name for rows in (ESTIMATORS, CONTROLS) for name, row in rows.items())


@pytest.mark.parametrize("table", [registry.estimator_table, registry.control_table])
def test_the_tables_of_the_documentation_are_current(table):
    remedy = f"put what acm.calibration.registry.{table.__name__}() gives into docs/calibration.md"
    assert table() in (ROOT / "docs/calibration.md").read_text(encoding="utf-8"), remedy


def test_an_eleventh_estimator_is_calibrated_with(correlation, f32, tokenizer, tmp_path):
    table = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, estimators=("plug-in", correlation))
    x, y = (activations(folder, TEXTS[0], tokenizer)["1"].double().flatten() for folder in f32[:2])
    chosen = table.query("layer == '1' and sample == 0 and control == 'none'").set_index("estimator")["value"]
    assert chosen[correlation] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    found = coefficients_from_table(table, estimator=correlation)["left"]
    write_parquet(table, tmp_path / "mi.parquet")
    by_rule = rule_coefficients("acm", {"estimator": correlation}, table=tmp_path / "mi.parquet")
    assert by_rule["coefficients"]["left"] == found
    content = write_coefficients(tmp_path / "coefficients.json", table, {}, estimator=correlation)
    assert content["coefficients"]["left"] == found and content["estimator"] == correlation


def test_an_eleventh_estimator_is_taken_by_the_command_line(correlation, f32, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    given = ["calibrate", *map(str, f32[:2]), "--texts", str(texts), "--out", str(tmp_path), "--estimator", correlation]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "coefficients.json").is_file()


def test_an_eleventh_estimator_is_taken_by_a_profile_and_refused_once_forgotten(correlation, tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{PROFILE}    estimator: {correlation}\n", encoding="utf-8")
    assert profiles.load_profile(str(path)).experiment("long-to-short").estimator == correlation
    monkeypatch.delitem(ESTIMATORS, correlation)
    with pytest.raises(UserError, match=f"unknown estimator '{correlation}'"):
        profiles.load_profile(str(path))


def test_an_eleventh_estimator_has_a_row_in_question_1_and_a_row_in_the_documentation(correlation):
    found = estimate.known_gaussians((20,), (4,), 1)
    rows = {label.get_text() for label in estimate.draw_known(found).axes[0].get_yticklabels()}
    assert rows == {*ESTIMATORS} and len(rows) == 11
    assert "| `correlation` | Pearson's, of all entries | similarity | – |" in registry.estimator_table()


def test_the_eleventh_estimator_is_gone():
    assert len(ESTIMATORS) == 10 and "correlation" not in ESTIMATORS
    with pytest.raises(UserError, match="unknown estimator 'correlation'"):
        acm.mutual_information(np.ones(3), np.ones(3), "correlation")


def test_an_estimator_of_counts_takes_chunks_and_is_asked_in_question_1(by_pair, f32, monkeypatch):
    measures = {"controls": ("none", "shuffled"), "estimators": ("plug-in", by_pair)}
    whole = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, **measures)
    monkeypatch.setattr(acm.calibration.lockstep, "CHUNK_ENTRIES", 1000)
    chunks = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, **measures)
    np.testing.assert_allclose(chunks["value"], whole["value"], rtol=1e-3)
    assert registry.label_estimators()[-1] == by_pair
    table = information(20, tuple(CONTROLS), registry.label_estimators())
    assert labelled(estimate.draw_lengths(table, "3")) == 4


def test_a_sixth_control_is_measured_and_drawn(backwards, f32, tokenizer):
    table = acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, controls=tuple(CONTROLS))
    x, y = (activations(folder, TEXTS[0], tokenizer)["1"] for folder in f32[:2])
    row = table.query("layer == '1' and sample == 0 and control == 'backwards'").iloc[0]
    assert row["value"] == acm.mutual_information(x, y.flip(0)) and row["tokens"] == len(x)
    made_up = information(20, tuple(CONTROLS), registry.label_estimators())
    assert labelled(estimate.draw_lengths(made_up, "3")) == 3
    kept = of_estimator(estimate.kept_by_control(made_up), "plug-in").to_dict("index")
    assert "tokens backwards" in kept_in_words(kept)
    sizes = stability.by_size(information(20, tuple(CONTROLS)), (2,), 0.7, "layer", draws=2)
    assert labelled(stability.draw_sizes(sizes)) == len(CONTROLS) == 6
    by_layer = {name: pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], ["0", "1"]) for name in CONTROLS}
    figure = explorer.draw(by_layer, 0.7, "layer", tuple(CONTROLS))
    assert "null: tokens backwards" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "`backwards`" in registry.control_table()


def test_another_shift_is_one_row(monkeypatch):
    mi = np.array([[1.0, 3.0], [2.0, 2.0]])
    with pytest.raises(UserError, match="unknown shift 'mean'"):
        acm.layer_coefficients(mi, shift="mean")
    monkeypatch.setitem(SHIFTS, "mean", lambda mi: mi.mean(axis=1, keepdims=True))
    assert acm.layer_coefficients(mi, shift="mean") == pytest.approx([0.5, 0.5])
    assert Experiment.model_fields["shift"].default == defaults.SHIFT in SHIFTS


def default(function, name):
    return inspect.signature(function).parameters[name].default


def test_every_default_stands_once():
    for option, name in (("seed", "seed"), ("dtype", "dtype"), ("device", "device"), ("threads", "threads")):
        assert default(command, option) == default(acm.calibrate, name) == getattr(defaults, name.upper())
    for option, name in (("clusters", "clusters"), ("per_cluster", "per_cluster"), ("text_seed", "seed")):
        field = Calibration.model_fields[name]
        assert default(command, option) == default(select_texts, name) == field.default
    assert default(command, "field") == default(read_texts, "field") == Calibration.model_fields["field"].default
    for name in ("t", "shift"):
        field = Experiment.model_fields[name]
        for function in (acm.layer_coefficients, coefficients_from_table, write_coefficients):
            assert default(command, name) == default(function, name) == field.default
    field = Experiment.model_fields["estimator"]
    for function in (acm.mutual_information, coefficients_from_table, write_coefficients):
        assert default(command, "estimator") == [default(function, "estimator")] == [field.default]
    assert tuple(default(command, "control")) == default(acm.calibrate, "controls") == registry.COEFFICIENT_CONTROLS


def test_help_needs_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from acm.__main__ import app; "
        "result = CliRunner().invoke(app, ['calibrate', '--help']); "
        "print(result.output); sys.exit(result.exit_code or 'torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "plug-in" in done.stdout, done.stdout + done.stderr
