"""The whole pipeline at reduced size, through the real runner, in a copy of the repository."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from helpers import clone

from acm import evaluate, merge
from acm.paths import ROOT
from acm.profiles import load_profile
from acm.reporting.report import listed

PICO = ROOT / "tests" / "data" / "pico.yaml"
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "profile=pico", "--quiet", "rules"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("clone"), PICO)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([*SNAKEMAKE, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(copy):
    """The run breaks once, in a notebook, is mended, and is run again."""
    notebook = copy / "notebooks" / "5-tables.ipynb"
    whole = notebook.read_text()
    notebook.write_text(whole.replace("tables.write_all", "tables.write_none"))
    broken = run(copy)
    left = {p.name for p in copy.glob("runs/pico/notebooks/*/*.failed.ipynb")}
    notebook.write_text(whole)
    return broken, left, run(copy)


@pytest.mark.pipeline
def test_a_failed_notebook_names_its_cell_and_leaves_its_copy(finished):
    broken, left, _ = finished
    assert broken.returncode != 0
    assert "5-tables.ipynb, cell" in broken.stderr + broken.stdout and "AttributeError" in broken.stderr + broken.stdout
    assert "5-tables.failed.ipynb" in left


@pytest.mark.pipeline
def test_the_run_completes_and_publishes(finished, copy):
    assert finished[2].returncode == 0, finished[2].stderr[-3000:]
    message = (copy / "runs/pico/summary.txt").read_text()
    assert "runs/pico/results/reports/pico/report.md" in message and "ACM-TA" in message
    records = pd.read_parquet(copy / "runs/pico/results/reports/pico/long-to-short/records.parquet")
    assert records.groupby("method").size().to_dict() == dict.fromkeys(
        ["ACM-TA", "Null-TA", "abacus-fast", "abacus-slow", "frontier-0.5"], 24
    )
    for experiment in ("long-to-short", "general"):
        assert {"trade_off.svg", "trade_off.png", "trade_off.json", "strips.svg"} <= {
            p.name for p in (copy / "runs/pico/results/figures/pico" / experiment).iterdir()
        }
        assert {"main.csv", "main.md", "main.tex"} <= {
            p.name for p in (copy / "runs/pico/results/reports/pico" / experiment / "tables").iterdir()
        }


@pytest.mark.pipeline
def test_a_run_touches_nothing_that_is_committed_until_it_is_kept(finished, copy):
    assert {path.name for path in (copy / "reports").iterdir()} == {"paper-numbers"} and not (copy / "figures").exists()
    keep = [sys.executable, "-m", "acm", "keep", "--profile", "pico"]
    done = subprocess.run(keep, cwd=copy, check=True, capture_output=True, text=True)
    assert "kept in reports/pico/" in done.stdout
    report = copy / "reports/pico/report.md"
    made = copy / "runs/pico/results/reports/pico/report.md"
    assert report.read_bytes() == made.read_bytes() and (copy / "figures/pico/general/strips.svg").is_file()
    links = re.findall(r"\]\(([^)#:\s]+)\)", report.read_text())
    assert len(links) > 4 and all((report.parent / link).exists() for link in links)


@pytest.mark.pipeline
def test_every_number_of_the_main_table_comes_from_the_records(finished, copy):
    table = pd.read_csv(copy / "runs/pico/results/reports/pico/long-to-short/tables/main.csv").set_index(
        ["method", "task"]
    )
    records = pd.read_parquet(copy / "runs/pico/results/reports/pico/long-to-short/records.parquet")
    means = records.groupby(["method", "task"])[["correct", "length"]].mean()
    for key, row in means.iterrows():
        assert table.loc[key, "accuracy"] == pytest.approx(100 * row["correct"], abs=1e-3)
        assert table.loc[key, "length"] == pytest.approx(row["length"], abs=1e-3)


@pytest.mark.pipeline
def test_figures_name_their_provenance(finished, copy):
    facts = json.loads((copy / "runs/pico/results/figures/pico/long-to-short/trade_off.json").read_text())
    assert "n = 12" in facts["caption"] and "95 %" in facts["caption"]
    assert {"profile_hash", "models", "n", "evaluated_with", "drawn_with"} <= set(facts["provenance"])


@pytest.mark.pipeline
def test_merged_checkpoints_are_gone_and_no_part_is_left(finished, copy):
    assert not list(copy.glob("runs/pico/*/models/*/*.safetensors"))
    assert not list(copy.rglob("*.part*")) and not list(copy.glob("runs/pico/notebooks/**/*.failed.ipynb"))


@pytest.mark.pipeline
def test_a_question_runs_on_any_profile_and_its_verdict_is_published(finished, copy):
    parameters = ("profile=pico", "texts=12", "sizes=[1, 4]", "fields=[question]", "caps=[8]", "dtypes=[bfloat16]")
    notebook = ["notebooks/questions/3-stability.ipynb", "runs/pico/notebooks/questions/3-stability.ipynb"]
    command = [sys.executable, "-m", "acm", "notebook", *notebook, *(part for p in parameters for part in ("-p", p))]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    subprocess.run(
        [sys.executable, "-m", "acm", "publish", "--profile", "pico"], cwd=copy, check=True, capture_output=True
    )
    verdict = json.loads((copy / "runs/pico/results/reports/pico/questions/stability/verdict.json").read_text())
    assert verdict["numbers"]["mean_with_fewest"] == 0.5 and verdict["provenance"]["profile"] == "pico"
    report = (copy / "runs/pico/results/reports/pico/report.md").read_text()
    answer = f"**{verdict['answer']}**"
    details = verdict["verdict"].removeprefix(verdict["answer"]).strip()
    assert report.index(answer) < report.index("questions/stability/texts.svg") < report.index(listed(details))
    assert {"texts.svg", "settings.svg", "texts.json"} <= {
        p.name for p in (copy / "runs/pico/results/figures/pico/questions/stability").iterdir()
    }


@pytest.mark.pipeline
def test_each_model_of_a_share_has_its_notebooks_logs_and_the_responses_it_has_alone(finished, copy, tmp_path):
    profile = load_profile(str(PICO))
    for name, experiment in profile.experiments.items():
        for stage, models in (("3-merge", experiment.method_names), ("4-evaluate", experiment.models)):
            place = Path("pico/notebooks") / name / stage
            assert {path.stem for path in (copy / "runs" / place).iterdir()} == {*models}
            assert {path.stem for path in (copy / "runs/pico/logs" / name / stage).iterdir()} == {*models}
            for path in (copy / "runs" / place).iterdir():
                counts = [cell.execution_count for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
                assert counts == list(range(1, len(counts) + 1)), path
    experiment = profile.experiment("general")
    merged = merge(experiment.recipe("frontier-0.5", Path()), tmp_path / "frontier-0.5", ROOT)
    alone = evaluate(merged, experiment.tasks, **profile.evaluation("general", "frontier-0.5"))
    found = pd.read_parquet(copy / "runs/pico/general/records/frontier-0.5.parquet")
    columns = ["task", "item", "response", "length", "truncated", "correct"]
    assert found[columns].to_dict() == alone[columns].to_dict()
    assert json.loads(found["setting"][0])["model"] == json.loads(alone["setting"][0])["model"]


@pytest.mark.pipeline
def test_a_second_run_has_nothing_to_do(finished, copy):
    again = run(copy)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.pipeline
def test_jobs_by_task_are_gathered_in_the_order_of_the_profile(copy):
    content = yaml.safe_load(PICO.read_text())
    changes = {"tasks": ["abacus_medium", "abacus_easy"], "repeats": 2, "temperature": 0.6}
    content |= {"items": 4, "jobs": "task", "experiments": {"pair": content["experiments"]["long-to-short"] | changes}}
    (copy / "profiles" / "split.yaml").write_text(yaml.safe_dump(content))
    place = Path("runs/split/pair")
    command = [*SNAKEMAKE[:-4], "--config", "profile=split", "--", str(place / "records" / "abacus-slow.parquet")]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = pd.read_parquet(copy / place / "records" / "abacus-slow.parquet")
    assert found[["task", "repeat", "item"]].to_records(index=False).tolist() == [
        (task, repeat, item) for task in changes["tasks"] for repeat in (0, 1) for item in range(4)
    ]
    parts = [
        pd.read_parquet(copy / place / "parts" / "abacus-slow" / f"{task}-{r}.parquet")
        for task in changes["tasks"]
        for r in (0, 1)
    ]
    pd.testing.assert_frame_equal(found, pd.concat(parts, ignore_index=True))
    assert all(json.loads(text)["temperature"] == 0.6 for text in found["setting"])
    assert (parts[0]["response"] != parts[1]["response"]).any()  # each repeat has random states of its own
    shutil.rmtree(copy / place / "parts")
    (copy / place / "records" / "abacus-slow.imported.json").write_text("{}")  # imported records are not made again
    planned = subprocess.run(
        [*SNAKEMAKE[:-4], "--dry-run", "--config", "profile=split"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    counted = dict(line.split() for line in planned.stdout.splitlines() if line.startswith(("evaluate ", "gather ")))
    assert counted == {"evaluate": "16", "gather": "4"}, planned.stderr[-3000:]  # of five methods
