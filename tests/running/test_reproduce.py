"""The lock of a run: a killed run's is released, that of a run or job at work is not."""

import fcntl
import os
import subprocess
import sys

import pytest

from acm.errors import UserError
from acm.paths import ROOT
from acm.profiles import load_profile
from acm.running import jobs, reproduce


@pytest.fixture
def called(tmp_path, monkeypatch):
    """A folder with what Snakemake leaves when it is killed, and the calls to Snakemake."""
    calls = []
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(reproduce, "snakemake", lambda *given: calls.append(given) or 0)
    monkeypatch.setenv(jobs.ALIVE, "")
    (tmp_path / ".snakemake" / "locks").mkdir(parents=True)
    (tmp_path / ".snakemake" / "locks" / "0.output.lock").touch()
    return calls


def test_the_lock_of_a_killed_run_is_released(called):
    with reproduce.alive("tiny"):
        assert called == [("tiny", 1, ["--unlock"])]


def test_without_a_lock_nothing_is_released(called, tmp_path):
    (tmp_path / ".snakemake" / "locks" / "0.output.lock").unlink()
    with reproduce.alive("tiny"):
        assert called == []


def test_while_a_run_or_a_job_of_it_lives_its_lock_stays(called, tmp_path):
    job = (
        "import sys; from acm.running.jobs import share_lock; share_lock(); print('held', flush=True); sys.stdin.read()"
    )
    with reproduce.alive("tiny"):
        called.clear()
        with (tmp_path / "runs" / ".lock").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([sys.executable, "-c", job], env=environment, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        assert process.stdout.readline() == "held\n"
    with reproduce.alive("tiny"):  # the run has ended, its job has not
        assert called == []
    process.communicate("")
    with reproduce.alive("tiny"):
        assert called == [("tiny", 1, ["--unlock"])]


def test_a_lock_that_cannot_be_released_is_said(called, monkeypatch):
    monkeypatch.setattr(reproduce, "snakemake", lambda *_: 1)
    with pytest.raises(UserError, match="the lock of profile tiny could not be released"), reproduce.alive("tiny"):
        pass


def test_a_search_needs_one_in_the_profile_and_items_that_judge():
    with pytest.raises(UserError, match="has no `searches`"):
        reproduce.reproduce("qwen-1.5b", "searches", 1)
    profile = load_profile("tiny")
    bare = profile.searches["abacus"].model_copy(update={"fresh_items": None})
    with pytest.raises(UserError, match="search abacus of profile tiny has no `fresh_items`"):
        reproduce.check_searches(profile.model_copy(update={"searches": {"abacus": bare}}))
