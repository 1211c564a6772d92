"""The table of architectures, against transformers itself."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from acm.architectures import ARCHITECTURES, HEAD, meaning, rope, tensor_shapes, ties_head

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def state(model_type, **fields):
    """Name → shape of transformers' own model."""
    config = AutoConfig.for_model(model_type, **SMALL | fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("fields", [
    {}, {"head_dim": 16}, {"num_key_value_heads": 4}, {"attention_bias": True}, {"mlp_bias": True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_tensors_are_those_of_transformers(model_type, fields):
    assert tensor_shapes({"model_type": model_type} | SMALL | fields) == state(model_type, **fields)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_fields_left_out_have_the_values_of_transformers(model_type):
    ours, theirs = meaning({"model_type": model_type}), AutoConfig.for_model(model_type)
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                "vocab_size", "rms_norm_eps", "tie_word_embeddings"):  # fmt: skip
        assert ours[key] == getattr(theirs, key), key
    assert ours["head_dim"] == getattr(theirs, "head_dim", theirs.hidden_size // theirs.num_attention_heads)
    assert ours["hidden_act"] == (getattr(theirs, "hidden_activation", None) or theirs.hidden_act)
    assert ties_head({"model_type": model_type}) is theirs.tie_word_embeddings
    codes = theirs.rope_parameters
    assert rope({"model_type": model_type}, "rope_theta") == codes.get("full_attention", codes)["rope_theta"]
    for spelling in (theirs.to_dict(), theirs.to_diff_dict()):
        assert rope(spelling, "rope_scaling") is None


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma2"])
@pytest.mark.parametrize("value", [None, 4, 4.0])
def test_null_is_as_many_as_heads(model_type, value):
    config = {"model_type": model_type} | SMALL | {"num_key_value_heads": value}
    assert meaning(config)["num_key_value_heads"] == 4
    assert type(meaning(config)["num_key_value_heads"]) is int
    assert tensor_shapes(config) == state(model_type, num_key_value_heads=4)


LLAMA3 = {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
SAME = {
    "left out": [{}, {"rope_theta": 10000}, {"rope_scaling": None}, {"rope_theta": None},
                 {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
                 {"rope_scaling": {"type": "default"}}, {"rope_scaling": {"rope_type": "linear", "factor": 1.0}}],
    "type": [{"rope_scaling": LLAMA3 | {"type": "llama3"}}, {"rope_scaling": LLAMA3 | {"rope_type": "llama3"}},
             {"rope_scaling": LLAMA3 | {"type": "llama3", "rope_type": "llama3", "factor": 8}},
             {"rope_parameters": LLAMA3 | {"rope_type": "llama3", "rope_theta": 10000.0}}],
    "yarn": [{"rope_scaling": {"type": "yarn", "factor": 4}, "max_position_embeddings": 32768},
             {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
                                  "attention_factor": None}}],
    "two kinds of layers": [{"model_type": "gemma3_text", "rope_local_base_freq": 5000.0, "rope_theta": 1e6},
             {"model_type": "gemma3_text", "rope_parameters": {
                 "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                 "sliding_attention": {"rope_type": "default", "rope_theta": 5000}}}],
    "partly": [{"partial_rotary_factor": 0.5},
               {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}],
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME)
def test_position_codes_in_every_spelling(kind):
    found = [(rope(config, "rope_theta"), rope(config, "rope_scaling")) for config in SAME[kind]]
    assert all(other == found[0] for other in found)
    others = [rope(SAME[name][0], "rope_scaling") for name in SAME if name != kind]
    assert found[0][1] not in others


def test_a_size_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="hidden_size is 'many'"):
        tensor_shapes({"model_type": "qwen2", "hidden_size": "many"})
    with pytest.raises(ValueError, match="num_hidden_layers is 1000000000"):
        tensor_shapes({"model_type": "qwen2", "num_hidden_layers": 10**9})
    assert tensor_shapes({"model_type": "mamba"}) is None and HEAD in tensor_shapes({"model_type": "gemma"} | SMALL)
