"""What Snakemake's plugin for SLURM hands to sbatch, here a script that notes it and refuses the job.

tests/slurm/cluster.sh goes through a real SLURM.
"""

import json
import os
import re
import subprocess
import sys
from itertools import takewhile

import pytest

pytest.importorskip("snakemake_executor_plugin_slurm", reason="it needs requirements-cluster.txt")

from helpers_clusters import EXPERIMENT, NAME, prepare

from acm.paths import ROOT
from acm.running.budget import request

CONFIG = ROOT / "cluster" / "slurm" / "config.yaml"
PAGE = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
SBATCH = f"""#!{sys.executable}
import json, sys
with open("sbatch.jsonl", "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
sys.exit("no cluster here")
"""
OTHER = {"sacctmgr": "#!/bin/sh\necho ours\n"}  # the accounts of the user


@pytest.fixture
def submit(tmp_path):
    """Snakemake's calls of sbatch for some targets, without the wrapped command."""

    def run(jobs, *arguments, config=""):
        place, profile = prepare(tmp_path, jobs)
        others = ("sacct", "sacctmgr", "scancel", "scontrol", "sinfo", "squeue", "sshare")  # none of a real SLURM
        for name in ("sbatch", *others):
            path = place / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(SBATCH if name == "sbatch" else OTHER.get(name, "#!/bin/sh\n"))
            path.chmod(0o755)
        (place / "bin" / "config.yaml").write_text(CONFIG.read_text() + config)
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", str(place / "bin")]
        command += ["--config", f"profile={NAME}", "--cores", "64", "--retries", "0", *arguments]
        path = os.pathsep.join([str(place / "bin"), os.environ["PATH"]])
        done = subprocess.run(command, cwd=place, env=os.environ | {"PATH": path}, capture_output=True, text=True)
        assert done.returncode == 1 and "no cluster here" in done.stderr, done.stderr[-2000:]
        calls = map(json.loads, (place / "sbatch.jsonl").read_text().splitlines())
        return [list(takewhile(lambda word: not word.startswith("--wrap"), call)) for call in calls], profile

    return run


def value(call, option):
    return call[call.index(option) + 1]


def test_an_engine_for_a_profile_is_one_job_with_one_gpu_and_goes_where_the_page_says(submit):
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (call,), profile = submit("several", "share_1", config=block)
    assert (value(call, "-A"), value(call, "-p")) == ("ours", "gpu")
    assert profile.shares(EXPERIMENT) == [["abacus-fast", "abacus-slow", "ACM-TA", "frontier-0.5"]]
    asked = request(profile, EXPERIMENT, "share", models=4)
    assert (int(value(call, "--mem")), int(value(call, "-t"))) == (asked["mem_mb"], asked["runtime"])
    assert "--gpus=1" in call and "--cpus-per-task=4" in call and value(call, "--comment") == "rule_share_1"
    assert not any(word.startswith("--array") for word in call)


RECORDS = f"runs/{NAME}/{EXPERIMENT}/records/abacus-slow.parquet"


def test_each_repeat_is_a_job(submit):
    calls, profile = submit("task", RECORDS)
    comments = sorted(value(call, "--comment") for call in calls)
    assert [re.search(r"abacus_easy-\d", comment)[0] for comment in comments] == ["abacus_easy-0", "abacus_easy-1"]
    asked = request(profile, EXPERIMENT, "evaluate", "abacus_easy-0")
    for call in calls:
        assert "--gpus=1" in call and int(value(call, "--mem")) == asked["mem_mb"]
        assert int(value(call, "-t")) == asked["runtime"]


def test_the_repeats_are_one_array_where_it_is_asked_for(submit):
    (call,), _ = submit("task", "--slurm-array-jobs", "evaluate", "--", RECORDS)
    assert "--array=1-2" in call and "--gpus=1" in call


def test_files_and_commands_of_the_page_exist():
    for name in re.findall(r"\]\(\.\./([^)#]+)\)", PAGE):
        assert (ROOT / name).exists(), name
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"reproduce", "dry-run", "questions", "unlock", "slurm-test"} == set(
        re.findall(r"\bmake ([a-z-]+)\b", PAGE)
    ) - {"test"} and {"reproduce", "unlock"} <= set(targets)
