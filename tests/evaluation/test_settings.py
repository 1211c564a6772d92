"""How responses are generated: defaults, values out of range, and what the setting of a record says."""

import json
import subprocess
import sys

import pytest
from helpers_evaluation import FAST
from typer.testing import CliRunner

import acm
from acm import Engine, Sampling, Server, evaluate
from acm.__main__ import app
from acm.errors import UserError
from acm.evaluation.settings import MAX_TOKENS, USUAL, chosen_engine, known_arguments, stated
from acm.evaluation.vllm_arguments import VllmArguments
from acm.paths import ROOT

GPU = {"backend": "vllm", "device": "cuda"}


@pytest.mark.parametrize(("made", "values", "message"), [
    (Sampling, {"repeat": -1}, "repeat: is -1"),
    (Sampling, {"temperature": -0.1}, "temperature: is -0.1"),
    (Sampling, {"temperature": float("nan")}, "temperature: is nan"),
    (Sampling, {"temperature": float("inf")}, "temperature: is inf"),
    (Sampling, {"temperature": 1, "top_p": 0}, "top_p: is 0"),
    (Sampling, {"temperature": 1, "top_p": 1.1}, "top_p: is 1.1"),
    (Sampling, {"top_p": 0.9}, "top_p: 0.9 has no effect at temperature 0"),
    (Engine, {"backend": "vlm"}, "unknown backend 'vlm'. Did you mean 'vllm'"),
    (Engine, {"backend": "server"}, "backend server: give its address"),
    (Engine, {"dtype": "float8"}, "unknown dtype 'float8'. .*bfloat16"),
    (Engine, {"batch_size": 0}, "batch_size: is 0"),
    (Engine, {"backend": "vllm"}, "device: is cpu, and the backend vllm runs on a GPU"),
    (Engine, {"model_args": {"trust_remote_code": True}},
     "unknown model argument of backend transformers 'trust_remote_code'"),
    (Engine, GPU | {"model_args": {"tensor_parallel": 2}}, "unknown model argument of backend vllm 'tensor_parallel'"),
    (Engine, GPU | {"model_args": {"tensor_parallel_size": "two"}}, "model_args is not valid: tensor_parallel_size"),
    (Server, {"url": "http://localhost:1", "concurrency": 0}, "concurrency: is 0"),
    (Server, {"url": "http://localhost:1", "model_args": {"seed": 1}}, "unknown model argument of backend server"),
    (Server, {"url": "localhost:8000"}, "url: must be like http://localhost:8000/v1"),
    (Server, {"url": "http://me:key@localhost:8000"}, "url: must be like .* OPENAI_API_KEY"),
    (Server, {"url": "http://localhost:99999"}, "url: must be like"),
    (Server, {"url": "http://localhost?a=1"}, "url: must be like"),
])  # fmt: skip
def test_values_out_of_range_are_refused_when_an_object_is_made(made, values, message):
    with pytest.raises(UserError, match=message):
        made(**values)


@pytest.mark.parametrize(
    "url", ["http://host:8000", "http://host:8000/", "http://host:8000/v1", "http://host:8000/v1/"]
)
def test_the_address_of_a_server_ends_with_v1(url):
    assert Server(url).address == "http://host:8000/v1"


def chosen(backend="transformers", url=None, served=None, concurrency=1, **local):
    return chosen_engine(backend, url=url, served=served, concurrency=concurrency, batch_size=3, **local)


def test_options_of_the_command_line_choose_an_engine():
    assert chosen(dtype="bfloat16", device="cuda") == Engine("transformers", "bfloat16", "cuda", 3)
    assert chosen("server", "http://a", "name", 4, dtype="float32") == Server("http://a", "name", 4, 3)


@pytest.mark.parametrize(("options", "message"), [
    ({"backend": "server"}, "backend server: give its address"),
    ({"backend": "server", "served": "name"}, "backend server: give its address"),
    ({"url": "http://localhost"}, "backend transformers: takes no url"),
    ({"concurrency": 2}, "backend transformers: takes no concurrency"),
    ({"served": "name", "backend": "vllm", "device": "cuda"}, "backend vllm: takes no served"),
    ({"backend": "server", "url": "http://localhost", "dtype": "bfloat16"}, "backend server: takes no dtype"),
    ({"backend": "servr", "url": "http://localhost"}, "unknown backend 'servr'. Did you mean 'server'"),
    ({"batchsize": 2}, "unknown setting of evaluate 'batchsize'. Did you mean 'batch_size'"),
    ({"backend": "vlm"}, "unknown backend 'vlm'"),
])  # fmt: skip
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        chosen(**options)


@pytest.mark.parametrize(("fields", "message"), [
    ({"engine": Engine(), "batch_size": 4}, "batch_size: is given beside engine"),
    ({"engine": Server("http://localhost:1"), "url": "http://localhost:1"}, "url: is given beside engine"),
    ({"backend": "server"}, "backend server: give its address"),
    ({"item": 3}, "unknown setting of evaluate 'item'"),
])  # fmt: skip
def test_evaluate_takes_the_fields_of_an_engine_or_the_engine(fields, message):
    with pytest.raises(UserError, match=message):
        evaluate(FAST, ["abacus_easy"], **fields)


def test_the_command_line_has_the_defaults_of_the_objects():
    import inspect

    from acm.commands.measuring import evaluate as command

    given = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
    for made in (Sampling(), Engine()):
        shared = {name: value for name, value in vars(made).items() if name != "model_args"}
        assert {name: given[name] for name in shared} == shared
    assert given["max_tokens"] == MAX_TOKENS == inspect.signature(evaluate).parameters["max_tokens"].default
    assert (given["served"], given["concurrency"]) == (Server.served, Server.concurrency)
    assert given["batch_size"] == Server("http://a").batch_size


@pytest.mark.parametrize("out", [".", "", "..", "/", "records.batches"])
def test_what_cannot_be_the_table_is_refused_before_anything_runs(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", str(FAST), "--task", "abacus_easy", "--out", out]
    with pytest.raises(UserError, match=r"--out: .* is no file for a table"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not list(tmp_path.iterdir())


def test_what_vllm_takes_stands_once():
    assert known_arguments("vllm") == tuple(VllmArguments.model_fields) and VllmArguments().model_dump() == {}


def test_usual_values_are_those_of_the_objects():
    said = stated(Engine(), Sampling(), MAX_TOKENS, None)
    assert {key: said[key] for key in USUAL} == USUAL
    assert list(said) == ["dtype", "device", "batch_size", "max_tokens", "seed", *USUAL]
    assert not {"dtype", "device"} & set(stated(Server("http://a"), Sampling(), MAX_TOKENS, None))


def test_a_whole_number_is_stated_as_the_fraction_that_it_is():
    said = json.dumps(stated(Engine(), Sampling(temperature=1, top_p=1), 5, None))
    assert '"temperature": 1.0, "top_p": 1.0' in said


def test_a_package_or_gpu_that_is_not_here_is_named_before_any_model_is_loaded(monkeypatch):
    monkeypatch.setattr("acm.evaluation.settings.find_spec", lambda name: None)
    with pytest.raises(UserError, match="package vllm is not installed"):
        evaluate(FAST, ["abacus_easy"], engine=Engine("vllm", device="cuda"))


def alone(code):
    """Runs Python code in a process of its own; the last line that it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [
    ["--help"], ["evaluate", "--help"], ["plan", "--profile", "tiny"], ["check", "--profile", "tiny"],
    ["import", "--help"], ["fetch", "--help"], ["tasks"],
], ids=" ".join)  # fmt: skip
def test_light_commands_import_nothing_heavy(arguments):
    code = f"""
import sys
from acm.__main__ import app
try:
    app({arguments!r})
except SystemExit as end:
    assert not end.code
print(sorted({{"torch", "lm_eval", "transformers", "datasets", "pandas"}} & set(sys.modules)))
"""
    assert alone(code) == "[]"


def test_without_the_harness_there_is_one_sentence():
    code = """
import sys
from importlib import util
sys.modules["lm_eval"], found = None, util.find_spec
util.find_spec = lambda name, *rest: None if name == "lm_eval" else found(name, *rest)
import acm
try:
    acm.evaluate("model", ["abacus_easy"])
except acm.errors.UserError as error:
    print(error)
"""
    assert alone(code) == (
        'evaluation needs lm-evaluation-harness; install it with pip install "acm-companion[evaluate]".'
    )


def test_the_objects_are_public():
    assert {"evaluate", "Engine", "Sampling", "Server"} <= set(acm.__all__)


@pytest.mark.parametrize("device", ["foo", "gpu", "cuda:x", "CPU"])
def test_a_device_that_no_machine_has_is_refused(device):
    """lm-eval would take another one without a word."""
    with pytest.raises(UserError, match=f"unknown device '{device}'"):
        Engine(device=device).check_here()
