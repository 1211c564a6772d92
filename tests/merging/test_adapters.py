"""LoRA adapters as models: against peft's own merge, and against the formula written out."""

import json
import shutil

import numpy as np
import peft
import pytest
import torch
import yaml
from helpers import EMBEDDING, HEAD, SINGLE, halfway, recipe
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import acm
from acm.checkpoints import ADAPTER, Checkpoint
from acm.errors import UserError
from acm.evaluation.harness import model_folder
from acm.lora import WEIGHTS
from acm.merging.export import mergekit_recipe
from acm.merging.plan import make_plan
from acm.merging.recipe import load_recipe

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Q = "model.layers.0.self_attn.q_proj"


def train(base, folder, seed=0, edit=None, rows=None, **settings):
    """An adapter that peft writes, every weight of it random. Returns its folder, and the tensors of peft's merge.

    rows: of the embedding and head, where they are resized first.
    """
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    if rows:
        model.resize_token_embeddings(rows)
    config = peft.LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": PROJECTIONS, **settings})
    model = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator) + ("magnitude" in name))
        if edit:
            edit(model)
    model.save_pretrained(folder)
    return folder, model.merge_and_unload().state_dict()


def alone(model):
    """The recipe that writes one model as it is."""
    return {"merge_method": "linear", "models": [{"model": str(model)}], "parameters": {"weight": 1}}


def assert_near(found, expected, dtype=torch.float32):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == dtype and tensor.shape == expected[name].shape
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6 if dtype == torch.float32 else 0.01)


@pytest.fixture(scope="session")
def adapters(f32, tmp_path_factory):
    """Two adapters of the float32 base."""
    folder = tmp_path_factory.mktemp("adapters")
    return train(f32[0], folder / "one", 1)[0], train(f32[0], folder / "two", 2)[0]


@pytest.fixture
def changed(adapters, tmp_path):
    """A copy of the first adapter, its config changed (None: a field goes) and its tensors edited."""

    def make(config=None, tensors=None):
        folder = shutil.copytree(adapters[0], tmp_path / "changed")
        content = json.loads((folder / ADAPTER).read_text()) | (config or {})
        (folder / ADAPTER).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        if tensors:
            held = load_file(folder / WEIGHTS)
            tensors(held)
            save_file(held, folder / WEIGHTS)
        return folder

    return make


SETTINGS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"down_proj": 2, "layers.1.self_attn.q_proj": 5},
        "alpha_pattern": {r"^model\.layers\.0.*v_proj": 11, "q_proj": 7},
    },
    "dora": {"use_dora": True},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "head": {"target_modules": ["lm_head", "up_proj"]},
    "saved": {"modules_to_save": ["lm_head", "embed_tokens", "norm"]},
    "tokens": {"trainable_token_indices": [3, 1, 7]},
    "tokens of two": {"trainable_token_indices": {"embed_tokens": [0, 5], "lm_head": [6]}},
    "lora_bias": {"target_modules": ["q_proj", "v_proj"], "lora_bias": True},
    "all biases": {"bias": "all"},
    "biases": {"bias": "lora_only"},
    "some layers": {"layers_to_transform": [1]},
    "pattern": {"target_modules": r".*\.1\.mlp\.(up|down)_proj"},
    "all-linear": {"target_modules": "all-linear", "exclude_modules": ["o_proj"]},
    "turned": {"fan_in_fan_out": True, "target_modules": ["q_proj"]},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_gives_what_peft_merges(name, f32, merged, tmp_path):
    """All linear maps of the model alike, square ones (q, o) among them."""
    folder, expected = train(f32[0], tmp_path / "adapter", **SETTINGS[name])
    found = merged(alone(f"{f32[0]}+{folder}"))
    assert_near(found, expected)
    before = load_file(f32[0] / SINGLE)
    assert any(not torch.equal(before[key], tensor) for key, tensor in found.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_of_16_bits_is_merged_in_float32_and_rounded_once(dtype, make_model, merged, tmp_path):
    base = make_model(tmp_path / "base", dtype=dtype)
    folder, expected = train(base, tmp_path / "adapter")
    found = merged(alone(f"{base}+{folder}"))
    assert_near(found, expected, dtype)
    held, before = load_file(folder / WEIGHTS), load_file(base / SINGLE)
    a, b = (held[f"base_model.model.{Q}.lora_{which}.weight"].double() for which in "AB")
    assert torch.equal(found[f"{Q}.weight"], (before[f"{Q}.weight"].double() + 5 / 3 * (b @ a)).float().to(dtype))


def test_no_rounding_between_adapter_and_merge(bf16, merged, tmp_path):
    """Half of a task vector that is far below bfloat16's spacing is still there in a float32 result."""
    folder, _ = train(bf16[0], tmp_path / "adapter", lora_alpha=0.01)
    found = merged(halfway(bf16[0], folder, out_dtype="float32"))
    held, before = load_file(folder / WEIGHTS), load_file(bf16[0] / SINGLE)
    a, b = (held[f"base_model.model.{Q}.lora_{which}.weight"].double() for which in "AB")
    delta = found[f"{Q}.weight"].double() - before[f"{Q}.weight"].double()
    torch.testing.assert_close(delta, 0.005 / 3 * (b @ a), rtol=0, atol=1e-7)
    assert delta.abs().max() > 1e-5


METHODS = {
    "task_arithmetic": {"weight": 0.4},
    "ties": {"weight": 0.7, "density": 0.3},
    "dare_ties": {"weight": 0.7, "density": 0.5},
    "linear": {"weight": 0.5},
    "della": {"weight": 0.5, "density": 0.5, "epsilon": 0.1},
    "model_stock": {},
}


@pytest.mark.parametrize("method", METHODS)
def test_adapters_merge_as_the_folders_that_they_make(method, f32, adapters, merged, tmp_path):
    """Byte for byte, whether they are named alone, with their base, or beside a whole model."""
    folders = [acm.merge(alone(f"{f32[0]}+{adapter}"), tmp_path / adapter.name) for adapter in adapters]
    expected = merged(recipe(method, f32[0], *folders, f32[2], parameters=METHODS[method]))
    found = merged(recipe(method, f32[0], *adapters, f32[2], parameters=METHODS[method]))
    assert all(found[name].dtype == tensor.dtype for name, tensor in expected.items())
    assert all(np.array_equal(found[name].numpy(), tensor.numpy()) for name, tensor in expected.items())


@pytest.mark.parametrize("shared", [{"kernels": False}, {"threads": 3}, {"kernels": False, "threads": 1}])
def test_chunks_and_threads_change_no_byte(shared, large, tmp_path, tensors):
    folder, _ = train(large[0], tmp_path / "adapter", r=16)
    content = recipe("ties", large[0], folder, large[1], parameters={"density": 0.2, "weight": 1})
    one, other = acm.merge(content, tmp_path / "one"), acm.merge(content, tmp_path / "other", **shared)
    assert all(torch.equal(tensor, tensors(other)[name]) for name, tensor in tensors(one).items())


def test_adapters_stack_and_a_base_may_have_one(f32, adapters, merged):
    """First one, then two: B₁ A₁ and B₂ A₂ add up. As a base it names the shards of the whole model."""
    one, two = adapters
    found = merged(alone(f"{f32[0]}+{one}+{two}"))
    held = [load_file(folder / WEIGHTS) for folder in adapters]
    before = load_file(f32[0] / SINGLE)
    for module in (Q, "model.layers.1.mlp.down_proj"):
        names = [f"base_model.model.{module}.lora_{which}.weight" for which in "BA"]
        delta = sum(5 / 3 * (h[names[0]] @ h[names[1]]) for h in held)
        torch.testing.assert_close(found[f"{module}.weight"], before[f"{module}.weight"] + delta, rtol=0, atol=1e-6)
    assert make_plan(load_recipe(alone(f"{f32[0]}+{one}"))[0], one).models[0].name == one.name
    halves = merged(halfway(f"{f32[0]}+{one}", f"{f32[0]}+{two}"))
    middle = [merged(alone(f"{f32[0]}+{folder}")) for folder in adapters]
    torch.testing.assert_close(halves[f"{Q}.weight"], (middle[0][f"{Q}.weight"] + middle[1][f"{Q}.weight"]) / 2)


def test_mergekit_makes_the_same_of_a_recipe_with_adapters(f32, adapters, tmp_path, tensors):
    """As acm exports it, and as mergekit writes it back: models as mappings with `lora`."""
    content = recipe("ties", f32[0], adapters[0], f"{f32[0]}+{adapters[1]}", parameters={"density": 1, "weight": 0.5})
    ours = acm.merge(content, tmp_path / "ours")
    plan = make_plan(load_recipe(content)[0], tmp_path)
    parsed = MergeConfiguration.model_validate(yaml.safe_load(mergekit_recipe(plan, tmp_path)))
    options = MergeOptions(quiet=True, lora_merge_cache=str(tmp_path / "cache"))
    run_merge(parsed, str(tmp_path / "theirs"), options)
    assert_near(tensors(ours), tensors(tmp_path / "theirs"))
    (tmp_path / "again.yml").write_text(parsed.to_yaml())
    again = tensors(acm.merge(tmp_path / "again.yml", tmp_path / "again"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in tensors(ours).items())
    stacked = alone(f"{f32[0]}+{adapters[0]}+{adapters[1]}")
    with pytest.raises(UserError, match="no equal of several adapters on one model"):
        mergekit_recipe(make_plan(load_recipe(stacked)[0], tmp_path), tmp_path)


def findings(content, folder):
    return [str(finding) for finding in make_plan(load_recipe(content)[0], folder).findings]


def test_the_base_is_the_named_one_where_it_is_here(f32, make_model, changed, merged, tmp_path):
    """By an absolute path, or relative to the adapter or to the recipe; not the recipe's own base."""
    base = f32[0]
    other = make_model(tmp_path / "other", 9)
    expected = load_file(other / SINGLE)[HEAD]
    for place in (str(other), "../other", "other"):
        shutil.rmtree(tmp_path / "changed", ignore_errors=True)
        folder = changed({"base_model_name_or_path": place})
        plan = make_plan(load_recipe(halfway(base, folder))[0], tmp_path)
        assert plan.models[1].base.folder.resolve() == other
        assert any(f"merged into {tmp_path}" in str(found) and "names" in str(found) for found in plan.findings)
        assert np.array_equal(plan.models[1].tensors[HEAD].numbers(), expected.reshape(-1).numpy())


def test_the_base_is_the_recipes_where_the_named_one_is_not_here(f32, changed, monkeypatch, tmp_path):
    quantized = shutil.copytree(f32[0], tmp_path / "quantized")
    config = json.loads((quantized / "config.json").read_text()) | {"quantization_config": {"quant_method": "gptq"}}
    (quantized / "config.json").write_text(json.dumps(config))
    for name in ("someone/unknown-model", "/nowhere/model", None, "a" * 5000, str(quantized)):
        shutil.rmtree(tmp_path / "changed", ignore_errors=True)
        folder = changed({"base_model_name_or_path": name})
        text = "\n".join(findings(halfway(f32[0], folder), tmp_path))
        assert f"{folder} is merged into {f32[0]}, the base of this recipe" in text
    monkeypatch.setattr("acm.hub.local", lambda model, revision: f32[2] if model == "someone/model" else None)
    shutil.rmtree(folder)
    folder = changed({"base_model_name_or_path": "someone/model", "revision": "main"})
    assert any(f"merged into {f32[2]}, which" in text for text in findings(halfway(f32[0], folder), tmp_path))


def test_without_a_base_the_user_is_asked_for_it(f32, changed, tmp_path):
    folder = changed({"base_model_name_or_path": "someone/unknown-model"})
    for content in (alone(folder), halfway(f"{f32[0]}+{folder}", f32[1], folder)):
        content = content | ({"models": [{"model": str(folder)}]} if "base_model" in content else {})
        with pytest.raises(
            UserError, match=r"is an adapter of someone/unknown-model, which is not here or quantized; .* `MODEL\+"
        ):
            acm.merge(content, tmp_path / "out")


def test_the_card_and_the_digest_know_the_adapter_and_its_base(f32, adapters, changed, tmp_path):
    out = acm.merge(halfway(f32[0], adapters[0]), tmp_path / "out", hash_inputs=True)
    card = (out / "README.md").read_text()
    assert (
        "adapter, adapter_config.json sha256" in card and "merged into `base`" in card and card.count("contents") == 3
    )
    folder = changed({"lora_alpha": 5})
    digest = make_plan(load_recipe(halfway(f32[0], folder))[0], tmp_path).digest
    shutil.rmtree(folder)
    changed({"lora_alpha": 6})
    assert make_plan(load_recipe(halfway(f32[0], folder))[0], tmp_path).digest != digest


def test_the_result_gets_the_tokenizer_of_the_adapter_where_it_has_one(f32, changed, worded, tmp_path):
    folder = changed()
    shutil.copy(worded[1] / "tokenizer.json", folder)
    shutil.copy(worded[1] / "tokenizer_config.json", folder)
    plan = make_plan(load_recipe(halfway(f32[0], folder))[0], tmp_path)
    assert any("ids mean different tokens" in str(finding) for finding in plan.findings)
    out = acm.merge(halfway(f32[0], folder, tokenizer_source=str(folder)), tmp_path / "out")
    assert (out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(load_file(out / SINGLE)[EMBEDDING])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_embedding_that_grew_is_saved_whole(f32, tmp_path, merged):
    """As peft saves it after resize_token_embeddings: embedding and head of more rows."""
    wide = tmp_path / "wide"
    model = AutoModelForCausalLM.from_pretrained(f32[0])
    rows = model.config.vocab_size + 3
    model.resize_token_embeddings(rows)
    model.save_pretrained(wide)
    folder, expected = train(wide, tmp_path / "adapter", modules_to_save=["embed_tokens", "lm_head"])
    found = acm.merge(alone(f"{f32[0]}+{folder}"), tmp_path / "out")
    assert_near(load_file(found / SINGLE), expected)
    assert json.loads((found / "config.json").read_text())["vocab_size"] == rows
    assert AutoModelForCausalLM.from_pretrained(found).lm_head.weight.shape[0] == rows


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("change", [3, -2])
@pytest.mark.parametrize("settings", [
    {"modules_to_save": ["embed_tokens", "lm_head"]},
    {"modules_to_save": ["embed_tokens"]},
    {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    {"trainable_token_indices": [4, 5]},
    {"trainable_token_indices": {"embed_tokens": [4], "lm_head": [5]}},
    {},
], ids=str)  # fmt: skip
def test_rows_that_were_resized_in_memory(settings, change, f32, tmp_path, merged):
    """Beside what it trained, peft then stores embedding and head as they were, and some of them twice."""
    rows = len(load_file(f32[0] / SINGLE)[EMBEDDING]) + change
    folder, expected = train(f32[0], tmp_path / "adapter", rows=rows, **settings)
    assert_near(merged(alone(f"{f32[0]}+{folder}")), expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("settings", [{}, {"trainable_token_indices": [2, 9]}])
def test_a_tied_base_stays_tied_where_nothing_parts_head_and_embedding(settings, f32, tie, tmp_path):
    base = tie(f32[0], "tied")
    folder, expected = train(base, tmp_path / "adapter", **settings)
    out = acm.merge(alone(f"{base}+{folder}"), tmp_path / "out")
    assert_near(load_file(out / SINGLE), {name: t for name, t in expected.items() if name != HEAD})
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_head_that_was_trained_apart_unties(f32, tie, tmp_path):
    base = tie(f32[0], "tied")
    folder, expected = train(base, tmp_path / "adapter", modules_to_save=["lm_head"])
    out = acm.merge(alone(f"{base}+{folder}"), tmp_path / "out")
    assert_near(load_file(out / SINGLE), expected)
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
    ],
)
def test_a_tied_base_whose_head_could_be_either_is_refused(settings, f32, tie, tmp_path):
    base = tie(f32[0], "tied")
    folder, _ = train(base, tmp_path / "adapter", **settings)
    with pytest.raises(UserError, match="changes embedding or head, which are one tensor"):
        acm.merge(alone(f"{base}+{folder}"), tmp_path / "out")


def test_names_with_the_adapters_own_name_and_without_the_prefix(f32, adapters, changed, merged):
    def rename(held):
        for name in list(held):
            short = name.removeprefix("base_model.model.")
            held["_orig_mod." + short.replace("lora_A.weight", "lora_A.default.weight")] = held.pop(name)

    found, expected = merged(alone(f"{f32[0]}+{changed(tensors=rename)}")), merged(alone(f"{f32[0]}+{adapters[0]}"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def lose(part):
    return lambda held: [held.pop(name) for name in list(held) if part in name]


def twice(held):
    held |= {name.replace("lora_A", "lora_A.other"): t.clone() for name, t in list(held.items())}


def wider(held):
    held[f"base_model.model.{Q}.lora_A.weight"] = torch.zeros(3, 17)


def flat(held):
    held[f"base_model.model.{Q}.lora_B.weight"] = torch.zeros(0)


def stranger(held):
    for which, shape in (("A", (3, 16)), ("B", (16, 3))):
        held[f"base_model.model.model.layers.7.self_attn.q_proj.lora_{which}.weight"] = torch.zeros(shape)


def tokens(rows):
    """Adds trained rows of the embedding."""
    name = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    return lambda held: held.update({name: torch.zeros(rows, 16)})


HOSTILE = [
    ({"peft_type": "LOHA"}, None, ["adapter_config.json", "LOHA", "merge_and_unload"]),
    ({"peft_type": "VERA"}, None, ["VERA", "merge_and_unload"]),
    ({"peft_type": "PREFIX_TUNING"}, None, ["PREFIX_TUNING", "leave it out"]),
    ({"peft_type": ["LORA"]}, None, ["LORA"]),
    ({"peft_type": None}, None, ["no peft_type", "the tool that wrote it"]),
    ({"init_lora_weights": "pissa_niter_4"}, None, ["pissa_niter_4", "merge_and_unload"]),
    ({"init_lora_weights": "loftq"}, None, ["loftq"]),
    ({"use_qalora": True}, None, ["use_qalora"]),
    ({"alora_invocation_tokens": [5]}, None, ["alora_invocation_tokens", "leave it out"]),
    ({"layer_replication": [[0, 2], [0, 2]]}, None, ["layer_replication"]),
    ({"target_parameters": ["experts.up_proj"]}, None, ["target_parameters"]),
    ({"a_future_variant": {"on": 1}}, None, ["a_future_variant"]),
    ({"lora_alpha": "16"}, None, ["lora_alpha", "finite number", "'16'"]),
    ({"lora_alpha": True}, None, ["lora_alpha"]),
    ({"lora_alpha": 10**400}, None, ["lora_alpha"]),
    ({"lora_alpha": float("inf")}, None, ["adapter_config.json", "Infinity"]),
    ({"r": 0}, None, ["r of", "at least 1"]),
    ({"r": 4}, None, ["factors of rank 3", "r is 4", "two adapters"]),
    ({"rank_pattern": {"(a+)+": 3}}, None, ["rank_pattern", "(a+)+"]),
    ({"rank_pattern": {".*.*.*": 3}}, None, ["rank_pattern"]),
    ({"rank_pattern": {"(?x:(a+) +)": 3}}, None, ["rank_pattern"]),
    ({"use_rslora": "false"}, None, ["use_rslora", "true or false"]),
    ({"use_dora": 2}, None, ["use_dora", "true or false"]),
    ({"alpha_pattern": {"q_proj[": 3}}, None, ["alpha_pattern"]),
    ({"alpha_pattern": ["q_proj"]}, None, ["alpha_pattern", "map names"]),
    ({"use_dora": True}, None, ["not LoRA's alone"]),
    ({"modules_to_save": ["lm_head"]}, None, ["lacks lm_head", "modules_to_save"]),
    ({"target_modules": ["q_proj"]}, None, ["which target_modules does not name"]),
    ({"trainable_token_indices": [1]}, tokens(2), ["trained rows", "[2, 16]"]),
    ({"trainable_token_indices": [1, 1]}, tokens(2), ["distinct rows"]),
    ({"trainable_token_indices": [-1]}, tokens(1), ["distinct rows"]),
    ({}, lose("q_proj.lora_A"), ["q_proj it holds lora_B"]),
    ({}, twice, ["several adapters"]),
    ({}, wider, ["adapter_model.safetensors", "[3, 17]", "[16, 16]"]),
    ({}, flat, ["[0]"]),
    ({}, stranger, ["layers.7.self_attn.q_proj"]),
    ({}, lambda held: held.update({"base_model.model.score.weight": torch.zeros(2, 16)}), ["no tensor score.weight"]),
    ({}, lambda held: held.update({"base_model.model.model.norm.weight": torch.zeros(2)}), ["norm.weight", "[2]"]),
    ({}, lambda held: held.clear(), ["holds no tensors"]),
]  # fmt: skip


@pytest.mark.parametrize(("config", "edit", "words"), HOSTILE)
def test_what_is_no_plain_adapter_is_refused_by_name(config, edit, words, changed, assert_refused):
    assert "\n" not in assert_refused(*words, left=changed(config, edit))


@pytest.mark.parametrize("part", ["down_proj", "layers.1.mlp.up_proj", "layers.0"])
def test_modules_that_the_file_lacks_are_the_bases_with_a_warning(part, adapters, changed, f32, merged, tmp_path):
    folder = changed(tensors=lose(part))
    found, whole = merged(alone(f"{f32[0]}+{folder}")), merged(alone(f"{f32[0]}+{adapters[0]}"))
    before = load_file(f32[0] / SINGLE)
    assert all(torch.equal(t, before[name] if part in name else whole[name]) for name, t in found.items())
    text = "\n".join(findings(halfway(f32[0], folder), tmp_path))
    assert "warning" in text and f"{WEIGHTS} lacks" in text and part in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_adapter_that_is_not_finite_is_refused(value, changed, assert_refused):
    def poison(held):
        held[f"base_model.model.{Q}.lora_B.weight"][0, 0] = value

    assert_refused(
        f"{WEIGHTS}: tensor {Q}.weight holds 16 values that are NaN or infinite", left=changed(tensors=poison)
    )


def test_pickles_cut_files_and_half_adapters_are_refused(adapters, changed, assert_refused, f32, tmp_path):
    folder = changed()
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    assert_refused("adapter_model.bin is a pickle", "save_pretrained writes safetensors", left=folder)
    (folder / "adapter_model.bin").unlink()
    (folder / "config.json").write_text("{}")
    assert_refused("beside a config.json", "move adapter_config.json away", left=folder)
    (folder / "config.json").unlink()
    assert_refused(WEIGHTS, "does not exist", left=folder)
    (folder / WEIGHTS).write_bytes((adapters[0] / WEIGHTS).read_bytes()[:-5])
    assert_refused(WEIGHTS, "cut off", left=folder)
    (folder / ADAPTER).write_text("{")
    assert_refused(ADAPTER, left=folder)
    (folder / ADAPTER).unlink()
    assert_refused(f"{folder} holds no adapter", left=f"{f32[0]}+{folder}")
    assert_refused("holds no adapter", left=f"{f32[0]}+{tmp_path / 'nothing'}")
    assert_refused("does not exist", left=f"{tmp_path / 'nothing'}+{adapters[0]}")


@pytest.mark.parametrize("weights", [SINGLE, "model.safetensors.index.json"])
def test_an_adapter_beside_a_whole_model_is_refused_until_one_is_meant(weights, changed, f32, assert_refused, merged):
    """transformers would add it to that model, and vLLM and mergekit would leave it out. Both remedies work."""
    folder, expected = changed(), merged(alone(f32[0]))
    for file in f32[0].iterdir():
        shutil.copy(file, folder)
    (folder / SINGLE).rename(folder / weights)
    assert_refused(f"an adapter and a whole model ({weights})", "move adapter_config.json away", left=folder)
    assert not torch.equal(merged(alone(f"{f32[0]}+{folder}"))[f"{Q}.weight"], expected[f"{Q}.weight"])
    (folder / weights).rename(folder / SINGLE)
    (folder / ADAPTER).unlink()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in merged(alone(folder)).items())


@pytest.mark.parametrize("plus", [False, True])
def test_where_a_whole_model_is_needed_the_refusal_says_how_to_make_one(plus, adapters, f32, tmp_path):
    """The recipe of the message, with the model put in, makes what may be evaluated."""
    for read in (model_folder, Checkpoint, lambda name: acm.evaluate(name, ["abacus_easy"])):
        with pytest.raises(UserError, match="is an adapter") as error:
            read(f"{f32[0]}+{adapters[0]}" if plus else adapters[0])
    text = str(error.value).partition("write `")[2].partition("`")[0]
    assert ("MODEL" in text) is not plus
    (tmp_path / "one.yml").write_text(text.replace("MODEL", str(f32[0])))
    assert Checkpoint(acm.merge(tmp_path / "one.yml", tmp_path / "merged")).tensors


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"trainable_token_indices": [70, 3, 401]}])
def test_the_size_of_the_blocks_that_are_computed_changes_no_number(settings, f32, tmp_path, monkeypatch):
    """Slices that begin and end within blocks, whole tensors, and both of adapters that stack."""
    name = EMBEDDING if "trainable_token_indices" in settings else f"{Q}.weight"
    folder, _ = train(f32[0], tmp_path / "adapter", **settings)
    model = make_plan(load_recipe(alone(f"{f32[0]}+{folder}+{folder}"))[0], tmp_path).models[0]
    whole = np.asarray(model.tensors[name].read())
    monkeypatch.setattr("acm.adapted.BLOCK", 16 * 7)
    read = model.tensors[name].read()
    for part in (slice(0, 16), slice(5, 250), slice(111, 113), slice(240, 999999), slice(7, 7), slice(None)):
        assert np.array_equal(read[part], whole[part])
    assert len(read) == len(whole) == model.tensors[name].size
