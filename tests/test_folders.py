"""Folders as people build them: what is read of them is what transformers reads, and what is merged from them loads."""

import itertools
import json
import re
import shutil

import pytest
import torch
from helpers import (
    EMBEDDING,
    HEAD,
    INDEX,
    NORM,
    SINGLE,
    assert_found,
    assert_loads,
    halfway,
    plan_of,
    recipe,
    same,
    texts,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import acm
from acm.checkpoints import Checkpoint, check_weights
from acm.errors import UserError
from acm.evaluation.own_weights import check_weights_are_read
from acm.merging.export import refuse_what_differs
from acm.weight_files import Weights

UP = "model.layers.1.mlp.up_proj.weight"
FIRST = "model-00001-of-00003.safetensors"
META = {"format": "pt"}


def ours(folder):
    """The tensors that this package reads, by name."""
    found = {}
    for name, info in Checkpoint(folder).tensors.items():
        found[name] = torch.from_numpy(info.numbers().copy()).view(info.shape)
    return found


def theirs(folder):
    """The tensors that transformers reads, a tied head once; none where it would take random numbers."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    state = model.state_dict()
    if model.lm_head.weight is model.model.embed_tokens.weight:
        del state[HEAD]
    return {} if info["missing_keys"] else state


def write_config(folder, **changes):
    path = folder / "config.json"
    content = {k: v for k, v in (json.loads(path.read_text()) | changes).items() if v != "gone"}
    path.write_text(json.dumps(content))


def single(folder, weights, name=SINGLE):
    save_file({k: v.clone() for k, v in weights.items()}, folder / name, metadata=META)


def shards(folder, weights, leave_out=()):
    """Three shards and their index, which may leave names out."""
    names, weight_map = sorted(weights), {}
    for i in range(3):
        name = f"model-{i + 1:05}-of-00003.safetensors"
        single(folder, {n: weights[n] for n in names[i::3]}, name)
        weight_map |= dict.fromkeys(names[i::3], name)
    weight_map = {n: s for n, s in weight_map.items() if n not in leave_out}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def older(weights):
    return {name: tensor + 1 for name, tensor in weights.items()}


def linked(folder, weights):
    """Links to a file of another name, elsewhere."""
    (folder.parent / "elsewhere").mkdir()
    single(folder.parent / "elsewhere", weights, "blob 1")
    (folder / SINGLE).symlink_to("../elsewhere/blob 1")


def both(folder, weights):
    shards(folder, older(weights))
    single(folder, weights)


def more_shards(folder, weights):
    """Shards of an older save that the index does not name."""
    single(folder, older(weights), "model-00004-of-00004.safetensors")
    shards(folder, weights)


def named(folder, weights):
    both(folder, older(weights))
    single(folder, weights, "other.safetensors")
    write_config(folder, transformers_weights="other.safetensors")


def dangling(folder, weights):
    shards(folder, weights)
    (folder / SINGLE).symlink_to("gone")


def beside(folder, weights):
    single(folder, weights)
    single(folder, older(weights), "consolidated.safetensors")
    single(folder, older(weights), "model.fp16.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"no pickle")


def index_of_one(folder, weights):
    single(folder, weights)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, SINGLE)}))


def unindexed(folder, weights):
    """The index leaves out tensors that its shards hold."""
    shards(folder, weights, leave_out={*list(weights)[3:9]})


LAYOUTS = [single, shards, linked, both, more_shards, named, dangling, beside, index_of_one, unindexed]
NAMES = {
    "standard": lambda n: n,
    "without model": lambda n: n.removeprefix("model."),
    "model twice": lambda n: f"model.{n}",
    "a block without model": lambda n: n.removeprefix("model.") if ".layers.0." in n else n,
}
HEADS = {
    "its own": (False, lambda w: w),
    "tied": (True, lambda w: {n: t for n, t in w.items() if n != HEAD}),
    "tied, stored twice": (True, lambda w: w | {HEAD: w[EMBEDDING]}),
    "tied, another stored": (True, lambda w: w),
    "tied, stored as the head": (True, lambda w: {n: t for n, t in w.items() if n != EMBEDDING}),
}


@pytest.fixture
def bare(f32, tmp_path):
    """Makes a folder with all but the weights."""
    count = itertools.count()

    def make(source=f32[1]):
        folder = tmp_path / f"{next(count)}" / "mödel  1\n<b>"
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
        return folder

    return make


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_the_weights_are_those_that_transformers_reads(bare, f32, layout):
    weights = load_file(f32[1] / SINGLE)
    for (spelling, rename), (kind, (tied, stored)) in itertools.product(NAMES.items(), HEADS.items()):
        folder = bare()
        write_config(folder, tie_word_embeddings=tied)
        layout(folder, {rename(name): tensor for name, tensor in stored(weights).items()})
        found, expected = ours(folder), theirs(folder)
        assert expected and same(found, expected), (spelling, kind)
        check_weights_are_read(folder, "transformers")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("kind", HEADS)
def test_a_merge_of_such_folders_loads(bare, f32, layout, kind, tmp_path, tensors):
    tied, stored = HEADS[kind]
    folders = []
    for source in f32[:2]:
        folders.append(bare(source))
        write_config(folders[-1], tie_word_embeddings=tied)
        layout(folders[-1], stored(load_file(source / SINGLE)))
    out = acm.merge(recipe("dare_linear", *folders, parameters={"weight": 1, "density": 0.5}), tmp_path / "out")
    model, found = assert_loads(out), tensors(out)
    assert (HEAD in found) == (kind in ("its own", "tied, another stored")) == (not model.config.tie_word_embeddings)
    acm.merge(halfway(*folders, weight=1), tmp_path / "second")
    assert same(tensors(tmp_path / "second"), theirs(folders[1]))


WRAPPERS = {
    "_orig_mod.": lambda n: f"_orig_mod.{n}",
    "module.": lambda n: f"module.{n}",
    "_orig_mod.module.": lambda n: f"_orig_mod.module.{n}",
    "base_model.model.": lambda n: f"base_model.model.{n}",
    "language_model.": lambda n: f"language_model.{n}",
    "model.language_model.": lambda n: n.replace("model.", "model.language_model.", 1) if n != HEAD else n,
    "student.": lambda n: f"student.{n}",
    "_checkpoint_wrapped_module.": lambda n: re.sub(r"(layers\.\d+\.)", r"\1_checkpoint_wrapped_module.", n),
}  # fmt: skip


@pytest.mark.parametrize("layout", [single, shards])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_that_all_names_have_is_taken_off(bare, f32, tmp_path, tensors, wrapper, layout):
    folder, weights = bare(), load_file(f32[1] / SINGLE)
    layout(folder, {WRAPPERS[wrapper](name): tensor for name, tensor in weights.items()})
    assert same(ours(folder), weights) and not theirs(folder)
    with pytest.raises(UserError, match="random numbers"):  # transformers would go on
        check_weights_are_read(folder, "transformers")
    plan = plan_of(f32[0], folder, weight=1)
    assert_found(plan, "note", f"'{wrapper}'", "read without")
    for out, recipe_of in (("one", halfway(f32[0], folder, weight=1)), ("two", halfway(folder, f32[0], weight=0))):
        assert_loads(acm.merge(recipe_of, tmp_path / out))
        assert same(tensors(tmp_path / out), weights)
    table = acm.calibrate(f32[0], {"a": folder, "b": f32[1]}, ["17+5=22"], controls=("none",))
    assert (table[table.finetuned == "a"].value.to_numpy() == table[table.finetuned == "b"].value.to_numpy()).all()


@pytest.mark.parametrize("odd", [EMBEDDING, UP, HEAD, NORM])
@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "language_model."])
def test_a_wrapper_that_some_names_lack_is_named(assert_refused, bare, f32, wrapper, odd):
    for rest in (True, False):  # all but one, and one alone
        folder, weights = bare(), load_file(f32[1] / SINGLE)
        single(folder, {wrapper * ((name != odd) == rest) + name: tensor for name, tensor in weights.items()})
        assert_refused(wrapper, left=folder)


FOREIGN = {
    "v_head.summary.weight": "value head", "v_head.summary.bias": "value head", "score.weight": "classifier",
    "model.layers.0.self_attn.q_proj.lora_A.default.weight": "adapter",
    "base_model.model.model.layers.0.mlp.up_proj.base_layer.weight": "adapter",
    "model.layers.1.mlp.up_proj.weight_scale": "quantised", "model.layers.0.mlp.up_proj.weight.absmax": "quantised",
    "model.layers.0.self_attn.q_proj.scales": "quantised", "visual.blocks.0.attn.qkv.weight": "multimodal",
    "model.vision_tower.layers.0.fc1.weight": "multimodal", "multi_modal_projector.linear_1.weight": "multimodal",
    "model.layers.2.mlp.up_proj.weight": "its config.json", "model.mtp.weight": "",
    "model.layers.0.self_attn.o_proj.bias": "its config.json",
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_language_model_does_not_hold_is_named(assert_refused, bare, f32, name):
    folder = bare()
    single(folder, load_file(f32[1] / SINGLE) | {name: torch.ones(4, 4)})
    for where in ("base", "left"):
        text = assert_refused(name, FOREIGN[name], str(folder).splitlines()[0], **{where: folder})
        assert "true ancestor" not in text and "base_model (" not in text


@pytest.mark.parametrize("lost", [[UP], [NORM], [EMBEDDING], [HEAD], ["model.layers.0.self_attn.k_proj.bias", UP]])
def test_what_all_models_lack_is_found(assert_refused, bare, f32, lost):
    folders = [bare(f32[0]), bare(f32[1])]
    for folder, source in zip(folders, f32[:2], strict=True):
        single(folder, {n: t for n, t in load_file(source / SINGLE).items() if n not in lost})
    assert not theirs(folders[0])
    assert_refused(*lost, base=folders[0], left=folders[1])
    with pytest.raises(UserError, match="random numbers"):
        check_weights_are_read(folders[0], "transformers")


@pytest.mark.parametrize("changes, name", [
    ({"intermediate_size": 40}, UP), ({"num_key_value_heads": 1}, "k_proj"), ({"num_hidden_layers": 3}, "layers.2."),
    ({"num_hidden_layers": 1}, "layers.1."),
])  # fmt: skip
def test_a_config_that_asks_for_other_tensors_is_found(assert_refused, variant, f32, changes, name):
    folders = [variant(folder, f"odd-{folder.name}", changes) for folder in f32[:2]]
    assert_refused(name, "config", base=folders[0], left=folders[1])


INSTEAD = {
    "shards without index": (["model-00001-of-00002.safetensors"], [INDEX, "fetch"]),
    "consolidated": (["consolidated.safetensors", "params.json"], ["consolidated.safetensors", "its maker's"]),
    "gguf": (["model-q4.gguf"], ["model-q4.gguf", "llama.cpp"]),
    "adapter": (["adapter_model.safetensors"], ["adapter_config.json"]),
    "variant": (["model.fp16.safetensors"], ["model.fp16.safetensors", "rename"]),
    "pickled shards": (["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"], ["pickle", "Convert it"]),
    "old trainer": (["consolidated.00.pth"], ["consolidated.00.pth is a pickle"]),
    "nothing": ([], ["no safetensors"]),
}


@pytest.mark.parametrize("kind", INSTEAD)
def test_a_folder_without_weights_says_what_it_has(assert_refused, bare, kind):
    files, words = INSTEAD[kind]
    folder = bare()
    for name in files:
        single(folder, {"a": torch.ones(2)}, name)
    assert_refused(*words, left=folder)


def test_a_pointer_of_git_lfs_is_called_one(assert_refused, bare):
    folder = bare()
    (folder / SINGLE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134\n")
    assert_refused(SINGLE, "git lfs pull", left=folder)


@pytest.mark.parametrize("value", ["../x.safetensors", "model.bin", 5, ["a"], "/etc/passwd", "gone.safetensors"])
def test_a_config_that_names_no_file_of_weights(assert_refused, bare, f32, value):
    folder = bare()
    single(folder, load_file(f32[1] / SINGLE))
    write_config(folder, transformers_weights=value)
    assert_refused("gone.safetensors" if value == "gone.safetensors" else "transformers_weights", left=folder)


def test_what_lies_beside_is_said(bare, f32):
    weights, found = load_file(f32[1] / SINGLE), {}
    for layout in (single, both, more_shards, beside, index_of_one):
        folder = bare()
        layout(folder, weights)
        found[layout] = plan_of(f32[0], folder)
    assert_found(found[both], "warning", INDEX, FIRST, "not read")
    assert_found(found[more_shards], "warning", "model-00004-of-00004.safetensors", "not read")
    assert_found(found[beside], "note", "consolidated.safetensors", "model.fp16.safetensors")
    assert not any("not read" in text for text in texts(found[single], "note") + texts(found[index_of_one], "warning"))


def test_an_export_says_what_mergekit_would_read_otherwise(bare, f32):
    weights = load_file(f32[1] / SINGLE)
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    for layout, tied, held in ((both, False, weights), (single, False, wrapped), (single, True, weights)):
        folder = bare()
        layout(folder, held)
        write_config(folder, tie_word_embeddings=tied)
        with pytest.raises(UserError, match="mergekit cannot reproduce"):
            refuse_what_differs(plan_of(f32[0], folder))


@pytest.mark.parametrize(
    "changes", [{"vocab_size": "gone"}, {"vocab_size": 9.0}, {"tie_word_embeddings": "no"}], ids=str
)
@pytest.mark.parametrize("paper", [{}, {"compatibility": "paper"}], ids=["", "paper"])
def test_a_config_that_transformers_does_not_load_is_mended(bare, f32, tmp_path, changes, paper):
    folder = bare(f32[0])
    single(folder, load_file(f32[0] / SINGLE))
    write_config(folder, **changes)
    assert_loads(acm.merge(halfway(folder, f32[1], **paper), tmp_path / "out"))


def test_vllm_would_read_other_weights(bare, f32):
    weights = load_file(f32[1] / SINGLE)
    for layout, tied, word in ((both, False, "older shards"), (single, True, "tie_word_embeddings")):
        folder = bare()
        layout(folder, weights)
        write_config(folder, tie_word_embeddings=tied)
        check_weights_are_read(folder, "transformers")
        with pytest.raises(UserError, match=word):
            check_weights_are_read(folder, "vllm")


def test_a_head_unlike_the_embedding_is_said(bare, f32, tmp_path):
    folder = bare()
    single(folder, load_file(f32[1] / SINGLE))
    write_config(folder, tie_word_embeddings=True)
    assert_found(plan_of(f32[0], folder), "warning", "ties the head", "another one")
    twin = shutil.copytree(folder, tmp_path / "twin")
    assert plan_of(folder, twin).config["tie_word_embeddings"] is False


def test_all_readers_take_the_same_file(bare, f32):
    """The check for NaN, too: the older shards hold some."""
    folder, weights = bare(), load_file(f32[1] / SINGLE)
    shards(folder, {name: tensor * float("nan") for name, tensor in weights.items()})
    single(folder, weights)
    check_weights(Checkpoint(folder))
    single(folder, weights | {UP: weights[UP] * float("nan")})
    with pytest.raises(UserError, match=UP):
        check_weights(Checkpoint(folder))


def test_an_unknown_architecture_keeps_its_names(variant, f32):
    folder = variant(f32[0], "own", {"model_type": "own"}, weights=lambda held: held.update(x_norm=torch.ones(3)))
    assert "x_norm" in Checkpoint(folder).tensors and isinstance(Checkpoint(folder).weights, Weights)
