"""Files of users are read strictly: what they say twice, or no reader agrees on, is refused with file and line."""

import json
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import acm.reading
from acm.errors import UserError
from acm.reading import read_documents, read_json, read_yaml
from acm.records import read_coefficients

HEADER = "finetuned,layer,coefficient\n"
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
TREES = st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=4)


@pytest.fixture(params=["libyaml", "python"])
def loader(request, monkeypatch):
    """Both parsers of YAML: the compiled one, and the one that is there where PyYAML was built without it."""
    monkeypatch.setattr(acm.reading, "LOADER", {"libyaml": yaml.CSafeLoader, "python": yaml.SafeLoader}[request.param])


def assert_refused(read, path, content, *words):
    """The file is refused in one sentence that names it and has the words."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read(path)
    text = str(error.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 700, text
    assert all(word in text for word in words), text


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("text, words", [
    ("a: 1\nb: 2\na: 3\n", ["line 3", "'a' stands in line 1 already"]),
    ("models:\n- model: x\n  parameters: {weight: 1, density: 1, weight: 2}\n", ["line 3", "'weight'", "line 3"]),
    ("coefficients:\n  left: {0: 1,\n    '0': 2}\n", ["line 3", "'0' stands in line 2 already"]),
    ("a: &x {b: 1}\nc: {<<: *x, d: 1, d: 2}\n", ["line 2", "'d'"]),
    ("? a\n: 1\n? a\n: 2\n", ["line 3", "'a'"]),
    ("a: 1\n---\nb: 1\nb: 2\n", ["line 4", "'b'"]),
    ("a:\n\tb: 1\n", ["line 2", r"'\tb: 1'", "spaces, not tabs"]),
    ("a: [1, 2\nb: 3\n", ["line"]), ("a: 'open\n", ["line"]), ("a: b: c\n", ["line 1"]),
    ("a: *nobody\n", ["line 1", "nobody"]), ("a: !!python/name:os.system\n", ["line 1", "os.system"]),
    ("a: !secret x\n", ["line 1", "!secret"]),
    (b"a: caf\xe9\n", ["byte 6 is not UTF-8; save it as UTF-8"]),
    ("a: 1\n".encode("utf-16"), ["is not UTF-8"]),
    ("a: \x1b[2J\n", ["not a readable YAML file"]),
    ("- a\n- b\n", ["`key: value`"]), ("a: 1\n---\n- b\n", ["`key: value`"]), ("# nothing\n", ["`key: value`"]),
    ("a: 1\n---\nb: 2\n", ["2 documents"]),
    ("a: [1,\n  010]\n", ["line 2", "010"]), ("a: 1:30\n", ["line 1", "1:30"]), ("a: -07\n", ["-07"]),
    ("[" * 60 + "]" * 60, ["more than 50 levels deep"]), ("a: " + "{a: " * 60, ["more than 50 levels deep"]),
    ("- " * 5000 + "x", ["more than 50 levels deep"]),
])  # fmt: skip
def test_yaml_that_is_refused(tmp_path, text, words):
    assert_refused(read_yaml, tmp_path / "r.yml", text, *words)


@pytest.mark.parametrize("text", [
    "- a\n" * 250_000, "a: 1\n" * 200_000, "[" * 1_000_000, "{a: " * 250_000, "? " * 500_000, "a: [" + "1," * 500_000,
    "".join(f"k{i}: &k{i} {i}\n" for i in range(60_000)), "&a " * 300_000, "a: !!x " * 100_000, "---\n" * 250_000,
    "".join(f"k{i}: [*k{i - 1}, *k{i - 1}]\n" for i in range(1, 30_000)), "%TAG ! x\n" * 100_000, "\t" * 1_000_000,
    "x" * (3 << 20),
], ids=range(14))  # fmt: skip
def test_a_megabyte_of_yaml_is_refused_at_once(tmp_path, text):
    """Within two seconds of processor time, and nothing is said of aliases where there are none."""
    start = time.process_time()
    assert_refused(read_yaml, tmp_path / "r.yml", text)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("text", ["a: |\n" + "  word word word\n" * 60_000, "#" * 1_000_000 + "\na: 1\n"])
def test_a_megabyte_of_sound_yaml_is_read_within_a_second(tmp_path, text):
    (tmp_path / "r.yml").write_text(text)
    start = time.process_time()
    assert list(read_yaml(tmp_path / "r.yml")) == ["a"]
    assert time.process_time() - start < 1


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("text", [
    b"\xef\xbb\xbfa: 1\nb: [x, y]\n", b"a: 1\r\nb: [x, y]\r\n", b"---\na: 1\nb: [x, y]\n...\n", b"{a: 1, b: [x, y]}",
    b"a: 1\nb:\n- x\n- y\n---\n", b"%YAML 1.1\n---\na: 1\nb: [x, y]",
])  # fmt: skip
def test_spellings_of_the_same_yaml(tmp_path, text):
    (tmp_path / "r.yml").write_bytes(text)
    assert read_yaml(tmp_path / "r.yml") == {"a": 1, "b": ["x", "y"]}


def test_merged_mappings_may_be_overridden(tmp_path):
    (tmp_path / "r.yml").write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\n")
    assert read_yaml(tmp_path / "r.yml")["c"] == {"x": 3, "y": 4}


def test_documents_come_in_their_order(tmp_path):
    (tmp_path / "r.yml").write_text("name: one\n---\nname: two\n---\n")
    assert read_documents(tmp_path / "r.yml") == [{"name": "one"}, {"name": "two"}]


@settings(max_examples=60, deadline=None)
@given(TREES, st.data())
def test_what_yaml_and_json_write_comes_back_and_a_doubled_key_is_refused(tmp_path_factory, content, data):
    folder = tmp_path_factory.mktemp("tree")
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    (folder / "r.yml").write_text(text)
    assert read_yaml(folder / "r.yml") == yaml.safe_load(text)
    (folder / "r.json").write_text(json.dumps(content))
    assert read_json(folder / "r.json") == content
    key = data.draw(st.sampled_from(sorted(content)))
    members = [*content.items(), (key, 1)]
    doubled = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in members)
    assert_refused(read_json, folder / "twice.json", f'{{"inner": {{{doubled}}}}}', "comes twice")
    line = yaml.safe_dump({key: 1}, allow_unicode=True)
    assert_refused(read_yaml, folder / "twice.yml", text + line, "already")


@pytest.mark.parametrize("text, words", [
    ('{"a": 1, "b": 2, "a": 3}', ["'a' comes twice"]), ('{"x": [{"0": 1, "0": 1}]}', ["'0' comes twice"]),
    ('{"a": NaN}', ["NaN is not a finite number"]), ('{"a": [-Infinity]}', ["-Infinity"]), ('{"a": 1e999}', ["1e999"]),
    ('{"a": ' * 5000, ["too deep"]), ("[" * 100_000, ["too deep"]), ('{"a": "\\ud800"}', ["surrogate"]),
    ('{"\\udc00": 1}', ["surrogate"]), (b'{"a": "\xff"}', ["byte 7 is not UTF-8"]), ("{", ["line 1 column 2"]),
    ("[1]", ["must hold a JSON object"]), ("", ["not readable JSON"]), ('{"a": ' + "9" * 5000 + "}", ["not readable"]),
])  # fmt: skip
def test_json_that_is_refused(tmp_path, text, words):
    assert_refused(lambda path: read_json(path, finite=True), tmp_path / "c.json", text, *words)


def test_json_of_models_may_hold_infinity_pairs_of_surrogates_and_a_mark(tmp_path):
    (tmp_path / "c.json").write_bytes(b'\xef\xbb\xbf{"limit": [0.0, Infinity], "smile": "\\ud83d\\ude00"}')
    assert read_json(tmp_path / "c.json") == {"limit": [0.0, float("inf")], "smile": "😀"}


def test_what_is_no_file_is_named(tmp_path):
    for read in (read_json, read_yaml):
        for path in (tmp_path, tmp_path / "absent", tmp_path / "nul\0"):
            with pytest.raises(UserError, match="readable"):
                read(path)


@pytest.mark.parametrize("text, words", [
    ("left,0,0.5\nleft,1,0.5\nleft,0,0.6\n", ["line 4", "layer 0 of left comes twice"]),
    ("left,0,\n", ["line 2", "empty"]), ("left,,1\n", ["line 2", "empty"]), (",0,1\n", ["line 2", "empty"]),
    ("left,0\n", ["line 2", "empty"]), ("left,0,1,2\n", ["line 2", "too many"]),
    ("left,0,nan\n", ["line 2", "nan is not a finite number"]), ("left,0,1e999\n", ["line 2", "1e999"]),
    ("left,0,-inf\n", ["line 2", "-inf"]), ("left,0,half\n", ["line 2", "half"]),
])  # fmt: skip
def test_tables_of_coefficients_that_are_refused(tmp_path, text, words):
    assert_refused(
        read_coefficients, tmp_path / "c.csv", HEADER + text, "columns finetuned, layer, coefficient", *words
    )


@pytest.mark.parametrize("key", ["coefficients", "sensitivity"])
def test_a_missing_file_is_named_by_what_it_should_hold(tmp_path, key):
    with pytest.raises(UserError, match=f"^no {key} at .*absent.json; calibrate first"):
        read_coefficients(tmp_path / "absent.json", key)


def test_a_table_of_coefficients_may_have_a_mark_other_columns_and_any_order(tmp_path):
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbflayer,note,coefficient,finetuned\r\n0,a,5e-1,left\r\n1,,1,left\r\n")
    assert read_coefficients(tmp_path / "c.csv") == {"left": {"0": 0.5, "1": 1.0}}
    assert_refused(
        read_coefficients, tmp_path / "d.csv", "finetuned,layer,lambda\nleft,0,1\n", "lacks the column coefficient"
    )
