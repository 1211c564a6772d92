"""A job's log and its threads, seen from outside: as a process of its own."""

import subprocess
import sys

import nbformat
import pytest

from acm.paths import ROOT


def job(*arguments, code=None):
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "acm", "notebook", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def book(tmp_path):
    """Writes a notebook of one cell."""

    def write(source):
        path = tmp_path / "one.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
        return path

    return write


def test_what_a_job_prints_is_in_its_log_alone(book, tmp_path):
    log = tmp_path / "logs" / "one.log"
    done = job(book("import os; print('threads:', os.environ['OMP_NUM_THREADS'])"), tmp_path / "out.ipynb",
               "--threads", 3, "--log", log)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    assert "threads: 3" in log.read_text()


def test_a_failed_job_shows_the_last_lines_of_its_log(book, tmp_path):
    log = tmp_path / "one.log"
    done = job(book("1 / 0"), tmp_path / "out.ipynb", "--log", log)
    assert done.returncode != 0 and not (tmp_path / "out.ipynb").exists()
    for shown in (done.stderr, log.read_text()):
        assert "cell 1 failed with ZeroDivisionError" in shown and "Traceback" not in shown.splitlines()[-3]


def test_without_a_log_everything_is_shown(book, tmp_path):
    done = job(book("print('hello')"), tmp_path / "out.ipynb")
    assert done.returncode == 0 and "hello" in done.stdout + done.stderr
