"""`acm check` and `acm merge` as commands: what they print, what they import, how they end."""

import json
import shutil
import signal
import time

import pytest
import yaml
from helpers import HEAD, NORM, SINGLE, contents, halfway, names, recipe, run, start

import acm
from acm.devices import has_gpu_driver
from acm.merging.plan import make_plan
from acm.merging.recipe import load_recipe

HEAVY = ("torch", "transformers", "pandas", "numba")


def command(folder, content, *arguments):
    """Runs `python -m acm ARGUMENTS` beside the recipe r.yml: exit status, standard output, standard error."""
    (folder / "r.yml").write_text(yaml.safe_dump(content))
    return run("-m", "acm", *arguments, cwd=folder)


def test_check_prints_every_finding(f32, variant, tmp_path):
    content = halfway(f32[0], variant(f32[1], "other", {"eos_token_id": 7, "rope_parameters": {"rope_theta": 5e5}}))
    status, stdout, _ = command(tmp_path, content, "check", "r.yml")
    *printed, last = stdout.splitlines()
    findings = make_plan(*load_recipe(content)).findings
    expected = {str(finding) for finding in findings if "GB are free" not in finding.text}
    assert status == 0 and last.startswith("ready: ")
    assert expected < set(printed) and len(printed) == len(expected) + 1
    assert {line.split(":")[0] for line in printed} == {"warning", "note"}


def test_check_exits_with_1_on_errors(f32, variant, tmp_path):
    other = variant(f32[1], "other", {"rms_norm_eps": 1e-5, "hidden_act": "gelu", "eos_token_id": 7})
    status, stdout, stderr = command(tmp_path, halfway(f32[0], other), "check", "r.yml")
    assert status == 1 and [line.split(":")[0] for line in stdout.splitlines()].count("error") == 2
    assert "note: eos_token_id" in stdout and "Traceback" not in stderr and "ready" not in stdout
    assert stderr.startswith("error: this merge cannot run")
    assert all(key in stderr for key in ("rms_norm_eps", "hidden_act"))


def test_check_of_a_large_model_takes_a_moment(f32, tmp_path):
    header, place = {}, 0
    for i in range(500):
        name = "model.embed_tokens.weight" if i == 0 else HEAD if i == 1 else f"model.layers.{i // 20}.mlp.w{i}.weight"
        header[name] = {"dtype": "BF16", "shape": [4000, 5000], "data_offsets": [place, place := place + 40_000_000]}
    text = json.dumps(header).encode()
    folders = [tmp_path / "big", tmp_path / "large"]
    for folder in folders:
        folder.mkdir()
        shutil.copyfile(f32[0] / "tokenizer.json", folder / "tokenizer.json")
        (folder / "config.json").write_text('{"model_type": "unknown"}')  # its tensors are those of no architecture
        with (folder / SINGLE).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + place)
        if (folder / SINGLE).stat().st_blocks > 10_000:
            pytest.skip("this file system has no sparse files")
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        _, stdout, _ = command(tmp_path, halfway(*folders), "check", "r.yml")
        seconds.append(time.perf_counter() - began)
    assert "reads 40.00 GB, writes 20.00 GB" in stdout and min(seconds) < 8  # of 40 GB only the headers are read


def test_merge_merges_once(f32, tmp_path):
    content = halfway(*f32)
    assert command(tmp_path, content, "merge", "r.yml", "out")[:2] == (0, "merged model: out\n")
    taken = "error: output folder out exists; remove it or name another.\n"
    assert command(tmp_path, content, "merge", "r.yml", "out") == (1, "", taken)
    assert contents(tmp_path / "out") == contents(acm.merge(tmp_path / "r.yml", tmp_path / "whole"))


def imported(folder, *arguments):
    """Which heavy packages a command imports, and what it prints before it says so."""
    script = (
        "import sys; sys.argv[0] = 'acm'; from acm.__main__ import app; app(standalone_mode=False); "
        f"print(*(name for name in {HEAVY} if name in sys.modules))"
    )
    status, stdout, stderr = run("-c", script, *arguments, cwd=folder)
    assert status == 0, stderr
    *printed, last = stdout.split("\n")[:-1]
    return set(last.split()), "\n".join(printed)


@pytest.mark.parametrize("arguments, word", [
    (["check", "r.yml"], "ready: 27 tensors by Task Arithmetic."),
    (["merge", "r.yml", "out", "--dry-run"], NORM),
])  # fmt: skip
def test_a_plan_imports_nothing_heavy_and_writes_nothing(f32, tmp_path, arguments, word):
    (tmp_path / "r.yml").write_text(yaml.safe_dump(halfway(f32[0], *f32)))
    heavy, stdout = imported(tmp_path, *arguments)
    assert not heavy and stdout.startswith("note: ") and "GB are free" in stdout and word in stdout
    assert names(tmp_path) == ["r.yml"]


@pytest.mark.parametrize("method, parameters, expected", [
    ("linear", {"weight": 0.5}, {"numba"}),
    ("task_arithmetic", {"weight": 0.5}, {"numba"}),
    ("ties", {"weight": 0.5, "density": 0.3}, {"numba"}),
    ("dare_ties", {"weight": 0.5, "density": 0.3}, {"numba"}),
    ("slerp", {"t": 0.5}, {"numba", "torch"}),  # its angle is summed as torch sums it
    ("della", {"weight": 0.5, "density": 0.7}, {"torch"}),
])  # fmt: skip
def test_a_merge_imports_only_what_its_method_needs(f32, tmp_path, method, parameters, expected):
    folders = f32[:2] if method == "slerp" else f32
    (tmp_path / "r.yml").write_text(yaml.safe_dump(recipe(method, *folders, parameters=parameters)))
    device = ["--device", "cpu"] if has_gpu_driver() else []  # without a driver, torch is not asked for a GPU
    heavy, stdout = imported(tmp_path, "merge", "r.yml", "out", *device)
    assert heavy == expected and stdout.endswith("merged model: out")


def test_a_merge_is_interrupted_without_a_traceback(large, tmp_path):
    content = recipe("della", *large, parameters={"weight": 0.5, "density": 0.5})  # seconds: it sorts every row
    (tmp_path / "r.yml").write_text(yaml.safe_dump(content))
    process = start("-m", "acm", "merge", "r.yml", "out", "--threads", "1", cwd=tmp_path)
    while not list(tmp_path.glob(".out.part/journal.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode not in (0, -signal.SIGINT) and "Traceback" not in stderr
    assert "interrupted; the same merge continues when it is run again" in stderr
    assert names(tmp_path) == [".out.part", "r.yml"]
