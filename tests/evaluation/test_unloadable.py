"""Model folders and templates that cannot be used: each ends in one sentence, before anything is generated."""

import json
import shutil

import pytest
from helpers_evaluation import FAST, chat_folder, stand_in
from safetensors.torch import load_file, save_file

from acm import Sampling, evaluate
from acm.errors import UserError


def folder_with(folder, **files):
    """A copy of a model in which files hold other text, or the config other values; None removes a file."""
    shutil.copytree(FAST, folder)
    for name, content in files.items():
        path = folder / f"{name}.json"
        if content is None:
            path.unlink()
        else:
            old = json.loads(path.read_text()) if isinstance(content, dict) else {}
            path.write_text(json.dumps(old | content) if isinstance(content, dict) else content)
    return folder


@pytest.mark.parametrize(("files", "message"), [
    ({"tokenizer": None}, r"has no tokenizer \(tokenizer.json"),
    ({"tokenizer": "{"}, r"tokenizer\.json is not readable"),
    ({"tokenizer_config": {"eos_token": None}}, "the tokenizer of .* has no end token; name one"),
    ({"config": {"model_type": "foo"}}, "cannot be loaded: .*model type `foo`"),
    ({"config": {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}}, "cannot be loaded: "),
    ({"config": {"_attn_implementation": "flash_attention_2"}}, "cannot be loaded: .*FlashAttention"),
])  # fmt: skip
def test_a_folder_that_transformers_cannot_load_is_refused_in_a_sentence(tmp_path, files, message):
    if "tokenizer_config" in files:
        files = files | {"config": {"eos_token_id": None, "bos_token_id": None}, "generation_config": "{}"}
    with pytest.raises(UserError, match=message):
        evaluate(folder_with(tmp_path / "model", **files), ["abacus_easy"], items=1, max_tokens=8)


@pytest.mark.parametrize(("config", "message"), [
    ({"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}, "model.layers.3.* no tensor of qwen2"),
    ({"intermediate_size": 64}, "mlp.*by its config"), ({"vocab_size": 20}, r"\(20, 128\)"),
])  # fmt: skip
def test_tensors_that_the_config_leaves_out_are_refused(tmp_path, config, message):
    """transformers would leave out the upper layers with a warning, and answer with the rest."""
    with pytest.raises(UserError, match=f"would run another model: .*{message}.*; mend its config"):
        evaluate(folder_with(tmp_path / "model", config=config), ["abacus_easy"], items=1, max_tokens=8)


@pytest.mark.parametrize("template", [
    "{{ raise_exception('no system role') }}", "{% for m in messages %}", "{{ messages | nosuch }}", "{{ 1 / 0 }}",
    "{{ messages[5].content }}", "{{ ''.__class__.__mro__ }}",
])  # fmt: skip
def test_a_chat_template_that_fails_is_refused_in_a_sentence(tmp_path, monkeypatch, template):
    stand_in(monkeypatch, tmp_path, "math500", [{"problem": "What is 1 + 1?", "answer": "2"}])
    folder = chat_folder(tmp_path / "model", template)
    with pytest.raises(UserError, match=r"the chat template of .* fails .*; mend it, or choose another prompt: qwen25"):
        evaluate(folder, ["acm_math500"], max_tokens=8, prompt="chat-template")


def test_a_repeat_that_no_table_holds_is_refused():
    with pytest.raises(UserError, match="repeat: is 9"):
        Sampling(repeat=99999999999999999999)


@pytest.mark.parametrize(
    ("value", "dtype"), [(float("nan"), "float32"), (float("-inf"), "bfloat16"), (1e30, "float16")]
)
def test_numbers_that_are_not_finite_are_refused(tmp_path, value, dtype):
    """Greedy responses would be empty without a word, and drawn ones end in an error of torch."""
    folder = folder_with(tmp_path / "model")
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["model.norm.weight"][3] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"tensor model.norm.weight of .* NaN or infinite values in torch.{dtype}"):
        evaluate(folder, ["abacus_easy"], items=1, max_tokens=8, dtype=dtype)
