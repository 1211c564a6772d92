"""Notebooks that run in one kernel, one after the other: each starts clean, and what fails is said as ever."""

import nbformat
import pytest
from jupyter_core.utils import run_sync

from acm.errors import UserError
from acm.paths import ROOT
from acm.profiles import load_profile
from acm.running import several
from acm.running.notebooks import run_notebook
from acm.running.several import shared_kernel, steps_of


@pytest.fixture
def run(tmp_path):
    """Runs cells in a kernel; returns the texts that they print and the counts of the cells."""

    def made(kernel, *cells):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbformat.write(book, tmp_path / "a.ipynb")
        run_notebook(tmp_path / "a.ipynb", tmp_path / "done.ipynb", {}, kernel=kernel)
        run_sync(kernel.empty)()
        found = nbformat.read(tmp_path / "done.ipynb", 4).cells
        return [cell.outputs[0].text.strip() for cell in found if cell.outputs], [c.execution_count for c in found]

    return made


PID = "import os; print(os.getpid())"


def test_notebooks_share_a_process_and_its_modules_and_no_name(run):
    with shared_kernel() as kernel:
        (first,), _ = run(kernel, PID, "import wave; wave.mark = 3", "x = 5; _ = 6")
        (second, mark, names), counts = run(
            kernel,
            PID,
            "import wave; print(wave.mark)",
            "print([name for name in ('x', 'wave_', 'sys') if name in globals()])",
        )
        assert first == second and mark == "3" and names == "[]" and counts == [1, 2, 3]
    assert not kernel.has_kernel


def test_an_error_and_a_dead_kernel_are_said_as_of_a_kernel_of_its_own(run, tmp_path):
    for cell, says in (
        ("1 / 0", "cell 1 failed with ZeroDivisionError"),
        ("import os; os._exit(1)", "its kernel died"),
    ):
        with pytest.raises(UserError, match=rf"a\.ipynb.*{says}.*done\.failed\.ipynb"), shared_kernel() as kernel:
            run(kernel, PID)
            run(kernel, cell)
        assert not kernel.has_kernel and (tmp_path / "done.failed.ipynb").is_file()


def test_an_unknown_parameter_is_refused_before_the_kernel_starts(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "a.ipynb")
    with shared_kernel() as kernel, pytest.raises(UserError, match=r"parameter of .*a\.ipynb"):
        run_notebook(tmp_path / "a.ipynb", tmp_path / "b.ipynb", {"x": 1}, kernel=kernel)
    assert not kernel.has_kernel


def test_parents_are_evaluated_and_methods_merged_before():
    profile = load_profile("tiny")
    folder = profile.folder / "general" / "records"
    assert steps_of(profile, [folder / "abacus-base.parquet", folder / "frontier-0.2.parquet"]) == [
        ("general", "4-evaluate", "abacus-base"),
        ("general", "3-merge", "frontier-0.2"),
        ("general", "4-evaluate", "frontier-0.2"),
    ]
    with pytest.raises(UserError, match=r"file of records of profile tiny.*TAA"):
        steps_of(profile, [folder / "TAA.parquet"])


def test_the_first_error_ends_the_job_and_its_log_says_it(tmp_path, monkeypatch, capfd):
    """pico's merge waits for coefficients that are not there."""
    monkeypatch.setattr("acm.profiles.RUNS", tmp_path)
    name = str(ROOT / "tests" / "data" / "pico.yaml")
    profile = load_profile(name)
    ran = []
    monkeypatch.setattr(several, "run_notebook", lambda source, *_, **__: ran.append(source.stem) or 1 / 0)
    with pytest.raises(SystemExit):
        several.make_records(name, profile, [tmp_path / "pico/general/records/ACM-TIES.parquet"])
    assert ran == ["3-merge"] and "error: division by zero" in capfd.readouterr().err
    assert "division by zero" in (tmp_path / "pico/logs/general/3-merge/ACM-TIES.log").read_text()
