"""Preflight: a user's own pair is checked before any work."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from acm.errors import UserError
from acm.profiles import load_profile
from acm.profiles.standard import STANDARD_METHODS
from acm.running.preflight import check, fetch


@pytest.fixture
def own_pair(f32, tmp_path):
    """A profile for two pico folders, as the README shows it; returns a function of changes to it."""
    (tmp_path / "texts.jsonl").write_text('{"question": "what is 1+1?"}\n')

    def write(max_tokens=300, device="cpu", **changes):
        experiment = {
            "base": str(f32[0]), "finetuned": [str(f32[1])], "reference": f32[1].name, "tasks": ["abacus_easy"],
            "calibration": {"texts": str(tmp_path / "texts.jsonl")},
        } | changes  # fmt: skip
        content = {"max_tokens": max_tokens, "device": device, "experiments": {"long-to-short": experiment}}
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_profile(str(path))

    return write


def test_ten_lines_give_the_standard_methods_and_the_frontier(own_pair):
    profile = own_pair()
    names = profile.experiment("long-to-short").method_names
    assert {*STANDARD_METHODS, "frontier-0.1", "frontier-0.9"} <= set(names)
    assert check(profile).startswith(f"profile mine: {len(names) + 2} models")


def test_a_cap_without_room_for_a_prompt_is_refused(own_pair, f32):
    positions = json.loads((f32[0] / "config.json").read_text())["max_position_embeddings"]
    with pytest.raises(UserError, match=f"{positions} positions. Lower max_tokens"):
        check(own_pair(max_tokens=positions))


@pytest.mark.usefixtures("indexed_once")
@pytest.mark.parametrize("change, words", [
    ({"tasks": ["abacus_easyy"]}, "unknown task 'abacus_easyy'. Did you mean 'abacus_easy'"),
    ({"tasks": ["mmlu"]}, "'mmlu' is a group of tasks"),
    ({"calibration": {"texts": "absent.jsonl"}}, "absent.jsonl does not exist"),
    ({"base": "/absent/base"}, "/absent/base does not exist"),
    ({"prompts": {"TA": "few-shot"}}, "task 'abacus_easy' has its own prompt"),
])  # fmt: skip
def test_what_would_stop_the_run_is_named(own_pair, change, words):
    with pytest.raises(UserError) as error:
        check(own_pair(**change))
    assert words in str(error.value)


def test_merges_may_have_more_positions_than_the_base_which_then_needs_a_cap_of_its_own(
    own_pair, make_model, f32, tmp_path
):
    long = make_model(tmp_path / "long", 1, f32[0])
    config = json.loads((long / "config.json").read_text())
    positions = config["max_position_embeddings"]
    (long / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8 * positions}))
    pair = {"finetuned": [str(long)], "reference": "long"}
    words = f"base has {positions} positions. Lower max_tokens, or this model's own with `caps: {{base"
    with pytest.raises(UserError, match=words):
        check(own_pair(max_tokens=2 * positions, **pair))
    own = pair | {"caps": {"base": positions // 2}}
    assert check(own_pair(max_tokens=2 * positions, **own))
    # The paper's merges keep the base's config.
    with pytest.raises(UserError, match=f"Average has {positions} positions"):
        check(own_pair(max_tokens=2 * positions, **own, compatibility="paper"))


def test_what_speaks_against_every_merge_is_found_here(own_pair, f32):
    with pytest.raises(UserError, match=r"tie_word_embeddings: .* is for models that disagree"):
        tied = json.loads((f32[0] / "config.json").read_text()).get("tie_word_embeddings", False)
        check(own_pair(tie_word_embeddings=not tied))


def test_benchmarks_that_cannot_be_had_are_found_before_any_work(own_pair, monkeypatch, tmp_path):
    monkeypatch.setenv("ACM_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"aime24.jsonl does not exist.*Remedy"):
        check(own_pair(tasks=["acm_aime24"]))


@pytest.fixture
def gpu(monkeypatch):
    """Makes torch show one GPU with this many GB."""

    def show(memory):
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=memory * 1e9))

    return show


def test_a_profile_is_compared_with_the_gpu_that_is_there(own_pair, gpu):
    assert check(own_pair(device="cuda"))  # no GPU here, as on a cluster's login node
    gpu(80)
    assert check(own_pair(device="cuda"))
    gpu(0.001)
    words = r"GPU memory to evaluate .* more than the 0\.001 there are: lower batch_size to"
    with pytest.raises(UserError, match=words):
        check(own_pair(device="cuda"))
    assert check(own_pair(device="cpu"))


def test_a_fetch_for_a_gpu_that_is_too_small_ends_before_the_hub_is_asked(gpu, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: pytest.fail("asked"))
    gpu(48)
    words = r"no batch fits: take a GPU with more memory.*hide this GPU: `CUDA_VISIBLE_DEVICES="
    with pytest.raises(UserError, match=words):
        fetch(load_profile("qwen-32b"))


@pytest.mark.parametrize("which", [0, 1])
def test_models_with_and_without_stored_rope_buffers_fit_together(own_pair, f32, tmp_path, which):
    old = tmp_path / f32[which].name
    shutil.copytree(f32[which], old)
    held = load_file(old / "model.safetensors") | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    save_file(held, old / "model.safetensors", metadata={"format": "pt"})
    assert check(own_pair(**({"base": str(old)} if which == 0 else {"finetuned": [str(old)]})))
