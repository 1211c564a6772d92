"""A calibration or an evaluation on a disk that is full: it says so, and what is done stays."""

import pytest
from helpers import contents, run
from typer.testing import CliRunner

from acm.__main__ import app
from acm.files import alone
from acm.paths import ROOT

MODELS = ROOT / "abacus" / "checkpoints"
TEXTS = ROOT / "abacus" / "benchmarks" / "calibration_problems.jsonl"
COMMANDS = {  # command → its arguments, its output, and the kB of a disk that is full once something is done
    "calibrate": (
        f"{MODELS}/abacus-fast {MODELS}/abacus-slow --texts {TEXTS} --clusters 3 --per-cluster 2",
        "out",
        300,
    ),
    "evaluate": (
        f"{MODELS}/abacus-fast --task abacus_easy --items 24 --batch-size 4 --max-tokens 24",
        "out/r.parquet",
        24,
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_while_measuring_loses_nothing_that_is_done(tmp_path, disk, command):
    arguments, out, size = COMMANDS[command]

    def finished(folder):
        return CliRunner().invoke(app, [command, *arguments.split(), "--out", str(folder / out)]).exit_code == 0

    folder = disk(f"size={size}k")
    status, _, errors = run("-m", "acm", command, *arguments.split(), "--out", str(folder / out), cwd=tmp_path)
    assert status == 1 and "the disk is full" in errors.splitlines()[-1] and "Traceback" not in errors
    kept = {path for path in folder.rglob("*") if path.is_file()}
    assert kept and not [path for path in kept if path.name.endswith(".part")]
    disk("size=16m")
    assert finished(folder) and finished(tmp_path)
    assert contents(folder / "out") == contents(tmp_path / "out")


@pytest.mark.parametrize(("command", "held"), [("calibrate", "out"), ("evaluate", "out/r.batches")])
def test_a_second_run_into_one_output_is_refused(tmp_path, command, held):
    arguments, out, _ = COMMANDS[command]
    with alone(tmp_path / held, "this test"):
        status, _, errors = run("-m", "acm", command, *arguments.split(), "--out", str(tmp_path / out), cwd=tmp_path)
    assert status == 1 and errors.splitlines()[-1].endswith(
        f"is writing {tmp_path / held} right now; wait for it, or choose another output."
    )
    assert not list((tmp_path / held).iterdir())
