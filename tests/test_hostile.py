"""Hostile and broken model folders are refused by name: nothing runs, blocks, leaks out or is written."""

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from helpers import HEAD, INDEX, NORM, SINGLE, assert_error, example, halfway
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import acm
from acm.errors import UserError
from acm.merging.registry import METHODS

FIRST = "model-00001-of-"  # how the name of the first shard begins

pytestmark = pytest.mark.usefixtures("alarm")


@pytest.fixture(scope="module")
def sharded(make_model, tmp_path_factory):
    """The left model in several files; read only."""
    return make_model(tmp_path_factory.mktemp("sharded") / "left", shard="20KB")


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
    """Another header. length: what is claimed of it."""
    return lambda folder: join(folder / SINGLE, text, split(folder / SINGLE)[1], length)


def cut(kept):
    """Cuts the weights. kept: bytes that stay, of the size."""
    return lambda folder: os.truncate(folder / SINGLE, kept((folder / SINGLE).stat().st_size))


def replaced(make):
    """Something else in the place of the weights."""

    def tamper(folder):
        (folder / SINGLE).unlink()
        make(folder / SINGLE)

    return tamper


def twice(folder):
    """One name twice in the header."""
    found, data = split(folder / SINGLE)
    join(folder / SINGLE, json.dumps(found).encode()[:-1] + f', "{NORM}": {json.dumps(found[NORM])}}}'.encode(), data)


def overlapping(folder):
    """Two tensors share bytes."""
    found, _ = split(folder / SINGLE)
    place = found["model.layers.0.input_layernorm.weight"]["data_offsets"]
    entry(data_offsets=[place[0] + 4, place[1] + 4])(folder)


def pickled(folder):
    """A pickle in the place of the weights."""
    (folder / SINGLE).rename(folder / "pytorch_model.bin")


def sparse(folder):
    """A header longer than allowed, in a file that is long enough."""
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
    "surrogate": (indexed("\ud800.safetensors"), ["half of a surrogate pair"]),
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
    """Merged or refused, but never another error."""
    try:
        return acm.merge(content, out)
    except UserError:
        assert not out.exists() and not out.with_name(f".{out.name}.part").exists()


@pytest.mark.parametrize("change", [
    {"rope_parameters": 5}, {"rope_parameters": ["x"]}, {"rope_scaling": "linear"}, {"max_position_embeddings": "512"},
    {"dtype": ["float32"]}, {"vocab_size": "many"}, {"eos_token_id": {"a": []}}, {"num_hidden_layers": None},
    {"hidden_size": [16]}, {"tie_word_embeddings": "no"}, {"architectures": 5}, {"rope_theta": "x"},
    {"eos_token_id": "\ud800"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("where", ["base", "left"])
def test_config_fields_of_the_wrong_type(f32, tmp_path, where, change):
    folder = shutil.copytree(f32[1], tmp_path / "bad")
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | change))
    assert_harmless(halfway(folder, f32[1]) if where == "base" else halfway(f32[0], folder), tmp_path / "out")


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
    assert_harmless(halfway(*folders, weight=weight), tmp_path / "out")


def with_empty(folder, shape):
    """The model with a further tensor that has no entries, of an architecture whose tensors nobody lists."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "unlisted"}))
    found, data = split(folder / SINGLE)
    found["model.layers.0.extra"] = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    join(folder / SINGLE, found, data)
    return folder


@pytest.mark.parametrize("shape", [[0], [0, 16], [16, 0], [2**40, 0]], ids=str)
@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if not row.reads_files])
def test_tensors_without_entries_are_kept(f32, tmp_path, method, shape):
    folders = [with_empty(shutil.copytree(folder, tmp_path / folder.name), shape) for folder in f32]
    out = acm.merge(example(method, folders), tmp_path / "out")
    assert split(out / SINGLE)[0]["model.layers.0.extra"]["shape"] == shape


def test_links_into_a_cache_work(f32, make_model, tmp_path, tensors):
    for source, name in ((f32[1], "one"), (make_model(tmp_path / "sharded", 1, f32[0], shard="20KB"), "many")):
        blobs, snapshot = shutil.copytree(source, tmp_path / name / "blobs"), tmp_path / name / "snapshots/left"
        snapshot.mkdir(parents=True)
        for path in blobs.iterdir():
            (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
        found = tensors(acm.merge(halfway(f32[0], snapshot, weight=1), tmp_path / name / "out"))
        assert all((found[n] == tensor).all() for n, tensor in tensors(source).items())


def test_an_index_of_one_shard_gives_a_model_that_loads(f32, tmp_path):
    base = shutil.copytree(f32[0], tmp_path / "base")
    only = "model-00001-of-00001.safetensors"
    (base / SINGLE).rename(base / only)
    weight_map = dict.fromkeys(load_file(base / only), only)
    (base / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    out = acm.merge(halfway(base, f32[1]), tmp_path / "out")
    state = AutoModelForCausalLM.from_pretrained(out).state_dict()
    stored = load_file(out / only)
    assert stored.keys() == weight_map.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in stored.items())


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
        acm.merge(halfway(*f32[:2]), tmp_path / "out")
    assert (tmp_path / "precious/thesis.txt").exists()


@pytest.mark.parametrize("out, words", [
    pytest.param("x" * 300, ["xxx"], id="long"),
    pytest.param("link", ["link"], id="dangling link"),
])  # fmt: skip
def test_names_of_outputs(assert_refused, tmp_path, out, words):
    (tmp_path / "link").symlink_to("absent")
    assert_refused(*words, out=out)


@pytest.mark.parametrize("command", ["check r.yml", "merge r.yml out", "merge r.yml out --dry-run"])
@pytest.mark.parametrize("tamper", [
    cut(lambda size: size - 100), replaced(os.mkfifo), lambda folder: (folder / "config.json").unlink(),
], ids=["cut", "pipe", "no config"])  # fmt: skip
def test_the_command_line_prints_an_error_and_no_traceback(f32, tmp_path, command, tamper):
    tamper(shutil.copytree(f32[1], tmp_path / "bad"))
    (tmp_path / "r.yml").write_text(yaml.safe_dump(halfway(f32[0], "bad")))
    assert_error(tmp_path, command, "bad")
