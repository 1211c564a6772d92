"""The executor of cluster/kubernetes against a stand-in for the API server, through Kubernetes' own Python client."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("snakemake_executor_plugin_kubernetes", reason="it needs requirements-cluster.txt")

from helpers_clusters import EXPERIMENT, NAME, prepare
from helpers_kubernetes import api_server
from test_kubernetes import faults_of

from acm.paths import ROOT
from acm.running.budget import request

CLUSTER, IMAGE, PATIENCE = ROOT / "cluster" / "kubernetes", "registry.example.org/acm", 240
WORKFLOW = """
envvars: "GREETING"
rule good:
    output: "good.txt"
    threads: 2
    resources: mem_mb=700
    shell: "echo $GREETING > {output}"
rule bad:
    output: "bad.txt"
    shell: "echo out of luck >&2; exit 3"
rule long:
    output: "long.txt"
    shell: "touch started; sleep 300; touch {output}"
"""


@contextmanager
def head(folder, config, *arguments):
    """Snakemake as in the head pod, with nothing that waits for a network disk."""
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", str(CLUSTER), "--container-image", IMAGE]
    command += ["--latency-wait", "1", "--seconds-between-status-checks", "1", *arguments]
    path = os.pathsep.join([str(CLUSTER), *filter(None, [os.environ.get("PYTHONPATH")])])
    given = os.environ | {"KUBECONFIG": str(config), "PYTHONPATH": path, "GREETING": "hello from the head"}
    process = subprocess.Popen(
        command, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def end(process):
    """Exit status and output of a head process."""
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


@pytest.fixture
def cluster(tmp_path):
    with api_server(tmp_path) as (server, config):
        server.config = config
        yield server


@pytest.fixture
def workflow(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "Snakefile").write_text(WORKFLOW)
    return tmp_path / "work"


def wait_for(path):
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.2)


@pytest.mark.parametrize("rule, models", [("calibrate", 1), ("share", 4)])
def test_a_job_with_a_gpu_asks_for_what_the_plan_says_on_the_node_and_volume_that_are_named(
    tmp_path, cluster, rule, models
):
    place, profile = prepare(tmp_path, "several")
    cluster.instead = ["sh", "-c", "echo CUDA out of memory; exit 9"]
    name = {"share": "share_1"}.get(rule, rule)
    given = ["--set-resources", f"{name}:machine_type=gpu-a100", "--forcerun", name, "--config", f"profile={NAME}"]
    given += ["--retries", "1", "--until", name, "--", f"runs/{NAME}/summary.txt"]
    with head(place, cluster.config, *given) as process:
        status, output = end(process)
    assert status == 1, output
    assert len(cluster.manifests) == 2 == len({m["metadata"]["name"] for m in cluster.manifests}), "it is tried again"
    for manifest in cluster.manifests:
        assert manifest["spec"]["backoffLimit"] == 0 and manifest["metadata"]["labels"] == {"app": "snakemake"}
        spec = manifest["spec"]["template"]["spec"]
        assert faults_of("io.k8s.api.core.v1.PodSpec", spec) == []
        assert spec["restartPolicy"] == "Never"
        assert spec["nodeSelector"] == {"node.kubernetes.io/instance-type": "gpu-a100"}
        assert [t["key"] for t in spec["tolerations"]] == ["nvidia.com/gpu"]
        (claim,) = [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
        (container,) = spec["containers"]
        assert {"name": claim, "mountPath": "/acm"} in container["volumeMounts"] and claim == "acm"
        assert container["image"] == IMAGE and container["args"][1].startswith(f"cd {place} && ")
        asked, limits = (container["resources"][key] for key in ("requests", "limits"))
        assert asked["nvidia.com/gpu"] == limits["nvidia.com/gpu"] == "1"
        memory = request(profile, EXPERIMENT, rule, models=models)["mem_mb"]
        assert asked["memory"] == limits["memory"] == f"{memory}M"
        assert (asked["cpu"], limits["cpu"]) == ("3800m", "4000m") and asked["ephemeral-storage"] == "10000M"


def test_a_job_that_ends_well_is_deleted_and_a_busy_server_is_asked_again(workflow, cluster):
    cluster.faults = {"POST jobs": [429], "GET jobs": [503, 500], "GET pods": [503]}
    with head(workflow, cluster.config, "--", "good.txt") as process:
        status, output = end(process)
    assert status == 0, output
    assert (workflow / "good.txt").read_text() == "hello from the head\n", "the variable comes by a secret"
    (manifest,) = cluster.manifests
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "1900m", "memory": "700M", "ephemeral-storage": "10000M"}}
    assert not any(cluster.faults.values()) and not cluster.jobs and not cluster.pods and not cluster.secrets


def test_a_job_that_fails_leaves_its_log_and_is_deleted_and_the_others_go_on(workflow, cluster):
    with head(workflow, cluster.config, "--", "bad.txt", "good.txt") as process:
        status, output = end(process)
    assert status == 1 and "Job snakejob" in output and "failed" in output, output
    (log,) = (workflow / ".snakemake" / "auxiliary" / "kubernetes-logs").iterdir()
    assert "out of luck" in log.read_text()
    assert (workflow / "good.txt").exists() and not (workflow / "bad.txt").exists()
    assert not cluster.jobs and not cluster.pods and not cluster.secrets


def test_a_job_that_somebody_deletes_has_failed(workflow, cluster):
    with head(workflow, cluster.config, "--", "long.txt") as process:
        wait_for(workflow / "started")
        with cluster.lock:
            (name,) = cluster.jobs
            cluster.delete("jobs", name)
        status, output = end(process)
    assert status == 1 and f"Unknown job {name}. Has the job been deleted manually?" in output, output


def test_an_interrupted_head_deletes_its_jobs(workflow, cluster):
    with head(workflow, cluster.config, "--", "long.txt") as process:
        wait_for(workflow / "started")
        process.send_signal(signal.SIGINT)
        status, output = end(process)
    assert status == 1 and not cluster.jobs and not cluster.pods and not cluster.secrets, output
