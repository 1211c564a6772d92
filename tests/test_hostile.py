"""Hostile and broken files, configs and recipes are refused by name: nothing runs, blocks, leaks out or is written."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import acm
from acm.errors import UserError
from acm.paths import ROOT

SINGLE, INDEX, NORM, HEAD = "model.safetensors", "model.safetensors.index.json", "model.norm.weight", "lm_head.weight"
FIRST = "model-00001-of-"


pytestmark = pytest.mark.usefixtures("alarm")


@pytest.fixture(scope="module")
def sharded(make_model, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("sharded") / "left", shard="20KB")


def ta(base, left, weight=0.5):
    return {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": str(left)}],
        "parameters": {"weight": weight},
    }


def split(path):
    """Header and data of a safetensors file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(path, header, data, length=None):
    """Write one, sound or not. header: an object or raw bytes; length: what is claimed of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def entry(tensor=NORM, **changes):
    """Tampers with one tensor's entry; a change may be a function of the old value."""

    def tamper(folder):
        header, data = split(folder / SINGLE)
        for key, change in changes.items():
            header[tensor][key] = change(header[tensor][key]) if callable(change) else change
        join(folder / SINGLE, header, data)

    return tamper


def header(text, length=None):
    return lambda folder: join(folder / SINGLE, text, split(folder / SINGLE)[1], length)


def cut(kept):
    return lambda folder: os.truncate(folder / SINGLE, kept((folder / SINGLE).stat().st_size))


def replaced(make):
    """Something else in the place of the weights."""

    def tamper(folder):
        (folder / SINGLE).unlink()
        make(folder / SINGLE)

    return tamper


def twice(folder):
    found, data = split(folder / SINGLE)
    join(folder / SINGLE, json.dumps(found).encode()[:-1] + f', "{NORM}": {json.dumps(found[NORM])}}}'.encode(), data)


def overlapping(folder):
    found, _ = split(folder / SINGLE)
    place = found["model.layers.0.input_layernorm.weight"]["data_offsets"]
    entry(data_offsets=[place[0] + 4, place[1] + 4])(folder)


def pickled(folder):
    (folder / SINGLE).rename(folder / "pytorch_model.bin")


def sparse(folder):
    (folder / SINGLE).write_bytes((200 << 20).to_bytes(8, "little") + b"{")
    os.truncate(folder / SINGLE, 300 << 20)


FILES = {
    "cut in the data": (cut(lambda size: size - 100), [SINGLE, "past the end of the file", "cut off"]),
    "cut in the header": (cut(lambda size: 100), [SINGLE, "its header claims"]),
    "five bytes": (cut(lambda size: 5), [SINGLE, "of 5 in the file"]),
    "empty file": (cut(lambda size: 0), [SINGLE, "of 0 in the file"]),
    "header longer than the file": (header(b"{}", 1 << 40), [SINGLE, "its header claims 1099511627776 bytes"]),
    "longest header": (header(b"{}", (1 << 64) - 1), [SINGLE, "its header claims 18446744073709551615 bytes"]),
    "header of 200 MB": (sparse, [SINGLE, "its header claims 209715200 bytes"]),
    "no JSON": (header(b"not json"), [SINGLE, "its header is not JSON"]),
    "empty header": (header(b""), [SINGLE, "its header is not JSON"]),
    "not utf-8": (header(b'{"\xff\xfe": 1}'), [SINGLE, "its header is not JSON"]),
    "a list": (header(b"[]"), [SINGLE, "its header is not a JSON object"]),
    "null": (header(b"null"), [SINGLE, "its header is not a JSON object"]),
    "deeply nested": (header(b'{"a":' * 100_000), [SINGLE, "its header is not JSON"]),
    "nested and closed": (header(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), [SINGLE, "its header is not JSON"]),
    "endless number": (header(b'{"a": ' + b"9" * 10_000 + b"}"), [SINGLE, "its header is not JSON"]),
    "entry is a number": (header({"a": 1}), [SINGLE, "tensor a lacks dtype, shape or data_offsets"]),
    "entry without a shape": (
        header({"a": {"dtype": "F32", "data_offsets": [0, 4]}}),
        [SINGLE, "tensor a lacks dtype"],
    ),
    "no tensors": (header({}), []),
    "name twice": (twice, [SINGLE, f"'{NORM}' comes twice"]),
    "overlap": (overlapping, [SINGLE, NORM, "model.layers.0.input_layernorm.weight", "overlap"]),
    "offsets beyond the end": (
        entry(data_offsets=lambda o: [n + 10**9 for n in o]),
        [SINGLE, NORM, "past the end of the file"],
    ),
    "offsets beyond 64 bits": (
        entry(data_offsets=lambda o: [n + 2**70 for n in o]),
        [SINGLE, NORM, "past the end of the file"],
    ),
    "negative offsets": (entry(data_offsets=[-64, 0]), [SINGLE, NORM, "offsets that are not whole numbers"]),
    "swapped offsets": (entry(data_offsets=lambda o: o[::-1]), [SINGLE, NORM, "cannot have -64 bytes"]),
    "float offsets": (entry(data_offsets=lambda o: [float(n) for n in o]), [SINGLE, NORM, "not whole numbers"]),
    "bool offsets": (entry(shape=[], dtype="F32", data_offsets=[False, True]), [SINGLE, NORM, "not whole numbers"]),
    "string offsets": (entry(data_offsets="ab"), [SINGLE, NORM, "not whole numbers"]),
    "three offsets": (entry(data_offsets=lambda o: [*o, 0]), [SINGLE, NORM, "not whole numbers"]),
    "size and shape": (entry(shape=[15]), [SINGLE, NORM, "of shape [15] and dtype F32 cannot have 64 bytes"]),
    "size and dtype": (entry(dtype="BF16"), [SINGLE, NORM, "of shape [16] and dtype BF16 cannot have 64 bytes"]),
    "overflowing shape": (entry(shape=[2**32, 2**32 + 1]), [SINGLE, NORM, "cannot have 64 bytes"]),
    "negative shape": (entry(shape=[-4, -4]), [SINGLE, NORM, "not whole numbers"]),
    "float shape": (entry(shape=[16.0]), [SINGLE, NORM, "not whole numbers"]),
    "infinite shape": (entry(shape=[float("inf")]), [SINGLE, NORM, "not whole numbers"]),
    "bool shape": (entry(shape=[16, True]), [SINGLE, NORM, "not whole numbers"]),
    "string shape": (entry(shape="16"), [SINGLE, NORM, "not whole numbers"]),
    "nested shape": (entry(shape=[[16]]), [SINGLE, NORM, "not whole numbers"]),
    **{
        f"dtype {d}": (entry(dtype=d), [SINGLE, NORM, f"dtype {d}", "convert"])
        for d in ("F8_E4M3", "I4", "I64", "F64", "f32", None)
    },
    "dtype of a list": (entry(dtype=["F32"]), [SINGLE, NORM, "dtype"]),
    "dtype of an object": (entry(dtype={}), [SINGLE, NORM, "dtype"]),
    "pickle alone": (pickled, ["no safetensors", "pytorch_model.bin is a pickle", "save_pretrained('converted')"]),
    "folder": (replaced(Path.mkdir), [SINGLE, "not a regular file"]),
    "pipe": (replaced(os.mkfifo), [SINGLE, "not a regular file"]),
    "link to a folder": (replaced(lambda path: path.symlink_to("/tmp")), [SINGLE, "not a regular file"]),
    "link to a device": (replaced(lambda path: path.symlink_to("/dev/zero")), [SINGLE, "not a regular file"]),
    "link to nothing": (replaced(lambda path: path.symlink_to("absent")), ["no safetensors"]),
    "link to itself": (replaced(lambda path: path.symlink_to(path)), ["no safetensors"]),
    "link to a text": (replaced(lambda path: path.symlink_to("/etc/passwd")), [SINGLE, "its header claims"]),
}


@pytest.fixture
def assert_refused(f32, tmp_path):
    """A merge is refused with these words and leaves all folders as they were."""

    def check(*words, out="out", file=None, change=None, **models):
        content = ta(*(models.get(folder.name, folder) for folder in f32[:2])) | (change or {})
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UserError) as error:
            acm.merge(file or {key: value for key, value in content.items() if value is not None}, tmp_path / out)
        assert all(word in str(error.value) for word in words), str(error.value)
        assert sorted(tmp_path.rglob("*")) == before
        assert len(str(error.value)) < 5000
        return str(error.value)

    return check


def cases(table):
    for name, (*case, words) in table.items():
        for where in ("base", "left"):
            yield pytest.param(where, *case, words, id=f"{name}, {where}")


@pytest.mark.parametrize("where, tamper, words", cases(FILES))
def test_weights(assert_refused, f32, tmp_path, where, tamper, words):
    folder = shutil.copytree(f32[1], tmp_path / "bad")
    tamper(folder)
    assert_refused(str(folder), *words, **{where: folder})


def test_one_of_very_many_names_twice(assert_refused, f32, tmp_path):
    folder = shutil.copytree(f32[1], tmp_path / "bad")
    join(folder / SINGLE, ("{" + ", ".join(f'"n{i}": 0' for i in (*range(80_000), 7)) + "}").encode(), b"")
    signal.alarm(3)
    assert_refused(str(folder), "'n7' comes twice", left=folder)


def indexed(name, tensor=HEAD):
    """Another shard for a tensor in the index."""

    def tamper(folder):
        content = json.loads((folder / INDEX).read_text())
        content["weight_map"][tensor] = name
        (folder / INDEX).write_text(json.dumps(content))

    return tamper


def index(text):
    return lambda folder: (folder / INDEX).write_bytes(text)


def shard(make):
    def tamper(folder):
        path = min(folder.glob("*.safetensors"))
        path.unlink()
        make(path)

    return tamper


def in_both(folder):
    first, *_, last = sorted(folder.glob("*.safetensors"))
    (one, _), (other, more) = split(first), split(last)
    name = next(n for n in one if n != "__metadata__")
    size = one[name]["data_offsets"][1] - one[name]["data_offsets"][0]
    join(last, other | {name: one[name] | {"data_offsets": [len(more), len(more) + size]}}, more + b"\0" * size)


SHARDS = {
    "missing file": (indexed("absent.safetensors"), ["absent.safetensors", "does not exist"]),
    "absolute path": (indexed("/etc/x.safetensors"), [INDEX, "names the shard '/etc/x.safetensors'"]),
    "parent folder": (indexed("../x.safetensors"), [INDEX, "names the shard '../x.safetensors'"]),
    "folder below": (indexed("sub/x.safetensors"), [INDEX, "names the shard 'sub/x.safetensors'"]),
    "number": (indexed(5), [INDEX, "names the shard '5'"]),
    "null": (indexed(None), [INDEX, "names the shard 'None'"]),
    "list": (indexed(["a"]), [INDEX, "names the shard '['a']'"]),
    "pickle": (indexed("pytorch_model.bin"), [INDEX, "names the shard 'pytorch_model.bin'"]),
    "config": (indexed("config.json"), [INDEX, "names the shard 'config.json'"]),
    "NUL": (indexed("a\0.safetensors"), ["does not exist"]),
    "surrogate": (indexed("\ud800.safetensors"), ["does not exist"]),
    "long name": (indexed("x" * 300 + ".safetensors"), ["xxx.safetensors"]),
    "shard lacks it": (
        lambda folder: indexed(min(folder.glob("*.safetensors")).name, "no")(folder),
        [INDEX, "puts tensor no into"],
    ),
    "tensor in two shards": (in_both, ["is in both"]),
    "index: broken": (index(b"{"), [INDEX, "not readable JSON"]),
    "index: not utf-8": (index(b'{"\xff": 1}'), [INDEX, "not readable JSON"]),
    "index: list": (index(b"[]"), [INDEX, "JSON object"]),
    "index: no map": (index(b"{}"), [INDEX, "no weight_map"]),
    "index: empty map": (index(b'{"weight_map": {}}'), [INDEX, "no weight_map"]),
    "index: list as map": (index(b'{"weight_map": ["a"]}'), [INDEX, "no weight_map"]),
    "index: nested": (index(b"[" * 100_000), [INDEX, "not readable JSON"]),
    "folder": (shard(Path.mkdir), [FIRST, "not a regular file"]),
    "pipe": (shard(os.mkfifo), [FIRST, "not a regular file"]),
    "link to a folder": (shard(lambda path: path.symlink_to("/tmp")), [FIRST, "not a regular file"]),
    "link to a device": (shard(lambda path: path.symlink_to("/dev/zero")), [FIRST, "not a regular file"]),
    "link to nothing": (shard(lambda path: path.symlink_to("absent")), [FIRST, "does not exist"]),
    "link to itself": (shard(lambda path: path.symlink_to(path)), [FIRST, "does not exist"]),
}


@pytest.mark.parametrize("where, tamper, words", cases(SHARDS))
def test_shards(assert_refused, sharded, tmp_path, where, tamper, words):
    folder = shutil.copytree(sharded, tmp_path / "bad")
    tamper(folder)
    assert_refused(str(folder), *words, **{where: folder})


CONFIGS = {
    "missing": (None, ["no config.json"]),
    "broken": (b"{", ["config.json", "not readable JSON"]),
    "empty": (b"", ["config.json", "not readable JSON"]),
    "not utf-8": (b'{"a": "\xff"}', ["config.json", "not readable JSON"]),
    "list": (b"[]", ["config.json", "JSON object"]),
    "text": (b'"config"', ["config.json", "JSON object"]),
    "nested": (b'{"a":' * 100_000, ["config.json", "not readable JSON"]),
    "another model": (b'{"hidden_size": 17}', ["hidden_size is"]),
}


@pytest.mark.parametrize("where, content, words", cases(CONFIGS))
def test_config(assert_refused, f32, tmp_path, where, content, words):
    folder = shutil.copytree(f32[1], tmp_path / "bad")
    (folder / "config.json").unlink() if content is None else (folder / "config.json").write_bytes(content)
    assert_refused(str(folder), *words, **{where: folder})


@pytest.mark.parametrize("where", ["base", "left"])
@pytest.mark.parametrize("name, source", [
    ("tokenizer.json", "base"), ("tokenizer.json", None),
    ("tokenizer_config.json", None),
])  # fmt: skip
@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": "\xff"}'])
def test_tokenizer(assert_refused, f32, tmp_path, where, name, source, content):
    folder = shutil.copytree(f32[1], tmp_path / "bad")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / name).write_bytes(content)
    message = assert_refused(
        f"{folder / name} ", "fetch it again", change={"tokenizer_source": source}, **{where: folder}
    )
    assert "field of the wrong type" not in message


def assert_harmless(content, out):
    """Merged or assert_refused, but never another error."""
    try:
        return acm.merge(content, out)
    except UserError:
        assert not out.exists() and not out.with_name(f".{out.name}.part").exists()


@pytest.mark.parametrize("change", [
    {"rope_parameters": 5}, {"rope_parameters": ["x"]},
    {"rope_scaling": "linear"}, {"max_position_embeddings": "512"},
    {"dtype": ["float32"]}, {"vocab_size": "many"}, {"eos_token_id": {"a": []}}, {"num_hidden_layers": None}, {"hidden_size": [16]},
    {"tie_word_embeddings": "no"}, {"architectures": 5}, {"rope_theta": "x"},
    {"eos_token_id": "\ud800"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("where", ["base", "left"])
def test_config_fields_of_the_wrong_type(f32, tmp_path, where, change):
    folder = shutil.copytree(f32[1], tmp_path / "bad")
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | change))
    assert_harmless(ta(folder, f32[1]) if where == "base" else ta(f32[0], folder), tmp_path / "out")


@pytest.mark.parametrize("old, new, weight", [
    pytest.param(".layers.1.", f".layers.{'9' * 400}.", [0.1, 0.9], id="400 digits"),
    pytest.param(".layers.1.", f".layers.{'9' * 5000}.", 0.5, id="5000 digits"),
    pytest.param(".layers.1.", ".layers.7.", [0.1, 0.9], id="gap"),
    pytest.param(".layers.1.mlp.", ".layers.1.\ud800.", 0.5, id="surrogate"),
    pytest.param(".layers.1.mlp.", ".layers.1.\n\0`'\".", 0.5, id="control characters"),
    pytest.param(".layers.1.", ".blocks.1.", 0.5, id="no layer"),
    pytest.param("model.layers.1.mlp", "../../../etc/model.layers.1.mlp", 0.5, id="path"),
])  # fmt: skip
def test_names_of_tensors(f32, tmp_path, old, new, weight):
    folders = [shutil.copytree(folder, tmp_path / folder.name) for folder in f32[:2]]
    for folder in folders:
        found, data = split(folder / SINGLE)
        join(folder / SINGLE, {name.replace(old, new): held for name, held in found.items()}, data)
    assert_harmless(ta(*folders, weight), tmp_path / "out")


def with_empty(folder, shape):
    found, data = split(folder / SINGLE)
    join(
        folder / SINGLE,
        found | {"model.layers.0.extra": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}},
        data,
    )
    return folder


@pytest.mark.parametrize("shape", [[0], [0, 16], [16, 0], [2**40, 0]], ids=str)
@pytest.mark.parametrize(
    "method", ["linear", "task_arithmetic", "ties", "dare_ties", "slerp", "della", "twin", "model_stock"]
)
def test_tensors_without_entries_are_kept(f32, tmp_path, method, shape):
    base, *models = (with_empty(shutil.copytree(folder, tmp_path / folder.name), shape) for folder in f32)
    given = {"slerp": {"t": 0.5}, "twin": {"weight": 0.5, "rank": 0.5}, "model_stock": {}}.get(method, {"weight": 0.5})
    content = {"merge_method": method, "base_model": str(base), "parameters": given,
               "models": [{"model": str(m)} for m in models[: 1 if method == "slerp" else 2]]}  # fmt: skip
    assert split(acm.merge(content, tmp_path / "out") / SINGLE)[0]["model.layers.0.extra"]["shape"] == shape


def test_links_into_a_cache_work(f32, make_model, tmp_path, tensors):
    for source, name in ((f32[1], "one"), (make_model(tmp_path / "sharded", 1, f32[0], shard="20KB"), "many")):
        blobs, snapshot = shutil.copytree(source, tmp_path / name / "blobs"), tmp_path / name / "snapshots/left"
        snapshot.mkdir(parents=True)
        for path in blobs.iterdir():
            (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
        found = tensors(acm.merge(ta(f32[0], snapshot, 1), tmp_path / name / "out"))
        assert all((found[n] == tensor).all() for n, tensor in tensors(source).items())


def test_an_index_of_one_shard_gives_a_model_that_loads(f32, tmp_path):
    base = shutil.copytree(f32[0], tmp_path / "base")
    (base / SINGLE).rename(base / "model-00001-of-00001.safetensors")
    weight_map = dict.fromkeys(load_file(base / "model-00001-of-00001.safetensors"), "model-00001-of-00001.safetensors")
    (base / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    out = acm.merge(ta(base, f32[1]), tmp_path / "out")
    state = AutoModelForCausalLM.from_pretrained(out).state_dict()
    stored = load_file(out / "model-00001-of-00001.safetensors")
    assert stored.keys() == weight_map.keys() and all(
        torch.equal(state[name], tensor) for name, tensor in stored.items()
    )


@pytest.mark.parametrize("out", [
    "models/left", "models/left/.", "models/left/model.safetensors",
    "models/left/out", "models/base/deep/er/out",
])  # fmt: skip
def test_an_output_inside_an_input(assert_refused, f32, tmp_path, out):
    base, left = (shutil.copytree(folder, tmp_path / "models" / folder.name) for folder in f32[:2])
    assert_refused(str(tmp_path / "models"), base=base, left=left, out=out)


def test_a_link_in_the_place_of_the_work_folder_deletes_nothing(f32, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("years of work")
    (tmp_path / ".out.part").symlink_to("precious")
    with contextlib.suppress(UserError):
        acm.merge(ta(*f32[:2]), tmp_path / "out")
    assert (tmp_path / "precious/thesis.txt").exists()


@pytest.mark.parametrize("out, words", [
    pytest.param("x" * 300, ["xxx"], id="long"),
    pytest.param("link", ["link"], id="dangling link"),
])  # fmt: skip
def test_names_of_outputs(assert_refused, tmp_path, out, words):
    (tmp_path / "link").symlink_to("absent")
    assert_refused(*words, out=out)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)
)


@pytest.mark.parametrize("text, words", [
    ("a: !!python/object/apply:os.system ['touch ran']", ["not a readable YAML file", "python/object/apply:os.system"]),
    ("a: !!python/object/new:subprocess.Popen [[touch, ran]]", ["not a readable YAML file"]),
    ("a: !!python/name:os.system", ["not a readable YAML file"]),
    ("a: !include /etc/passwd", ["not a readable YAML file"]),
    (LAUGHS, ["expands to more than 10000 values"]),
    ("a: &a {<<: *a}", ["more than 10000"]), ("a: &a [*a]", ["more than 10000"]), ("a: &a {b: &b [*a, *b]}", ["more than 10000"]),
    ("a: *nobody", ["not a readable YAML file", "nobody"]),
    ("#" * (20 << 20), ["too large", "20 MiB"]),
    ("a: [" + "x, " * 20_000 + "x]", ["more than 10000"]),
    ("models:\n\t- model: x", ["not a readable YAML file", r"\t"]),
    ("[" * 50_000, ["not a readable YAML file"]), ("a: \x07", ["not a readable YAML file"]), ("a: 1\n---\nb: 2", ["not a readable YAML file"]),
    ("{[a]: 1}", ["not a readable YAML file"]), ("1: 2", ["1"]), ("null", ["key: value"]), ("", ["key: value"]), ("- a", ["key: value"]),
    ("seed: " + "9" * 5000, ["readable"]), ("seed: 2024-99-99", ["readable"]), ("seed: !!int x", ["readable"]),
    ("seed: !!bool x", ["readable"]), ("seed: !!timestamp x", ["readable"]),
], ids=lambda value: value[:20].replace("\n", " ") if isinstance(value, str) else "")  # fmt: skip
def test_recipe_files(assert_refused, tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yml").write_text(text)
    assert_refused("r.yml", *words, file=tmp_path / "r.yml")


def test_a_recipe_file_that_is_not_utf8(assert_refused, tmp_path):
    (tmp_path / "r.yml").write_bytes(b"merge_method: \xff")
    assert_refused("r.yml", "not a readable YAML file", file=tmp_path / "r.yml")


@pytest.mark.parametrize("value", [
    [[0.5]], [[0.5], [0.6]], [], {}, [{}], [None], "0.5", "", ["0.5"], True, [True], [0.5, {"value": 1}], [{"value": []}], [{"value": {}}],
    [{"value": [[1]]}], {"value": 1, "filter": 5}, {"value": 1, "filter": ["a"]}, {"vlaue": 1}, {"value": 1, "else": 2}, {"value": "x"},
    [{"filter": "mlp"}], float("nan"), float("inf"), [0.1, float("nan")], [{"value": float("-inf")}], 1j, b"x", {1: 2},
    10**400, -(10**400), [0.1, 10**400], {"value": 10**400}, 10**300, 1e39,
], ids=lambda value: repr(value)[:20])  # fmt: skip
def test_values_of_a_parameter(assert_refused, value):
    assert_refused("weight", change={"parameters": {"weight": value}})


@pytest.mark.parametrize("method, key, value, words", [
    ("task_arithmetic", "normalize", [], ["normalize must be true or false"]),
    ("task_arithmetic", "normalize", "yes", ["normalize must be true or false", "'yes'"]),
    ("ties", "density", [0.5, 2], ["density", "2"]), ("ties", "density", [{"value": 0}], ["density", "0"]),
    ("lore", "iterations", 1.5, ["iterations is a whole number"]), ("lore", "iterations", float("nan"), ["iterations"]),
    ("lore", "iterations", float("inf"), ["iterations"]),
    ("fisher", "statistics", 5, ["statistics must be a file's path"]), ("fisher", "statistics", ["a"], ["statistics must be a file's path"]),
    ("fisher", "statistics", "/dev/zero", ["/dev/zero", "not a regular file"]), ("fisher", "statistics", "/etc/passwd", ["/etc/passwd"]),
    ("sens", "sensitivity", "/dev/null", ["/dev/null"]),
])  # fmt: skip
def test_values_of_other_parameters(assert_refused, f32, method, key, value, words):
    more = {"lore": {"mu": 0.1}, "sens": {"alpha": 0.5, "temperature": 1.0}, "fisher": {}}.get(method, {"weight": 0.5})
    models = [{"model": str(m)} for m in f32[1 : 2 + (method == "lore")]]
    assert_refused(*words, change={"merge_method": method, "models": models, "parameters": more | {key: value}})


@pytest.mark.parametrize("change, words", [
    ({"models": "left"}, ["models"]), ({"models": [[]]}, ["models.0"]), ({"models": [None]}, ["models.0"]), ({"models": {}}, ["models"]),
    ({"models": [{"model": 5}]}, ["models.0.model"]), ({"models": [{"model": ""}]}, ["config.json"]), ({"models": [{"model": "\0"}]}, ["does not exist"]),
    ({"models": [{"model": "x" * 400}]}, ["xxx"]), ({"base_model": "x" * 300}, ["xxx"]),
    ({"base_model": []}, ["base_model"]), ({"base_model": "/dev/zero"}, ["/dev/zero"]), ({"parameters": []}, ["parameters"]),
    ({"seed": 1.5}, ["seed"]), ({"seed": []}, ["seed"]), ({"seed": float("nan")}, ["seed"]), ({"dtype": []}, ["dtype"]), ({"scope": {}}, ["scope"]),
    ({"tokenizer_source": 5}, ["tokenizer_source"]), ({"tokenizer_source": "\ud800"}, ["tokenizer_source"]), ({5: 5}, ["5"]),
    ({"models": None, "slices": 5}, ["slices"]), ({"models": None, "slices": [{}, {}]}, ["slices"]),
    ({"models": None, "slices": [{"sources": 5}]}, ["models"]), ({"slices": [{"sources": []}]}, ["slices"]),
    ({"models": None, "slices": [{"sources": [], "parameters": [1]}]}, ["parameters"]), ({"models": None, "slices": [{"sources": [], 1: 2}]}, ["1"]),
    ({"coefficients": []}, ["coefficients"]), ({"coefficients": {}}, ["coefficients"]),
    ({"coefficients": [True]}, ["coefficients"]), ({"coefficients": ["0.5"]}, ["coefficients"]),
    ({"coefficients": [float("nan")]}, ["coefficients"]), ({"coefficients": {"left": []}}, ["coefficients"]),
    ({"coefficients": {"left": {"0": "x"}}}, ["coefficients"]), ({"coefficients": "/dev/null"}, ["/dev/null"]), ({"coefficients": "."}, ["."]),
], ids=lambda value: str(value)[:50].replace("\0", "NUL").replace("\ud800", "surrogate"))  # fmt: skip
def test_other_keys(assert_refused, change, words):
    assert_refused(*words, change=change)


@pytest.mark.parametrize("name, text", [
    ("c.json", '{"coefficients": {"left": []}}'), ("c.json", '{"coefficients": {"left": {"0": [1]}}}'), ("c.json", '{"coefficients": []}'),
    ("c.json", '{"coefficients": {"left": {"0": true}}}'), ("c.csv", "a,b\n1,2\n"), ("c.csv", ""), ("c.csv", "finetuned,layer,coefficient\nleft,0\n"),
    ("c.csv", "finetuned,layer,coefficient\nleft,0,nan\n"), ("c.csv", "finetuned,layer,coefficient\nleft,0,\xff\n"),
    ("c.json", '{"coefficients": {"left": ["a", "b"]}}'),
    ("c.json", '{"coefficients": {"left": [{}]}}'),
    ("c.json", '{"coefficients": {"left": [[1], [2]]}}'),
    ("c.json", json.dumps({"coefficients": {"left": dict.fromkeys(["embed", "0", "1", "norm", "lm_head"], 10**400)}})),
    ("c.csv", "finetuned,layer,coefficient\nleft,0," + "9" * 200_000),
], ids=lambda value: value[:50])  # fmt: skip
def test_files_of_coefficients(assert_refused, tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert_refused(name, change={"coefficients": str(tmp_path / name)})


def run(*arguments, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "acm", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=20
    )


@pytest.mark.parametrize("command", ["check r.yml", "merge r.yml out", "merge r.yml out --dry-run"])
@pytest.mark.parametrize("tamper", [cut(lambda size: size - 100), replaced(os.mkfifo), None, "a: !!python/object/apply:os.system ['touch ran']", LAUGHS],
                         ids=["cut", "pipe", "no config", "tag", "laughs"])  # fmt: skip
def test_command_line_prints_an_error_and_no_traceback(f32, tmp_path, command, tamper):
    bad = shutil.copytree(f32[1], tmp_path / "bad")
    if callable(tamper):
        tamper(bad)
    elif tamper is None:
        (bad / "config.json").unlink()
    (tmp_path / "r.yml").write_text(tamper if isinstance(tamper, str) else yaml.safe_dump(ta(f32[0], "bad")))
    before = sorted(tmp_path.rglob("*"))
    done = run(*command.split(), cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("error:") == 1
    assert (
        "Traceback" not in done.stderr + done.stdout and ("r.yml" if isinstance(tamper, str) else "bad") in done.stderr
    )
    assert sorted(tmp_path.rglob("*")) == before
