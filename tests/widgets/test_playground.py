"""The playground in a notebook: what Python sets and reads, and that its recipe is the merge of the browser."""

import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from abacus import CHECKPOINTS
from acm import merge
from acm.errors import UserError
from acm.paths import REPORTS, WEB
from acm.widgets import Playground, measured, playground


def lambdas(play: Playground) -> dict[str, float]:
    table = play.coefficients
    return {f"{row.layer}.{row.part}".rstrip("."): row.coefficient for row in table.itertuples()}


def test_coefficients_are_a_table_and_are_set_by_number_layer_part_and_table():
    play = Playground()
    assert play.coefficients.columns.tolist() == ["layer", "part", "coefficient"] and len(play.coefficients) == 15
    assert set(lambdas(play).values()) == {0.5} and play.state["mode"] == "one"
    play.coefficients = 0.25
    assert set(lambdas(play).values()) == {0.25}
    play.coefficients = {"0": 1.0, "lm_head": np.float32(0.75)}
    assert play.state["mode"] == "layer"
    assert lambdas(play) | {"0.attention": 1.0, "0.mlp": 1.0, "lm_head": 0.75} == lambdas(play)
    play.coefficients = pd.Series({"2.mlp": -0.5})
    assert play.state["mode"] == "part" and lambdas(play)["2.mlp"] == -0.5 and lambdas(play)["2.attention"] == 0.25
    table = play.coefficients
    other = Playground(table, method="ties", density=0.4, question="tom has 3 eggs.")
    pd.testing.assert_frame_equal(other.coefficients, table)
    assert (other.method, other.density, other.question) == ("ties", 0.4, "tom has 3 eggs.")
    other.coefficients = {"2": 0.25, "0": 0.25, "lm_head": 0.25}
    assert other.state["mode"] == "layer" and set(lambdas(other).values()) == {0.25}
    other.coefficients = {"0.mlp": 0.75, "0": 0.5}
    assert lambdas(other) | {"0.attention": 0.5, "0.mlp": 0.75} == lambdas(other), "a part goes before its layer"


def test_a_table_that_was_a_file_in_between_is_taken(tmp_path):
    play = Playground({"0.mlp": 0.75})
    play.coefficients.to_csv(tmp_path / "table.csv", index=False)
    other = Playground(pd.read_csv(tmp_path / "table.csv"))
    pd.testing.assert_frame_equal(other.coefficients, play.coefficients)
    mixed = pd.DataFrame({"layer": ["0", "0"], "part": ["mlp", ""], "coefficient": [0.75, 0.5]})
    assert lambdas(Playground(mixed))["0.mlp"] == 0.75, "a part goes before its layer"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"9": 0.5}, "9"),
        ({"0": 2.0}, "λ of 0 must be a number from -0.5 to 1.5, not 2.0"),
        ({"0": "high"}, "not 'high'"),
        ({"0": float("nan")}, "not nan"),
        (7, "λ of all layers"),
        (None, "not NoneType"),
        ([0.5] * 9, "not list"),
        (True, "not bool"),
        (pd.DataFrame({"layer": ["0"]}), "lacks the column coefficient"),
    ],
)
def test_wrong_coefficients_are_refused_and_change_nothing(wrong, words):
    play = Playground()
    before = play.state
    with pytest.raises(UserError, match=words):
        play.coefficients = wrong
    for name, value in (
        ("method", "soup"),
        ("method", 3),
        ("density", 0.0),
        ("density", True),
        ("question", None),
        ("question", "x" * 401),
    ):
        with pytest.raises(UserError, match=name):
            setattr(play, name, value)
    assert play.state == before


@pytest.mark.parametrize("method", ["interpolation", "task_arithmetic", "ties"])
@pytest.mark.parametrize("mode", ["one", "layer", "part"])
def test_its_recipe_is_the_merge_of_the_browser_bit_for_bit(ask, tmp_path, method, mode):
    play = Playground({"one": 0.6, "layer": {"1": 0.9, "norm": 0.2}, "part": {"1.mlp": 0.9, "3.attention": 0.1}}[mode])
    play.method, play.density = method, 0.3
    assert play.state["mode"] == mode
    weights = load_file(merge(play.recipe(), tmp_path / "merge", threads=1, kernels=False) / "model.safetensors")
    expected = {
        name: hashlib.sha256(tensor.contiguous().view(torch.uint16).numpy().tobytes()).hexdigest()
        for name, tensor in weights.items()
    }
    assert ask("merge", setting={key: play.state[key] for key in ("method", "density", "coefficients")}) == expected


def test_its_limits_are_those_of_the_page():
    state, merging = ((WEB / path).read_text() for path in ("live/state.js", "core/merge.js"))
    for name in ("LOWEST", "HIGHEST", "LONGEST"):
        assert float(re.search(rf"const {name} = (.+?);", state)[1]) == getattr(playground, name)
    assert json.loads(re.search(r"METHODS = (\[.+?\]);", merging)[1]) == list(playground.METHODS)
    session = (WEB / "core/session.js").read_text()
    assert int(re.search(r"const CAP = (\d+);", session)[1]) == Playground().numbers["cap"]


def test_the_models_are_sent_when_the_page_asks_and_are_no_traits(monkeypatch):
    play, sent = Playground(), []
    monkeypatch.setattr(play, "send", lambda content, buffers: sent.append((content, buffers)))
    play.hand_over(play, {"wanted": "something else"}, [])
    assert not sent
    play.hand_over(play, {"wanted": "models"}, [])
    [(content, buffers)] = sent
    assert content["config"]["model_type"] == "qwen2" and set(content) == {"config", "tokenizer"}
    names = ("abacus-fast", "abacus-slow")
    assert buffers == [(CHECKPOINTS / name / "model.safetensors").read_bytes() for name in names]
    assert not any(isinstance(value, bytes) for value in play.get_state().values())
    assert play.numbers == json.loads((REPORTS / "tiny/long-to-short/live.json").read_text())


def test_a_merge_is_measured_as_the_pipeline_measures_it(results):
    play = Playground(0.7, "task_arithmetic")
    found = play.measure(items=2).loc["merge"]
    assert found["recipe"] == "task_arithmetic" and found["finding"]
    same = results.records.query("method == 'TA' and item < 2")
    assert found["length, tokens"].startswith(f"{same.groupby('task')['length'].mean().mean():.1f} ")
    assert found["length less TA's, tokens"].startswith("+0.0")


def test_items_that_were_not_recorded_are_refused():
    for items in (0, 251, "all"):
        with pytest.raises(UserError, match="from 1 to 250"):
            measured.measure(Playground().recipe(), items=items)
