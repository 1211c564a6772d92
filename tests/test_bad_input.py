"""Bad input is refused with a message that names the thing and the remedy, before anything is written."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import acm
from acm.__main__ import app
from acm.errors import UserError
from acm.merging.recipe import load_recipe
from acm.paths import PROFILES, ROOT
from acm.profiles import load_profile
from acm.running.notebooks import check_parameters, run_notebook

NOTEBOOK = ROOT / "notebooks" / "1-calibrate.ipynb"
TA = {"merge_method": "task_arithmetic", "parameters": {"weight": 0.2}}
LAYERS = ["embed", "0", "1", "norm", "lm_head"]


def assert_refused(action, *words):
    """The action raises UserError, and its message holds all the words."""
    with pytest.raises(UserError) as error:
        action()
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.fixture
def assert_merge_refused(f32, tmp_path):
    """A recipe for the pico models, changed, is refused and leaves the output's folder as it was."""

    def check(*words, out="out", **changes):
        content = {"merge_method": "task_arithmetic", "base_model": str(f32[0]), "models": [{"model": str(f32[1])}],
                   "parameters": {"weight": 0.5}} | changes  # fmt: skip
        before = sorted(tmp_path.rglob("*"))
        assert_refused(lambda: acm.merge({k: v for k, v in content.items() if v is not None}, tmp_path / out), *words)
        assert sorted(tmp_path.rglob("*")) == before

    return check


@pytest.mark.parametrize("change, words", [
    ({"merge_method": "task_arithmetc"}, ["merge_method", "'task_arithmetc'", "Did you mean 'task_arithmetic'?"]),
    ({"merge_method": "zip"}, ["'zip'", "Known: ", "ties"]),
    ({"merge_method": None}, ["merge_method", "is missing"]),
    ({"models": None}, ["models", "is missing"]),
    ({"models": []}, ["models"]),
    ({"base_model": None}, ["task_arithmetic needs `base_model`"]),
    ({"parameters": None}, ["task_arithmetic needs `weight`", "left"]),
    ({"parameters": {"weihgt": 0.5}}, ["parameters", "'weihgt'", "Did you mean 'weight'?"]),
    ({"parameters": {"weight": "half"}}, ["weight must be a number", "'half'"]),
    ({"parameters": {"weight": True}}, ["weight must be a number", "true"]),
    ({"parameters": {"weight": None}}, ["weight must be a number", "empty"]),
    ({"parameters": {"weight": float("nan")}}, ["weight", "nan"]),
    ({"parameters": {"weight": 0.5, "lambda": float("inf")}}, ["lambda", "inf"]),
    ({"parameters": {"weight": 0.5, "normalize": 2}}, ["normalize must be true or false", "2"]),
    ({"parameters": 3}, ["parameters"]),
    ({"base_modle": "x"}, ["base_modle", "unknown key"]),
    ({"dtype": "int8"}, ["dtype", "bfloat16"]),
    ({"seed": "later"}, ["seed", "whole number"]),
    ({"election": "none"}, ["election", "unweighted"]),
    ({"base_model": "/absent/base"}, ["/absent/base", "does not exist", "check the path"]),
    ({"models": [{"model": "/absent/left"}]}, ["/absent/left", "does not exist", "check the path"]),
    ({"base_model": ""}, ["a model's name is empty"]),
    ({"base_model": {"model": " "}}, ["a model's name is empty"]),
    ({"models": [{"model": "\n"}]}, ["a model's name is empty"]),
    ({"models": [{"model": "a", "parameters": {"wieght": 1}}]}, ["a", "'wieght'", "Did you mean 'weight'?"]),
    ({"models": [{"modle": "a"}]}, ["models[0].modle", "unknown key"]),
    ({"models": [{"model": "x/left"}, {"model": "./x//left"}]}, ["lists a model twice", "sum of the weights"]),
    ({"coefficients": "/absent/coefficients.json"}, ["/absent/coefficients.json"]),
])  # fmt: skip
def test_recipe(assert_merge_refused, change, words):
    assert_merge_refused(*words, **change)


@pytest.mark.parametrize("method", ["ties", "dare_linear", "dare_ties"])
@pytest.mark.parametrize("density", [0, -0.1, 1.5, float("nan")])
def test_density_outside_its_range(assert_merge_refused, f32, method, density):
    words = ["density is the fraction kept, in (0, 1]", str(density)]
    assert_merge_refused(*words, merge_method=method, parameters={"weight": 1.0, "density": density})
    assert_merge_refused(
        *words, merge_method=method, models=[{"model": str(f32[1]), "parameters": {"weight": 1.0, "density": density}}]
    )


def test_interpolation_of_several_models(assert_merge_refused, f32):
    assert_merge_refused(
        "interpolation takes exactly 1 model", merge_method="interpolation", models=[{"model": str(m)} for m in f32[1:]]
    )


def test_base_alone(assert_merge_refused, f32):
    assert_merge_refused("names no model besides the base", models=[{"model": str(f32[0])}])


def test_linear_weights_that_sum_to_zero(assert_merge_refused, f32):
    models = [{"model": str(m), "parameters": {"weight": w}} for m, w in zip(f32[1:], (1.0, -1.5), strict=True)]
    assert_merge_refused("weight", merge_method="linear", models=models)


def test_coefficients_with_linear(assert_merge_refused):
    assert_merge_refused(
        "linear has no task vectors", "use task_arithmetic", merge_method="linear", coefficients="coefficients.json"
    )


def test_output_exists(assert_merge_refused, tmp_path):
    (tmp_path / "out").mkdir()
    assert_merge_refused("output folder", "exists", "remove it or name another")


def test_model_of_another_shape(assert_merge_refused, make_model, tmp_path):
    wide = make_model(tmp_path / "wide", hidden=32)
    words = [
        "hidden_size is 32 against 16",
        "model.layers.0.mlp.down_proj.weight: (16, 48) against (32, 96)",
        "not fine-tuned from",
    ]
    assert_merge_refused(*words, models=[{"model": str(wide)}])


def test_model_without_a_tensor(assert_merge_refused, f32, make_model, tmp_path):
    bare = make_model(tmp_path / "bare")
    kept = load_file(bare / "model.safetensors")
    del kept["model.norm.weight"]
    save_file(kept, bare / "model.safetensors", metadata={"format": "pt"})
    assert_merge_refused("1 tensors differ", f"model.norm.weight: missing in {bare}", models=[{"model": str(bare)}])


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("where", ["base", "left"])
def test_weights_that_are_not_finite(assert_merge_refused, f32, make_model, tmp_path, where, value):
    def poison(model):
        model.model.layers[1].mlp.down_proj.weight[2, 1:5] = float(value)

    bad = make_model(tmp_path / where, edit=poison)
    change = {"base_model": str(bad)} if where == "base" else {"models": [{"model": str(bad)}]}
    assert_merge_refused(str(bad), "model.layers.1.mlp.down_proj.weight holds 4 values", "again", **change)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_incomplete_model_folder(assert_merge_refused, make_model, tmp_path, missing):
    folder = make_model(tmp_path / "left")
    (folder / missing).unlink()
    assert_merge_refused(str(folder), missing.removeprefix("model."), models=[{"model": str(folder)}])


def test_truncated_safetensors(assert_merge_refused, make_model, tmp_path):
    folder = make_model(tmp_path / "left")
    whole = (folder / "model.safetensors").read_bytes()
    for kept in (len(whole) // 2, 100, 4, 0):
        (folder / "model.safetensors").write_bytes(whole[:kept])
        assert_merge_refused(
            f"{folder / 'model.safetensors'} is not a sound safetensors file", "again", models=[{"model": str(folder)}]
        )


@pytest.mark.parametrize("shard, words", [
    ("../model.safetensors", ["names the shard '../model.safetensors'", "not a safetensors file in its folder"]),
    ("/tmp/model.safetensors", ["names the shard '/tmp/model.safetensors'", "not a safetensors file in its folder"]),
    ("absent.safetensors", ["absent.safetensors is not a sound safetensors file: it does not exist"]),
])  # fmt: skip
def test_index_that_leads_out_of_its_folder(assert_merge_refused, f32, make_model, tmp_path, shard, words):
    folder = make_model(tmp_path / "left", shard="20KB")
    save_file(load_file(f32[1] / "model.safetensors"), tmp_path / "model.safetensors")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.weight"] = shard
    path.write_text(json.dumps(index))
    assert_merge_refused(str(folder), *words, models=[{"model": str(folder)}])


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_broken_index(assert_merge_refused, make_model, tmp_path, content):
    folder = make_model(tmp_path / "left", shard="20KB")
    (folder / "model.safetensors.index.json").write_text(content)
    assert_merge_refused(str(folder / "model.safetensors.index.json"), models=[{"model": str(folder)}])


@pytest.mark.parametrize("content, words", [
    ("{", ["is not readable JSON"]),
    ("[]", ["must hold a JSON object"]),
    ("{}", ["has no `coefficients`"]),
    (json.dumps({"coefficients": {"left": [0.5] * len(LAYERS)}}), ["the list of left has 5 numbers", "2 blocks alone"]),
    ('{"coefficients": {"letf": {}}}', ["model in", "'left'", "Did you mean 'letf'?"]),
    (json.dumps({"coefficients": {"left": dict.fromkeys(LAYERS[:-1], 0.5)}}), ["lacks layer lm_head of left"]),
    (json.dumps({"coefficients": {"left": dict.fromkeys(LAYERS, "half")}}), ["left", "half"]),
    (json.dumps({"coefficients": {"left": dict.fromkeys(LAYERS, float("nan"))}}), ["NaN is not a finite number"]),
], ids=["json", "list", "empty", "long", "model", "layer", "type", "nan"])  # fmt: skip
def test_coefficients_file(assert_merge_refused, tmp_path, content, words):
    path = tmp_path / "coefficients.json"
    path.write_text(content)
    assert_merge_refused(str(path), *words, coefficients=str(path))


@pytest.mark.parametrize("text", ["merge_method: [", "just text", "- a\n- b", ""])
def test_recipe_file_that_is_no_mapping(tmp_path, text):
    (tmp_path / "recipe.yml").write_text(text)
    assert_refused(lambda: load_recipe(tmp_path / "recipe.yml"), str(tmp_path / "recipe.yml"))


@pytest.mark.parametrize("name", ["left", "owner/left", "left+owner/left"])
def test_paths_that_start_from_the_working_folder(f32, tmp_path, monkeypatch, name):
    """mergekit's paths do, and the hub may have another model of such a name. Both remedies work."""
    for place in (tmp_path, tmp_path / "owner"):
        shutil.copytree(f32[1], place / "left")
    (tmp_path / "recipes").mkdir()
    content = {"merge_method": "linear", "models": [{"model": name}], "parameters": {"weight": 1}}
    (tmp_path / "recipes" / "one.yml").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("acm.hub.download", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match=rf"paths in a recipe start at the recipe's, .*recipes; write {tmp_path}/"):
        acm.merge("recipes/one.yml", "out")
    if "+" not in name:
        (tmp_path / "recipes" / "one.yml").write_text(
            json.dumps(content | {"models": [{"model": str(tmp_path / name)}]})
        )
        acm.merge("recipes/one.yml", "out")
        shutil.copy("recipes/one.yml", "one.yml")
        acm.merge("one.yml", "again")


def test_missing_recipe(tmp_path):
    assert_refused(lambda: acm.merge(tmp_path / "absent.yml", tmp_path / "out"), "absent.yml")
    assert not list(tmp_path.iterdir())


def test_unknown_profile_with_a_hint():
    assert_refused(lambda: load_profile("tinny"), "unknown profile 'tinny'", "Did you mean 'tiny'?", "Known: ")
    assert_refused(lambda: load_profile("zzzz"), "unknown profile 'zzzz'", "tiny")


@pytest.mark.parametrize("place, value, words", [
    (["itmes"], 5, ["itmes", "unknown key; did you mean 'items'?"]),
    (["experiments", "general", "tsaks"], [], ["experiments.general.tsaks", "unknown key"]),
    (["experiments", "general", "calibration", "txts"], "a", ["experiments.general.calibration.txts", "unknown key"]),
    (["experiments", "general", "methods", "TA", "weight"], 1,
     ["experiments.general.methods.TA.weight", "unknown key"]),
    (["items"], "many", ["items", "whole number"]),
    (["items"], 0, ["items", "must be at least 1, not 0"]),
    (["experiments", "general", "t"], float("nan"), ["experiments.general.t", "finite number"]),
    (["experiments", "general", "top_p"], float("inf"), ["experiments.general.top_p", "finite number"]),
    (["experiments", "general", "frontier"], [0.1, float("nan")], ["experiments.general.frontier", "finite number"]),
    (["batch_size"], 2.5, ["batch_size", "whole number"]),
    (["dtype"], "float8", ["dtype", "bfloat16"]),
    (["name"], "../up", ["name"]),
    (["experiments", "general", "shift"], "row", ["experiments.general.shift", "unknown shift 'row'", "global"]),
    (["experiments", "general", "finetuned"], "abacus/checkpoints/abacus-sums",
     ["experiments.general.finetuned", "list"]),
    (["experiments", "general", "reference"], "abacus-bsae", ["'abacus-bsae'", "Did you mean 'abacus-base'?"]),
    (["experiments", "general", "methods", "TA", "merge_method"], "tyes", ["'tyes'", "Did you mean 'ties'?"]),
    (["experiments", "general", "methods", "TIES", "parameters", "density"], 1.5, ["TIES", "density", "(0, 1]"]),
    (["experiments", "general", "methods", "TA", "parameters"], {}, ["method TA", "needs `weight`"]),
    (["experiments", "general", "methods", "abacus-base"], TA, ["abacus-base"]),  # the name of a parent
    (["experiments", "general", "methods", "frontier-0.4"], TA, ["frontier-0.4"]),
    (["experiments", "general", "methods", "../TA"], TA, ["../TA"]),  # names become files
    (["experiments", "general", "finetuned"], ["abacus/checkpoints/abacus-sums", "other/abacus-base"], ["abacus-base"]),
])  # fmt: skip
def test_profile(tmp_path, place, value, words):
    content = yaml.safe_load((PROFILES / "tiny.yaml").read_text())
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    assert_refused(lambda: load_profile(str(tmp_path / "mine.yaml")), str(tmp_path / "mine.yaml"), *words)


@pytest.mark.parametrize("name", ["..", "a/b", "", "logs"])
def test_an_experiment_that_cannot_name_a_folder(tmp_path, name):
    content = yaml.safe_load((PROFILES / "tiny.yaml").read_text())
    content["experiments"][name] = content["experiments"].pop("general")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    assert_refused(lambda: load_profile(str(tmp_path / "mine.yaml")), "experiment")


def test_unknown_experiment():
    assert_refused(
        lambda: load_profile("tiny").experiment("long-to-shrot"), "'long-to-shrot'", "Did you mean 'long-to-short'?"
    )


@pytest.mark.parametrize("parameters, words", [
    ({"profle": "tiny"}, ["parameter", "'profle'", "Did you mean 'profile'?", "1-calibrate.ipynb"]),
    ({"profile": 3}, ["parameter profile", "must be of type str", "'tiny'", "3"]),
    ({"profile": None}, ["parameter profile", "must be of type str"]),
    ({"experiment": True}, ["parameter experiment", "must be of type str"]),
])  # fmt: skip
def test_notebook_parameters(tmp_path, monkeypatch, parameters, words):
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    assert_refused(lambda: check_parameters(NOTEBOOK, parameters), *words)
    assert_refused(lambda: run_notebook(NOTEBOOK, tmp_path / "new" / "out.ipynb", parameters), *words)
    assert not list(tmp_path.iterdir())


def test_good_notebook_parameters_pass():
    assert check_parameters(NOTEBOOK, {"profile": "other", "experiment": "general"}) is None


def test_missing_notebook(tmp_path):
    assert_refused(lambda: check_parameters(tmp_path / "absent.ipynb", {}), "absent.ipynb does not exist")


def invoke(*arguments):
    """Runs the command line in this process; raises what the command raises."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception:
        raise result.exception


@pytest.fixture
def calibration(f32, tmp_path):
    (tmp_path / "texts.txt").write_text("question: what is 17+5? answer:\n")
    return lambda *more: ["calibrate", *f32[:2], "--texts", tmp_path / "texts.txt", "--out", tmp_path / "out", *more]


@pytest.mark.parametrize("more, words", [
    (["--shift", "row"], ["row", "global, layer, none"]),
    (["--t", "nan"], ["t must be a finite number"]),
    (["--field", "prompt", "--texts", "absent.jsonl"], ["absent.jsonl does not exist"]),
])  # fmt: skip
def test_calibrate_command_refuses_before_writing(calibration, tmp_path, more, words):
    assert_refused(lambda: invoke(*calibration(*more)), *words)
    assert not (tmp_path / "out").exists()


def test_calibrate_command_refuses_two_models_of_one_name(calibration, make_model, f32, tmp_path):
    arguments = calibration()
    twin = make_model(tmp_path / "other" / "left", 5, parent=f32[0])
    assert_refused(lambda: invoke(*arguments[:3], twin, *arguments[3:]), "left", "name")
    assert not (tmp_path / "out").exists()


def test_calibrate_command_writes_table_and_coefficients(calibration, tmp_path):
    invoke(*calibration())
    assert list(json.loads((tmp_path / "out" / "coefficients.json").read_text())["coefficients"]["left"]) == LAYERS
    assert (tmp_path / "out" / "mutual_information.parquet").is_file()


def test_notebook_command_refuses_a_value_that_is_not_yaml(tmp_path):
    assert_refused(lambda: invoke("notebook", NOTEBOOK, tmp_path / "out.ipynb", "-p", "profile=["), "profile")


def command(*arguments, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "acm", *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_command_line_prints_one_line_without_a_traceback(tmp_path):
    done = command("merge", "missing.yml", "out", cwd=tmp_path)
    assert done.returncode != 0 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "missing.yml" in line
    assert not list(tmp_path.iterdir())


def test_command_line_refuses_a_notebook_parameter_without_value(tmp_path):
    done = command("notebook", str(NOTEBOOK), "out.ipynb", "-p", "profile", cwd=tmp_path)
    assert done.returncode != 0 and done.stderr.splitlines() == ["error: parameter 'profile' must be name=value."]


def test_command_line_helps(tmp_path):
    done = command("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("merge", "calibrate", "evaluate", "notebook"))


def test_command_line_merges(f32, tmp_path, tensors):
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump({
        "merge_method": "task_arithmetic", "base_model": str(f32[0]), "models": [{"model": str(f32[1])}],
        "parameters": {"weight": 1},
    }))  # fmt: skip
    done = command("merge", "recipe.yml", "out", cwd=tmp_path)
    assert done.returncode == 0 and "out" in done.stdout
    assert all(torch.equal(t, tensors(f32[1])[n]) for n, t in tensors(tmp_path / "out").items())
