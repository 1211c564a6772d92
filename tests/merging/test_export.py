"""Recipes exported to mergekit, coefficients included: mergekit makes the same of them, or they are refused by name."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import CLASSIC, FILTERS, HEAD, SINGLE, assert_equal
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import acm
from acm.__main__ import app
from acm.errors import UserError

LAYERS = {"embed": 0.1, "0": 0.25, "1": 0.95, "2": 0.4, "3": 0.55, "4": 0.7, "norm": 0.65, "lm_head": 0.9}


@pytest.fixture
def exported(tmp_path, tensors, run_mergekit):
    """Merges a recipe with acm, exports it, merges the export with mergekit, and returns what each made."""

    def run(content):
        coefficients = {"left": LAYERS, "right": dict.fromkeys(LAYERS, 0.8)}
        (tmp_path / "coefficients.json").write_text(json.dumps({"coefficients": coefficients}))
        (tmp_path / "recipe.yml").write_text(yaml.safe_dump(content))
        ours = acm.merge(tmp_path / "recipe.yml", tmp_path / "ours")
        command(tmp_path, "--to", "mergekit", "--out", str(tmp_path / "export.yml"))
        return tensors(ours), tensors(run_mergekit((tmp_path / "export.yml").read_text(), tmp_path / "theirs"))

    return run


WITH = {"coefficients": "coefficients.json"}


def command(folder, *arguments):
    """Runs `acm export` on the folder's recipe and returns what it prints; raises what it raises."""
    done = CliRunner().invoke(app, ["export", str(folder / "recipe.yml"), *arguments])
    if done.exception:
        raise done.exception
    return done.stdout


def export(content, folder):
    """The export of a recipe, read."""
    (folder / "recipe.yml").write_text(yaml.safe_dump(content))
    return yaml.safe_load(command(folder))


def recipe(method, folders, models=1, own=None, **extra):
    """A recipe with the first of these models. own: parameters of each."""
    listed = [{"model": str(folder), "parameters": own or {}} for folder in folders[1 : 1 + models]]
    return {"merge_method": method, "base_model": str(folders[0]), "models": listed} | extra


@pytest.mark.parametrize("method, models, own, extra", [
    ("task_arithmetic", 1, {}, WITH),
    ("task_arithmetic", 2, {"weight": 0.4}, WITH | {"parameters": {"lambda": 0.5, "weight": 0.3}}),
    ("task_arithmetic", 2, {"weight": FILTERS}, {"parameters": {"normalize": True}}),
    ("ties", 1, {"density": 0.3}, WITH | {"parameters": {"normalize": False}}),
    ("ties", 2, {"density": 0.3}, WITH | {"parameters": {"normalize": False}, "election": "weighted"}),
    ("breadcrumbs", 1, {"gamma": 0.1}, WITH | {"parameters": {"density": 0.4}}),
    ("breadcrumbs", 2, {"density": 0.4}, WITH),
    ("slerp", 1, {}, WITH),
    ("slerp", 1, {}, WITH | {"parameters": {"t": 0.5}}),
    ("slerp", 1, {}, {"parameters": {"t": CLASSIC}}),
    ("linear", 2, {"weight": [0.3, 0.6]}, {"parameters": {"weight": 0.2}}),
    ("model_stock", 2, {}, {}),
    ("nuslerp", 2, {}, WITH | {"parameters": {"nuslerp_flatten": False}}),
    ("nuslerp", 2, {"weight": FILTERS}, {"parameters": {"nuslerp_row_wise": True}, "base_model": None}),
    ("multislerp", 2, {}, WITH | {"parameters": {"normalize_weights": False}}),
    ("multislerp", 2, {"weight": 0.4}, {"parameters": {"eps": 1e-4}, "base_model": None}),
    ("karcher", 2, {}, {"parameters": {"max_iter": 3}}),
    ("karcher", 2, {}, {"base_model": None}),
    ("nearswap", 1, {}, {"parameters": {"t": [0.01, 0.03]}}),
    ("arcee_fusion", 1, {}, {}),
    ("ram", 2, {}, {"parameters": {"epsilon": 0.02}}),
    ("ramplus_tl", 2, {}, {"parameters": {"epsilon": 0.02, "r": 0.5}}),
    ("sce", 2, {}, {"parameters": {"select_topk": 0.4, "weights_only": False}}),
])  # fmt: skip
def test_export_gives_the_same_in_mergekit(exported, deep, tensors, method, models, own, extra):
    assert_equal(*exported(recipe(method, deep, models, own, **extra)), tensors(deep[0]), everywhere=False)


def test_export_names_models_so_that_mergekit_finds_them(deep, exported, tensors, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folders = [os.path.relpath(folder, tmp_path) for folder in deep]
    assert_equal(*exported(recipe("task_arithmetic", folders, 2, **WITH)), tensors(deep[0]))


@pytest.mark.parametrize("name", ["folder", "path"])
def test_export_names_the_tokenizers_source_so_that_mergekit_finds_it(deep, tmp_path, name):
    models = [os.path.relpath(folder, tmp_path) for folder in deep]
    source = "left" if name == "folder" else models[1]
    content = recipe("task_arithmetic", models, parameters={"weight": 0.5}, tokenizer_source=source)
    assert Path(export(content, tmp_path)["tokenizer_source"]) == deep[1]


def test_export_refuses_or_reproduces_padding_rows(exported, worded, tmp_path):
    copy = tmp_path / "copy"
    copy.symlink_to(worded[1])
    content = recipe("task_arithmetic", [worded[1], copy], parameters={"weight": 0.5}, tokenizer_source="base")
    try:
        ours, theirs = exported(content)
    except UserError as error:
        assert "rows" in str(error)
    else:
        assert all(tensor.shape == theirs[n].shape for n, tensor in ours.items())


def test_export_to_standard_output_and_unknown_formats(deep, tmp_path):
    content = recipe("task_arithmetic", deep, parameters={"weight": 0.5})
    assert export(content, tmp_path)["models"][0]["model"] == str(deep[1])
    with pytest.raises(UserError, match="Did you mean 'mergekit'"):
        command(tmp_path, "--to", "mergkit")


@pytest.mark.parametrize("method, models, extra, reason", [
    ("dare_linear", 1, {"parameters": {"weight": 1.0, "density": 0.5}}, "merge_method dare_linear"),
    ("dare_ties", 2, {"parameters": {"weight": 1.0, "density": 0.5}}, "merge_method dare_ties"),
    ("della", 1, {"parameters": {"weight": 1.0, "density": 0.5}}, "merge_method della"),
    ("interpolation", 1, {"parameters": {"weight": 0.5}}, "merge_method interpolation"),
    ("twin", 1, {"parameters": {"weight": 0.5, "rank": 0.5}}, "merge_method twin"),
    ("lore", 2, {"parameters": {"mu": 0.5}}, "merge_method lore"),
    ("ties", 1, {"parameters": {"weight": 0.5, "density": 0.5}, "scope": "global"}, "scope: global"),
    ("ties", 2, WITH | {"parameters": {"normalize": False}}, "election: unweighted"),
    ("breadcrumbs_ties", 2, {"parameters": {"weight": 0.5}, "election": "unweighted"}, "election: unweighted"),
    ("ties", 1, WITH, "normalize: true with coefficients"),
    ("task_arithmetic", 1, WITH | {"parameters": {"normalize": True}}, "normalize: true with coefficients"),
    ("model_stock", 2, WITH, "coefficients with model_stock"),
    ("nearswap", 1, WITH | {"parameters": {"t": 0.1}}, "coefficients with nearswap"),
    ("arcee_fusion", 1, WITH, "coefficients with arcee_fusion"),
    ("ram", 2, WITH, "coefficients with ram"),
    ("ramplus_tl", 2, WITH, "coefficients with ramplus_tl"),
    ("sce", 2, WITH, "coefficients with sce"),
    ("sce", 2, {"parameters": {"weights_only": True}}, "weights_only: true"),
    ("sce", 2, {"parameters": {"weights_only": [{"filter": "mlp", "value": True}]}}, "weights_only: true"),
    ("multislerp", 2, WITH, "normalize_weights: true with coefficients"),
    ("multislerp", 1, WITH | {"parameters": {"normalize_weights": False}}, "coefficients of a single model"),
    ("nuslerp", 2, {"coefficients": [0.5, 0.0]}, "coefficients of 0 for all models"),
])  # fmt: skip
def test_export_refuses_what_mergekit_cannot_do(deep, tmp_path, method, models, extra, reason):
    (tmp_path / "coefficients.json").write_text(json.dumps({"coefficients": {"left": LAYERS, "right": LAYERS}}))
    with pytest.raises(UserError, match=f"no equal of .*{reason}"):
        export(recipe(method, deep, models, **extra), tmp_path)


def test_export_refuses_tensors_of_which_arcee_fusion_draws_a_sample(deep, tmp_path, monkeypatch):
    content = recipe("arcee_fusion", deep)
    assert export(content, tmp_path)["merge_method"] == "arcee_fusion"
    monkeypatch.setattr("acm.merging.export.SAMPLED", 1000)
    with pytest.raises(UserError, match="no equal of arcee_fusion of tensors above 1,000 entries, of which it draws"):
        export(content, tmp_path)


def test_export_refuses_heads_and_rows_that_differ(deep, worded, tmp_path):
    tied = tmp_path / "tied"
    shutil.copytree(deep[1], tied)
    config = json.loads((tied / "config.json").read_text())
    (tied / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    weights = {name: tensor for name, tensor in load_file(tied / SINGLE).items() if name != HEAD}
    save_file(weights, tied / SINGLE, metadata={"format": "pt"})
    with pytest.raises(UserError, match="no equal of models whose heads are tied and untied"):
        export(recipe("task_arithmetic", [deep[0], tied], parameters={"weight": 0.5}), tmp_path)
    with pytest.raises(UserError, match="no equal of embeddings of unlike length or order"):
        export(recipe("task_arithmetic", worded, parameters={"weight": 0.5}), tmp_path)
