"""Calibration reads an adapter as the model that it makes of its base."""

import json
import shutil

import pandas as pd
import peft
import pytest
import torch
from helpers_calibration import TEXTS
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import acm
from acm.__main__ import app
from acm.checkpoints import ADAPTER
from acm.errors import UserError


def train(base, folder, seed, **settings):
    """A random adapter, written by peft."""
    config = peft.LoraConfig(**{"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "down_proj"], **settings})
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


def made(base, adapter, out):
    """The folder that adapter and base make."""
    models = [{"model": f"{base}+{adapter}"}]
    return acm.merge({"merge_method": "linear", "models": models, "parameters": {"weight": 1}}, out)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head", "embed_tokens"]}])
def test_an_adapter_measures_as_the_folder_that_it_makes(settings, f32, tmp_path):
    """Named alone, named with its base, and as the base itself."""
    base, adapter = f32[0], train(f32[0], tmp_path / "adapter", 1, **settings)
    folder = made(base, adapter, tmp_path / "folder")
    expected = acm.calibrate(base, {"m": folder}, TEXTS, controls=("none", "unrelated"))
    for name in (adapter, f"{base}+{adapter}"):
        found = acm.calibrate(base, {"m": name}, TEXTS, controls=("none", "unrelated"))
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    reverse = acm.calibrate(f"{base}+{adapter}", {"m": base}, TEXTS)
    pd.testing.assert_frame_equal(reverse, acm.calibrate(folder, {"m": base}, TEXTS), check_exact=True)


def test_statistics_of_an_adapter_merge_by_its_name(f32, tmp_path):
    adapter = train(f32[0], tmp_path / "adapter", 1)
    acm.calibrate(f32[0], {"adapter": adapter}, TEXTS, statistics=tmp_path / "s", kinds=("fisher",))
    recipe = {
        "merge_method": "fisher",
        "base_model": str(f32[0]),
        "models": [{"model": str(adapter)}],
        "parameters": {"statistics": str(tmp_path / "s/fisher/adapter")},
    }
    assert (acm.merge(recipe, tmp_path / "out") / "model.safetensors").is_file()


def test_the_coefficients_of_an_adapter_are_those_of_model_and_adapter_too(f32, tmp_path, monkeypatch):
    shutil.copytree(f32[0], tmp_path / "base")
    train(f32[0], tmp_path / "maths", 1)
    train(f32[0], tmp_path / "poems", 2)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    monkeypatch.chdir(tmp_path)
    command = ["calibrate", "base", "maths", "base+poems", "--texts", "texts.txt", "--clusters", "1"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert set(json.loads((tmp_path / "coefficients.json").read_text())["coefficients"]) == {"maths", "poems"}
    given = {"merge_method": "task_arithmetic", "base_model": "base", "coefficients": "coefficients.json"}
    one, other = (
        acm.merge(given | {"models": [{"model": name} for name in names]}, tmp_path / f"out-{names[0]}")
        for names in (["maths", "poems"], ["base+maths", "base+poems"])
    )
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_what_an_interrupted_run_left_of_another_adapter_is_not_believed(f32, tmp_path, monkeypatch):
    adapter, keep = train(f32[0], tmp_path / "adapter", 1), tmp_path / "keep"
    monkeypatch.setattr("acm.calibration.journal.Journal.finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    for alpha in (3, 3, 4):
        content = json.loads((adapter / ADAPTER).read_text())
        (adapter / ADAPTER).write_text(json.dumps(content | {"lora_alpha": alpha}))
        with pytest.raises(KeyboardInterrupt):
            acm.calibrate(f32[0], {"m": adapter}, TEXTS, keep=keep)
    assert len(list(keep.iterdir())) == 2


def test_an_adapter_of_another_shape_is_refused(f32, make_model, tmp_path):
    other = make_model(tmp_path / "wide", hidden=32)
    adapter = train(other, tmp_path / "adapter", 1)
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: the factors of"):
        acm.calibrate(f32[0], {"m": f"{f32[0]}+{adapter}"}, TEXTS)
    with pytest.raises(UserError, match="is not a fine-tuned version of"):
        acm.calibrate(f32[0], {"m": adapter}, TEXTS)
    with pytest.raises(UserError, match="does not exist"):
        acm.calibrate(f32[0], {"m": "someone/model"}, TEXTS)
