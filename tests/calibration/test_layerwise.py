"""Layer by layer against transformers' own forward pass: kinds of decoder, tied and stored heads, what is refused."""

import json
import shutil

import pytest
import torch
import transformers
from helpers_calibration import DECODERS, SIZES, edit_tensors, load_plain, make_decoder
from safetensors.torch import load_file, save_file
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model

import acm.calibration.layerwise
from acm.architectures import EMBEDDING, HEAD
from acm.calibration.layerwise import LayerwiseModel, watch
from acm.checkpoints import Checkpoint, check_same_shape
from acm.errors import UserError

TEXTS = [torch.randint(0, 97, (1, n), generator=torch.Generator().manual_seed(n)) for n in (12, 1, 7)]
CPU = torch.device("cpu")


@pytest.fixture
def qwen(tmp_path):
    return make_decoder(tmp_path / "qwen", "Qwen2")


@pytest.fixture
def gemma(tmp_path):
    return make_decoder(tmp_path / "gemma", "Gemma2")


@torch.no_grad()
def plain(folder, dtype=torch.float32):
    """Layer → activations of each text, by hooks on the whole model."""
    model = load_plain(folder, dtype)
    modules = {"embed": model.model.embed_tokens, "norm": model.model.norm}
    modules |= {str(i): block.mlp.down_proj for i, block in enumerate(model.model.layers)}
    found = {name: [] for name in modules}
    for name, module in modules.items():
        module.register_forward_hook(lambda _m, _i, output, name=name: found[name].append(output[0].bfloat16()))
    return found | {"lm_head": [model(ids, use_cache=False).logits[0].bfloat16() for ids in TEXTS]}


@torch.no_grad()
def walked(model, texts=TEXTS):
    """The same, layer by layer."""
    found = {}
    found["embed"], hidden = model.start(texts)
    for layer in model.blocks:
        with model.loaded(layer), watch(model.watched[layer]) as found[layer]:
            hidden = [model.block(layer, h) for h in hidden]
    with model.loaded("norm") as norm:
        hidden = [norm(h) for h in hidden]
    return found | {
        "norm": [h[0].bfloat16() for h in hidden],
        "lm_head": [model.logits(h[0], model.vocabulary) for h in hidden],
    }


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for layer, activations in expected.items():
        assert all(torch.equal(a, b) for a, b in zip(found[layer], activations, strict=True)), layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", DECODERS)
def test_equals_a_plain_forward_pass(tmp_path, kind, dtype):
    folder = make_decoder(tmp_path / kind, kind)
    assert_equal(walked(LayerwiseModel(folder, dtype, CPU)), plain(folder, dtype))


def test_stored_rope_buffers_change_nothing(tmp_path):
    folder, expected = make_decoder(tmp_path / "old", "Llama"), plain(make_decoder(tmp_path / "new", "Llama"))
    stored = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.zeros(2) for i in range(3)}
    save_file(load_file(folder / "model.safetensors") | stored, folder / "model.safetensors", metadata={"format": "pt"})
    assert_equal(walked(LayerwiseModel(folder, torch.float32, CPU)), expected)
    for base, finetuned in ((folder, tmp_path / "new"), (tmp_path / "new", folder)):  # what `acm calibrate` asks first
        check_same_shape(Checkpoint(base), Checkpoint(finetuned), vocabulary=False)


def test_positions_that_scale_with_the_length_do_not_depend_on_other_texts(tmp_path):
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10.0}
    folder = make_decoder(tmp_path / "dynamic", "Llama", max_position_embeddings=8, rope_parameters=scaled)
    texts = [torch.arange(n)[None] for n in (16, 11, 5, 13)]
    found = walked(LayerwiseModel(folder, torch.float32, CPU), texts)["lm_head"]
    with torch.no_grad():
        expected = [load_plain(folder)(ids).logits[0].bfloat16() for ids in texts]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_logits_do_not_depend_on_the_slices_of_the_head(gemma, monkeypatch):
    monkeypatch.setattr(acm.calibration.layerwise, "HEAD_ROWS", 10)
    for a, b in zip(walked(LayerwiseModel(gemma, torch.float32, CPU))["lm_head"], plain(gemma)["lm_head"], strict=True):
        torch.testing.assert_close(a, b, rtol=2**-7, atol=0)


def test_fewer_logits_are_the_first_ones(qwen):
    model, normed = LayerwiseModel(qwen, torch.float32, CPU), torch.randn(5, 16)
    assert torch.equal(model.logits(normed, 30), model.logits(normed, 97)[:, :30])


@pytest.mark.parametrize(
    "kind, more",
    [
        ("Mixtral", {}),
        ("Qwen2Moe", {"num_experts": 2}),
        ("GPT2", {"n_layer": 2, "n_head": 2, "n_embd": 16}),
        ("GPTNeoX", {}),
        ("Gemma3nText", {"vocab_size_per_layer_input": 97, "num_kv_shared_layers": 0, "laurel_rank": 2}),
        ("Starcoder2", {}),
    ],
)
def test_other_architectures_are_refused(tmp_path, kind, more):
    config = getattr(transformers, f"{kind}Config")(**(SIZES | more))
    config.save_pretrained(tmp_path)
    save_file({"model.norm.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="architecture that calibration does not know"):
        LayerwiseModel(tmp_path, torch.float32, CPU)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"model_type": "nothing"},
        {"model_type": "bert"},
        {"model_type": "t5"},
        {"model_type": "qwen2", "num_attention_heads": 0},
        {"model_type": "qwen2", "num_hidden_layers": 10**10},
        {"model_type": "qwen2", "num_hidden_layers": "two"},
        {"model_type": "qwen2", "num_hidden_layers": None},
        {"model_type": "qwen2", "hidden_size": "wide"},
        {"model_type": "nothing", "auto_map": {"AutoConfig": "evil.Config"}},
    ],
)
def test_a_config_that_is_no_decoders_is_refused(qwen, content):
    (qwen / "config.json").write_text(json.dumps(content))
    (qwen / "evil.py").write_text("raise SystemExit('code of the model was run')")
    with pytest.raises(UserError, match="architecture"):
        LayerwiseModel(qwen, torch.float32, CPU)


def test_code_and_kernels_that_the_config_names_are_not_loaded(qwen):
    expected = plain(qwen)
    config = json.loads((qwen / "config.json").read_text())
    names = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (qwen / "config.json").write_text(
        json.dumps(config | {"auto_map": names, "attn_implementation": "someone/evil-kernel"})
    )
    (qwen / "evil.py").write_text("raise SystemExit('code of the model was run')")
    assert_equal(walked(LayerwiseModel(qwen, torch.float32, CPU)), expected)


def test_a_model_that_runs_its_blocks_twice_is_refused(qwen, monkeypatch):
    once = Qwen2Model.forward
    monkeypatch.setattr(
        Qwen2Model, "forward", lambda self, **named: once(self, inputs_embeds=once(self, **named).last_hidden_state)
    )
    with pytest.raises(UserError, match="once each"):
        LayerwiseModel(qwen, torch.float32, CPU)


def test_a_model_that_changes_the_hidden_state_between_its_blocks_is_refused(qwen, monkeypatch):
    monkeypatch.setattr(
        acm.calibration.layerwise.Recorder, "forward", doubling(acm.calibration.layerwise.Recorder.forward)
    )
    with pytest.raises(UserError, match="once each"):
        LayerwiseModel(qwen, torch.float32, CPU)


def doubling(forward):
    return lambda self, *given, **named: 2 * forward(self, *given, **named)


def test_shards_change_nothing(qwen, tmp_path):
    load_plain(qwen).save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    assert_equal(walked(LayerwiseModel(tmp_path / "shards", torch.float32, CPU)), plain(qwen))


@pytest.mark.parametrize("factor, tied", [(1, True), (2, False)])
def test_a_tied_models_stored_head_holds_unless_it_is_the_embedding(gemma, factor, tied):
    edit_tensors(gemma, **{HEAD: load_file(gemma / "model.safetensors")[EMBEDDING] * factor})
    model = LayerwiseModel(gemma, torch.float32, CPU)
    assert model.tied is tied
    assert_equal(walked(model), plain(gemma))


@pytest.mark.parametrize("name", [HEAD, EMBEDDING, "model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(qwen, name):
    edit_tensors(qwen, **{name: None})
    with pytest.raises(UserError, match=f"lacks the tensor {name}"):
        LayerwiseModel(qwen, torch.float32, CPU)


@pytest.mark.parametrize("name", [HEAD, EMBEDDING, "model.layers.2.self_attn.k_proj.weight"])
def test_a_tensor_of_another_shape_than_the_configs_is_refused(qwen, name):
    edit_tensors(qwen, **{name: torch.ones(99, 16)})
    with pytest.raises(UserError, match=rf"{name} has shape \(99, 16\), config.json says"):
        LayerwiseModel(qwen, torch.float32, CPU)


def test_a_broken_file_is_called_by_its_name(qwen):
    (qwen / "model.safetensors").write_bytes(b"123")
    with pytest.raises(UserError, match=r"model.safetensors is not a sound safetensors file"):
        LayerwiseModel(qwen, torch.float32, CPU)


def test_pickles_are_not_read(qwen, tmp_path):
    shutil.move(qwen / "model.safetensors", tmp_path)
    (qwen / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match="pickle"):
        LayerwiseModel(qwen, torch.float32, CPU)


def test_a_token_beyond_the_embedding_is_refused(qwen):
    with pytest.raises(UserError, match=r"token 97, which .*qwen has no embedding for"):
        LayerwiseModel(qwen, torch.float32, CPU).start([torch.tensor([[3, 97]])])


def weights(model):
    return {
        id(p): n
        for root in (model.causal, model.decoder, *model.modules.values())
        for n, p in root.named_parameters()
        if not p.is_meta
    }


def test_only_one_layers_weights_are_held(qwen):
    model = LayerwiseModel(qwen, torch.float32, CPU)
    assert not weights(model)
    model.start(TEXTS)
    assert not weights(model)
    for layer in [*model.blocks, "norm"]:
        with model.loaded(layer) as module:
            assert set(weights(model)) == {id(p) for p in module.parameters()}
        assert not weights(model)
    with pytest.raises(ZeroDivisionError), model.loaded("0"):
        1 / 0  # noqa: B018
    assert not weights(model)


def test_no_call_is_held_after_a_block(gemma):
    model = LayerwiseModel(gemma, torch.float32, CPU)
    walked(model)
    assert all(not recorder.call and recorder.seen is None for recorder in model.decoder.layers)


def test_rewired_weights_are_the_same_numbers_in_other_places(qwen):
    model, other, again = (LayerwiseModel(qwen, torch.float32, CPU, seed) for seed in (5, 6, 5))
    for name, value in load_file(qwen / "model.safetensors").items():
        found = model.weight(name)
        assert torch.equal(found, again.weight(name))
        assert found.shape == value.shape and torch.equal(found.flatten().sort().values, value.flatten().sort().values)
        assert not torch.equal(found, value) and not torch.equal(found, other.weight(name))
        if value.ndim == 2:  # channels stay together: rows and columns are moved, not entries
            assert torch.equal(found.sort(1).values.sum(1).sort().values, value.sort(1).values.sum(1).sort().values)


def test_rows_of_a_rewired_weight_are_rows_of_the_whole(qwen, gemma):
    rows = torch.tensor([3, 1, 96])
    for folder in (qwen, gemma):
        model = LayerwiseModel(folder, torch.float32, CPU, 5)
        for name in (EMBEDDING, HEAD):
            assert torch.equal(model.weight(name, rows), model.weight(name)[rows])
    assert torch.equal(model.weight(HEAD), model.weight(EMBEDDING))


def test_a_rewired_model_is_a_plain_model_with_these_weights(qwen, tmp_path):
    model = LayerwiseModel(qwen, torch.float32, CPU, 5)
    shutil.copytree(qwen, tmp_path / "wired")
    edit_tensors(tmp_path / "wired", **{name: model.weight(name).contiguous() for name in model.checkpoint.tensors})
    assert_equal(walked(model), plain(tmp_path / "wired"))
