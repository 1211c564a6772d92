"""Where two runs part is found token by token; equal runs part nowhere."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acm.errors import UserError
from acm.reporting.partings import END, partings, place, settings_apart, summary


def records(texts, correct, model="m", task="t", **setting):
    rows = [{"task": task, "item": i, "repeat": 0, "response": text, "correct": float(right)}
            for i, (text, right) in enumerate(zip(texts, correct, strict=True))]  # fmt: skip
    return pd.DataFrame(rows).assign(setting=json.dumps({"model": model} | setting))


def test_the_first_token_that_differs_and_a_changed_grade_are_found(tokenizer):
    one = records(["17+4=21. so 21", "3+3=6", "5", "1+1=2"], [1, 1, 0, 1])
    other = records(["17+4=22. so 22", "3+3=6", "5. so 5", "1+1=3"], [0, 1, 0, 1])
    found = partings(one, other, tokenizer).set_index("item")
    assert found["parted"].tolist() == [True, False, True, True]
    assert found["regraded"].tolist() == [True, False, False, False]
    same = len(tokenizer("17+4=2", add_special_tokens=False)["input_ids"])
    first = tokenizer("17+4=21. so 21", add_special_tokens=False)["input_ids"]
    assert found.loc[0, "token"] in (same, same - 1) and found.loc[0, "one"] == tokenizer.decode(
        [first[found.loc[0, "token"]]]
    )
    assert pd.isna(found.loc[1, "token"]) and pd.isna(found.loc[1, "one"])
    assert (found.loc[2, "token"], found.loc[2, "one"]) == (1, END) and found.loc[2, "other"] != END
    table = summary(found.reset_index())
    assert table.loc["all", ["n", "parted", "regraded", "lost", "won"]].tolist() == [4, 3, 1, 1, 0]
    assert table.loc["t", "token"] == found["token"].median()


WORDS = [st.lists(st.sampled_from(words), max_size=5) for words in (["1", "+", " so", "."], ["2", "a"], ["3", "b"])]


@given(*WORDS)
def test_what_stands_before_the_place_is_the_same_in_both(shared, left, right):
    class Characters:
        def __call__(self, text, add_special_tokens):
            return {"input_ids": [*map(ord, text)]}

        def decode(self, ids):
            return "".join(map(chr, ids))

    one, other = ("".join([*shared, *rest]) for rest in (left, right))
    number, first, second = place(Characters(), one, other)
    if one == other:
        assert (number, first, second) == (None, None, None)
    else:
        assert one[:number] == other[:number] and first != second
        assert [one[number : number + 1] or END, other[number : number + 1] or END] == [first, second]


def test_what_is_compared_is_one_model_on_shared_items(tokenizer):
    one = records(["1"], [1], batch_size=1, versions={"torch": "2"})
    with pytest.raises(UserError, match=r"of other models \(m, n\)"):
        partings(one, records(["1"], [1], model="n"), tokenizer)
    with pytest.raises(UserError, match="share no task, item and repeat"):
        partings(one, records(["1"], [1], task="u"), tokenizer)
    other = records(["1"], [1], batch_size=8, gpu="H100", versions={"torch": "3"})
    assert settings_apart(one, other) == {
        "batch_size": (1, 8),
        "gpu": (None, "H100"),
        "versions": ({"torch": "2"}, {"torch": "3"}),
    }
