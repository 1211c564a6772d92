"""An export for mergekit names an adapter's base, and mergekit then gives the same numbers."""

import shutil
from pathlib import Path

import peft
import pytest
import yaml
from helpers import assert_equal, recipe
from mergekit.common import ModelReference
from transformers import AutoModelForCausalLM

import acm
from acm.errors import UserError
from acm.merging.export import mergekit_recipe
from acm.merging.plan import make_plan
from acm.merging.recipe import load_recipe


@pytest.fixture(scope="module")
def adapter(f32, tmp_path_factory):
    """An adapter of the float32 base, its weights random."""
    config = peft.LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(f32[0]), config)
    model.save_pretrained(folder := tmp_path_factory.mktemp("adapters") / "one")
    return folder


def exported(content, folder=Path()):
    """What the export writes, read."""
    return yaml.safe_load(mergekit_recipe(make_plan(load_recipe(content)[0], folder).check(), folder))


@pytest.mark.parametrize("form", ["alone", "plus"])
def test_mergekit_merges_an_exported_adapter_alike(f32, adapter, tensors, run_mergekit, tmp_path, form):
    named = str(adapter) if form == "alone" else f"{f32[0]}+{adapter}"
    content = recipe("task_arithmetic", f32[0], named, f32[1], parameters={"weight": 0.4}, dtype="float32")
    found = exported(content)
    assert found["models"][1 if "one" in found["models"][1]["model"] else 0]["model"] == f"{f32[0]}+{adapter}"
    theirs = run_mergekit(yaml.safe_dump(found), tmp_path / "theirs", cache=tmp_path / "cache")
    assert_equal(tensors(acm.merge(content, tmp_path / "ours")), tensors(theirs), tensors(f32[0]))


def test_several_adapters_on_one_model_are_refused(f32, adapter):
    with pytest.raises(UserError, match="no equal of several adapters on one model"):
        exported(recipe("task_arithmetic", f32[0], f"{f32[0]}+{adapter}+{adapter}", parameters={"weight": 0.4}))


@pytest.mark.parametrize("name", ["a+b", "a@b", "a b", "a'b\"c"])
def test_a_folder_whose_name_has_marks_of_mergekit(f32, tensors, tmp_path, name):
    """mergekit reads the folder's own path from it, and so do we."""
    folder = Path(shutil.copytree(f32[1], tmp_path / name))
    content = recipe("task_arithmetic", f32[0], folder, parameters={"weight": 0.4})
    model = exported(content)["models"][0]["model"]
    assert ModelReference.model_validate(model).model.path == str(folder)
    again = exported(
        content | {"models": [{"model": {"model": {"path": str(folder), "revision": None}, "lora": None}}]}
    )
    assert again["models"][0]["model"] == model
