"""The wheel, installed where no clone is: the core works, the rest says in one sentence what it lacks."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

import acm
from abacus import CHECKPOINTS
from acm.paths import ROOT
from acm.sources import source_hash

pytestmark = pytest.mark.slow
MEGABYTES = 32  # nearly all of it the five embedded models and smol's two adapters


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by the hatchling that is installed, so that no network is asked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def place(wheel, tmp_path_factory):
    """A folder with a fresh environment in ``venv`` that has the wheel.

    It sees the packages of this environment, and not the clone.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", symlinks=os.name != "nt")
    python = folder / "venv/bin/python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    (packages,) = (folder / "venv/lib").glob("python*/site-packages")
    # a path that a .pth adds has its own .pth files ignored, and with them the editable clone
    (packages / "dependencies.pth").write_text(
        "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    )
    (folder / "work").mkdir()
    return folder


@pytest.fixture(scope="module")
def run(place):
    """Runs a program of the environment in ``work``, offline, with a home of its own; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ACM"))} | {
        "HOME": str(place / "home"), "HF_HOME": str(place / "home/hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1", "TERM": "dumb", "COLUMNS": "200",
    }  # fmt: skip

    def program(name, *arguments, fails=False):
        command = [place / "venv/bin" / name, *map(str, arguments)]
        done = subprocess.run(command, cwd=place / "work", env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr.strip() if fails else done.stdout.strip()

    return program


@pytest.fixture(scope="module")
def recipe(place, run):
    """A recipe on the models of the installed package, whose paths the package says."""
    said = run("python", "-c", "import acm.paths, abacus, sys; print(acm.paths.CLONE, abacus.CHECKPOINTS, sys.path)")
    clone, models, path = said.split(maxsplit=2)
    assert clone == "False" and repr(str(ROOT)) not in path and Path(models).is_relative_to(place)
    content = {
        "merge_method": "task_arithmetic", "base_model": f"{models}/abacus-fast", "parameters": {"weight": 0.5},
        "models": [{"model": f"{models}/abacus-slow"}],
    }  # fmt: skip
    file = place / "work/recipe.yml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_wheel_holds_the_packages_and_the_profiles_and_no_more(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        "abacus": "abacus",
        "acm": "acm",
        "smol": "smol",
        "profiles": "acm/profile_files",
        "web": "acm/web_files",
    }
    expected = {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, inside in sources.items() for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.is_relative_to(ROOT / "web/test")
        and path not in {ROOT / "web/package.json", ROOT / "web/tsconfig.json"}
    } | {"acm/web_files/live.json"}  # fmt: skip
    assert names == expected
    assert {"acm/py.typed", "acm/tasks/_abacus.yaml", "acm/reporting/report.md.jinja"} < names
    assert wheel.stat().st_size < MEGABYTES * 1e6


def test_the_commands_start(run):
    assert run("acm", "--version") == f"acm {acm.__version__}" == run("python", "-m", "acm", "--version")
    assert "calibrate" in run("acm", "--help")
    found = run("python", "-c", "import acm, numpy; x = numpy.eye(8); print(round(acm.mutual_information(x, x), 4))")
    assert float(found) == pytest.approx(0.3768, abs=1e-4), "the entropy of 8 ones among 64 entries, nats"


def test_a_merge_has_the_bytes_of_the_clones(run, recipe, place, tmp_path):
    assert run("acm", "check", recipe.name).endswith("ready: 75 tensors by Task Arithmetic.")
    run("acm", "merge", recipe.name, "merged")
    content = yaml.safe_load(recipe.read_text())
    content["base_model"] = str(CHECKPOINTS / "abacus-fast")
    content["models"] = [{"model": str(CHECKPOINTS / "abacus-slow")}]
    own = acm.merge(content, tmp_path / "merged") / "model.safetensors"
    assert (place / "work/merged/model.safetensors").read_bytes() == own.read_bytes()


def test_calibration_and_evaluation_work(run, recipe, place):
    content = yaml.safe_load(recipe.read_text())
    base, finetuned = content["base_model"], content["models"][0]["model"]
    texts = place / "work/texts.txt"
    texts.write_text("Ann has 3 apples and buys 4 more.\nBob reads 12 pages a day.\nHow many days has a week?\n")
    run("acm", "calibrate", base, finetuned, "--texts", texts.name, "--control", "none")
    found = json.loads((place / "work/coefficients.json").read_text())["coefficients"]["abacus-slow"]
    assert found and all(0 < value < 1 for value in found.values())
    source = json.loads((place / "work/coefficients.json").read_text())["provenance"]["source"]
    assert source == source_hash("calibration"), "the installed package is the code of the clone"
    run("acm", "evaluate", base, "--task", "abacus_easy", "--items", 2, "--max-tokens", 8)
    records = pd.read_parquet(place / "work/records.parquet")
    assert len(records) == 2 and records["length"].between(1, 8).all()


def test_the_playground_has_all_that_it_shows(run):
    code = "from acm.widgets import Playground; p = Playground({'0': 1}); print(len(p.numbers['frontier']), p.recipe())"
    assert run("python", "-c", code).startswith("11 {'merge_method': 'interpolation'")


def test_a_profile_of_the_package_is_checked(run):
    assert run("acm", "check", "--profile", "tiny").startswith("profile tiny: ")
    assert "Known: llama-2-7b, qwen-" in run("acm", "check", "--profile", "none", fails=True)


@pytest.mark.parametrize(
    "command",
    [["course"], ["publish"], ["reproduce", "--dry-run"], ["notebook", "notebooks/1-calibrate.ipynb", "out.ipynb"]],
)
def test_what_needs_the_clone_says_so_in_a_sentence(run, command):
    said = run("acm", *command, fails=True)
    assert said.startswith(f"error: acm {command[0]} needs a clone of the repository") and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "module, command, remedy",
    [
        ("lm_eval", "'evaluate', '.', '--task', 'abacus_easy'", 'pip install "acm-companion[evaluate]"'),
        ("fcntl", "'merge', 'recipe.yml', 'again'", "run it in WSL"),
    ],
)
def test_what_needs_an_absent_package_names_the_extra(run, recipe, module, command, remedy):
    start = f"import sys; sys.modules['{module}'] = None; sys.argv = ['acm', {command}]"
    code = f"{start}; from acm.__main__ import main; main()"
    said = run("python", "-c", code, fails=True)
    assert said.startswith("error: ") and remedy in said and len(said.splitlines()) == 1


def test_nothing_was_written_elsewhere(run, place):
    """Last in this file: after the commands above, only what they were asked for is there."""
    assert {path.name for path in place.iterdir()} <= {"venv", "work", "home"}
    made = {
        "recipe.yml",
        "texts.txt",
        "merged",
        "calibration",
        "coefficients.json",
        "mutual_information.parquet",
        "records.parquet",
    }
    assert {path.name for path in (place / "work").iterdir()} <= made | {"records.batches"}
    (packages,) = (place / "venv/lib").glob("python*/site-packages")
    assert not (packages / "runs").exists() and not (packages / "reports").exists()
