"""Hostile and broken recipes, and the files that they name, are refused by name: nothing runs, blocks or is written."""

import json

import pytest
from helpers import assert_error

from acm.merging.registry import METHODS

pytestmark = pytest.mark.usefixtures("alarm")

LAYERS = ["embed", "0", "1", "norm", "lm_head"]
FOURFOLD = "a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}]\n"
LAUGHS = "a0: &a0 [x, x]\n" + "".join(FOURFOLD.format(i, i - 1) for i in range(1, 40))


@pytest.mark.parametrize("text, words", [
    ("a: !!python/object/apply:os.system ['touch ran']", ["not a readable YAML file", "python/object/apply:os.system"]),
    ("a: !!python/object/new:subprocess.Popen [[touch, ran]]", ["not a readable YAML file"]),
    ("a: !!python/name:os.system", ["not a readable YAML file"]),
    ("a: !include /etc/passwd", ["not a readable YAML file"]),
    (LAUGHS, ["expands to more than 10000 values"]),
    ("a: &a {<<: *a}", ["more than 10000"]), ("a: &a [*a]", ["more than 10000"]),
    ("a: &a {b: &b [*a, *b]}", ["more than 10000"]),
    ("a: *nobody", ["not a readable YAML file", "nobody"]),
    ("#" * (20 << 20), ["too large", "2 MiB"]),
    ("a: [" + "x, " * 20_000 + "x]", ["more than 10000"]),
    ("models:\n\t- model: x", ["not a readable YAML file", r"\t"]),
    ("[" * 50_000, ["not a readable YAML file"]), ("a: \x07", ["not a readable YAML file"]),
    ("a: 1\n---\nb: 2", ["2 recipes", "`name`"]), ("{[a]: 1}", ["not a readable YAML file"]), ("1: 2", ["1"]),
    ("null", ["key: value"]), ("", ["key: value"]), ("- a", ["key: value"]),
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
    [[0.5]], [[0.5], [0.6]], [], {}, [{}], [None], "0.5x", "", ["half"], "nan", ["1e999"], "0x1", "1_0",
    "-", True, [True], [0.5, {"value": 1}],
    [{"value": []}], [{"value": {}}], [{"value": [[1]]}], {"value": 1, "filter": 5}, {"value": 1, "filter": ["a"]},
    {"vlaue": 1}, {"value": 1, "else": 2}, {"value": "x"}, [{"filter": "mlp"}], float("nan"), float("inf"),
    [0.1, float("nan")], [{"value": float("-inf")}], 1j, b"x", {1: 2}, 10**400, -(10**400), [0.1, 10**400],
    {"value": 10**400}, 10**300, 1e39,
], ids=lambda value: repr(value)[:20])  # fmt: skip
def test_values_of_a_parameter(assert_refused, value):
    assert_refused("weight", change={"parameters": {"weight": value}})


@pytest.mark.parametrize("method, key, value, words", [
    ("task_arithmetic", "normalize", [], ["normalize is an empty list"]),
    ("task_arithmetic", "normalize", "perhaps", ["normalize must be true or false", "'perhaps'"]),
    ("task_arithmetic", "normalize", 2, ["normalize must be true or false"]),
    ("task_arithmetic", "normalize", [1, 0.5], ["normalize must be true or false"]),
    ("ties", "density", [0.5, 2], ["density", "2"]), ("ties", "density", [{"value": 0}], ["density", "0"]),
    ("lore", "iterations", 1.5, ["iterations is a whole number"]), ("lore", "iterations", float("nan"), ["iterations"]),
    ("lore", "iterations", float("inf"), ["iterations"]),
    ("fisher", "statistics", 5, ["statistics must be a file's path"]),
    ("fisher", "statistics", ["a"], ["statistics must be a file's path"]),
    ("fisher", "statistics", "/dev/zero", ["/dev/zero", "not a regular file"]),
    ("fisher", "statistics", "/etc/passwd", ["/etc/passwd"]),
    ("sens", "sensitivity", "/dev/null", ["/dev/null"]),
])  # fmt: skip
def test_values_of_other_parameters(assert_refused, f32, method, key, value, words):
    row = METHODS[method]
    models = [{"model": str(model)} for model in f32[1 : 1 + row.models[0]]]
    parameters = row.example | {key: value}
    assert_refused(*words, change={"merge_method": method, "models": models, "parameters": parameters})


@pytest.mark.parametrize("change, words", [
    ({"models": "left"}, ["models"]), ({"models": [[]]}, ["models[0]"]), ({"models": [None]}, ["models[0]"]),
    ({"models": {}}, ["models"]), ({"models": [{"model": 5}]}, ["models[0].model"]),
    ({"models": [{"model": ""}]}, ["name is empty"]), ({"models": [{"model": "\0"}]}, ["does not exist"]),
    ({"models": [{"model": "x" * 400}]}, ["xxx"]), ({"base_model": "x" * 300}, ["xxx"]),
    ({"base_model": []}, ["base_model"]), ({"base_model": "/dev/zero"}, ["/dev/zero"]),
    ({"parameters": []}, ["parameters"]), ({"seed": 1.5}, ["seed"]), ({"seed": []}, ["seed"]),
    ({"seed": float("nan")}, ["seed"]), ({"dtype": []}, ["dtype"]), ({"scope": {}}, ["scope"]),
    ({"tokenizer_source": 5}, ["tokenizer_source"]), ({"tokenizer_source": "\ud800"}, ["tokenizer_source"]),
    ({5: 5}, ["5"]), ({"models": None, "slices": 5}, ["slices"]), ({"models": None, "slices": [{}, {}]}, ["slices"]),
    ({"models": None, "slices": [{"sources": 5}]}, ["models"]), ({"slices": [{"sources": []}]}, ["slices"]),
    ({"models": None, "slices": [{"sources": [], "parameters": [1]}]}, ["parameters"]),
    ({"models": None, "slices": [{"sources": [], 1: 2}]}, ["1"]), ({"coefficients": []}, ["coefficients"]),
    ({"coefficients": {}}, ["coefficients"]), ({"coefficients": [True]}, ["coefficients"]),
    ({"coefficients": ["half"]}, ["coefficients"]), ({"coefficients": [float("nan")]}, ["coefficients"]),
    ({"coefficients": {"left": []}}, ["coefficients"]), ({"coefficients": {"left": {"0": "x"}}}, ["coefficients"]),
    ({"coefficients": "/dev/null"}, ["/dev/null"]), ({"coefficients": "."}, ["."]),
], ids=lambda value: str(value)[:50].replace("\0", "NUL").replace("\ud800", "surrogate"))  # fmt: skip
def test_other_keys(assert_refused, change, words):
    assert_refused(*words, change=change)


@pytest.mark.parametrize("name, text", [
    ("c.json", '{"coefficients": {"left": []}}'),
    ("c.json", '{"coefficients": {"left": {"0": [1]}}}'),
    ("c.json", '{"coefficients": []}'),
    ("c.json", '{"coefficients": {"left": {"0": true}}}'),
    ("c.csv", "a,b\n1,2\n"),
    ("c.csv", ""),
    ("c.csv", "finetuned,layer,coefficient\nleft,0\n"),
    ("c.csv", "finetuned,layer,coefficient\nleft,0,nan\n"),
    ("c.csv", "finetuned,layer,coefficient\nleft,0,\xff\n"),
    ("c.json", '{"coefficients": {"left": ["a", "b"]}}'),
    ("c.json", '{"coefficients": {"left": [{}]}}'),
    ("c.json", '{"coefficients": {"left": [[1], [2]]}}'),
    ("c.json", json.dumps({"coefficients": {"left": dict.fromkeys(LAYERS, 10**400)}})),
    ("c.csv", "finetuned,layer,coefficient\nleft,0," + "9" * 200_000),
], ids=lambda value: value[:50])  # fmt: skip
def test_files_of_coefficients(assert_refused, tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert_refused(name, change={"coefficients": str(tmp_path / name)})


@pytest.mark.parametrize("command", ["check r.yml", "merge r.yml out", "merge r.yml out --dry-run"])
@pytest.mark.parametrize("text", ["a: !!python/object/apply:os.system ['touch ran']", LAUGHS], ids=["tag", "laughs"])
def test_the_command_line_prints_an_error_and_no_traceback(tmp_path, command, text):
    (tmp_path / "r.yml").write_text(text)
    assert_error(tmp_path, command, "r.yml")
