"""Nowhere to write, and folders of any name: all works, or ends in a sentence."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from acm import paths
from acm.__main__ import app, sentence
from acm.errors import UserError
from acm.paths import ROOT

CHECKPOINTS = ROOT / "abacus" / "checkpoints"
LOOP = "from acm.compiling import compiled\n@compiled()\ndef twice(x):\n    return 2 * x\n"
NOWHERE = {"HOME": "/dev/null/none", "XDG_CACHE_HOME": "/dev/null/none"}


def python(folder, code, **variables):
    command, variables = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", **variables}
    return subprocess.run(command, cwd=folder, env=variables, text=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("variables", [NOWHERE, NOWHERE | {"NUMBA_CACHE_DIR": "/dev/null/x"}, {}])
def test_a_loop_is_compiled_in_memory_where_no_cache_can_be_written(tmp_path, variables):
    (tmp_path / "loops.py").write_text(LOOP)
    (tmp_path / "__pycache__").touch()  # a file, so that root cannot write there either
    done = python(tmp_path, "import loops; assert loops.twice(3) == 6", **variables)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("damage", [b"", b"garbage", b"\x80\x04."])
def test_a_damaged_cache_is_passed_over(tmp_path, damage):
    (tmp_path / "loops.py").write_text(LOOP)
    code = "import loops; assert loops.twice(3) == 6"
    assert python(tmp_path, code).returncode == 0
    kept = list((tmp_path / "__pycache__").glob("*.nb?"))
    assert kept
    for path in kept:
        path.write_bytes(damage)
    done = python(tmp_path, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["=1+1 <b>ü", "two\nlines |$x$", "[a](b) `c` {d}", "\x1b[31mred"])
def test_folders_of_any_name_are_merged(tmp_path, name):
    work = tmp_path / name
    work.mkdir()
    for short in ("fast", "slow"):
        shutil.copytree(CHECKPOINTS / f"abacus-{short}", work / f"{short} {name}")
    models = "".join(f"- model: {json.dumps(str(work / f'{short} {name}'))}\n" for short in ("fast", "slow"))
    (work / "re cipe.yml").write_text(f"merge_method: linear\nparameters: {{weight: 1.0}}\nmodels:\n{models}")
    for arguments in (["check"], ["merge"], ["export"]):
        out = {"merge": [str(work / f"out {name}")], "export": ["--out", str(work / f"{name}.yml")]}
        done = CliRunner().invoke(app, [*arguments, str(work / "re cipe.yml"), *out.get(arguments[0], [])])
        assert done.exit_code == 0, done.output
        assert "\x1b" not in done.output
    assert load_file(work / f"out {name}" / "model.safetensors")
    assert (work / f"{name}.yml").is_file()
    card = (work / f"out {name}" / "README.md").read_text()
    assert "\x1b" not in card.split("---\n")[2]


@pytest.mark.parametrize("error, says", [
    (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "set TMPDIR"),
    (OSError(28, "No space left on device"), "the disk is full"),
    (RuntimeError("IoError(Os { code: 28, message: \"No space left on device\" })"), "the disk is full"),
    (MemoryError(), "not enough memory"),
    (PermissionError(13, "Permission denied", "a\nb"), r"a\nb cannot be used: you lack the permission"),
    (ModuleNotFoundError("No module named 'fcntl'", name="fcntl"), "WSL"),
])  # fmt: skip
def test_what_the_machine_lacks_is_one_sentence(error, says):
    said = str(sentence(error))
    assert says in said
    assert "\n" not in said


def test_a_fault_of_the_program_keeps_its_traceback():
    assert sentence(KeyError("x")) is None
    assert sentence(ValueError("x")) is None


def test_a_command_that_writes_into_the_clone_says_so_where_it_cannot(monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # whoever runs the tests may be root
    for command in (["reproduce", "--dry-run"], ["publish"], ["keep"], ["course"]):
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, UserError)
        assert f"writes into {paths.ROOT}, where you may not write" in str(done.exception)


def test_a_user_without_a_home_gets_no_folder_named_for_it(tmp_path):
    (tmp_path / "loops.py").write_text(LOOP)
    (tmp_path / "__pycache__").touch()
    nobody = "import os, pwd\nos.environ.pop('HOME')\ndef absent(_): raise KeyError\npwd.getpwuid = absent\n"
    code = f"{nobody}assert os.path.expanduser('~') == '~'\nimport loops\nassert loops.twice(3) == 6\n"
    done = python(tmp_path, f"{code}assert os.environ['HOME'] == '/nonexistent'", HOME="/")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "~").exists()


def test_a_device_is_no_place_for_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    records = str(ROOT / "reports" / "tiny" / "long-to-short" / "records.parquet")
    notebook = str(ROOT / "notebooks" / "2-coefficients.ipynb")
    for command in (
        ["evaluate", str(CHECKPOINTS / "abacus-fast"), "--task", "abacus_easy", "--out", "pipe"],
        ["compare", f"{records}#TA", f"{records}#ACM-TA", "--task", "abacus_easy", "--out", "pipe"],
        ["notebook", notebook, "pipe"],
    ):
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, UserError), done.output
        assert "pipe" in str(done.exception)
        assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
