"""Whatever stands in a log, in its results or in a table: one sentence, or records that are right."""

import copy
import json
import re

import pandas as pd
import pyarrow as pa
import pytest
from helpers_imported import LONG, MATHS, TASKS, N, items_of, line_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acm.errors import UserError
from acm.records import RECORD_COLUMNS
from acm.running.imported import import_records

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "1", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
FIELDS = [
    ("doc_id",), ("doc",), ("doc", "question"), ("doc", "steps"), ("target",), ("arguments",),
    ("arguments", "gen_args_0"), ("arguments", "gen_args_0", "arg_0"), ("arguments", "gen_args_0", "arg_1"), ("resps",),
    ("resps", 0), ("resps", 0, 0), ("filtered_resps",), ("filtered_resps", 0), ("filter",), ("metrics",),
    ("metrics", 0), ("exact_match",), ("doc_hash",), ("prompt_hash",), ("target_hash",),
    *(("arguments", "gen_args_0", "arg_1", name) for name in ("max_gen_toks", "do_sample", "until", "top_p", "x")),
]  # fmt: skip


RESULTS = {
    "config": {"model": "hf", "model_args": {"pretrained": "x"}, "gen_kwargs": {}, "limit": None},
    "n-samples": {TASKS[0]: {"original": 500, "effective": N}},
    "results": {TASKS[0]: {"exact_match,last-answer": 1 / 3}},
    "configs": {TASKS[0]: {"metric_list": [{"metric": "exact_match", "aggregation": "mean"}]}}, "n-shot": {TASKS[0]: 0},
    "chat_template": None, "system_instruction": None,
}  # fmt: skip
PLACES = [
    ("config",), ("config", "model"), ("config", "model_args"), ("config", "model_args", "max_gen_toks"),
    ("config", "model_args", "think_end_token"), ("config", "model_args", "dtype"), ("config", "model_dtype"),
    ("n-samples",), ("n-samples", TASKS[0]), ("n-samples", TASKS[0], "original"), ("n-samples", TASKS[0], "effective"),
    ("results",), ("results", TASKS[0]), ("results", TASKS[0], "exact_match,last-answer"), ("configs",),
    ("configs", TASKS[0]), ("configs", TASKS[0], "metric_list"), ("configs", TASKS[0], "metric_list", 0),
    ("n-shot",), ("chat_template",),
]  # fmt: skip
MANY = settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def attempt(profile, f32, tokenizer, monkeypatch):
    """Imports sources, and returns what was stored. None: refused in one sentence, with nothing stored."""
    count = lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    for module in ("imported", "imported_logs"):
        monkeypatch.setattr(f"acm.running.{module}.token_counter", lambda _: count)

    def run(sources, profile=profile, **options):
        stored = profile.folder / LONG / "records" / "TA.parquet"
        stored.unlink(missing_ok=True)
        try:
            import_records(profile, LONG, sources, **options)
        except UserError as error:
            assert not stored.exists() and "\n" not in str(error) and len(str(error)) < 1000
            return None
        return pd.read_parquet(stored)

    return run


@pytest.fixture
def logged(attempt, f32, tmp_path):
    """Writes right logs, each with one line of its own and results beside them, and imports them."""
    date = "2026-11-22T10-00-00.123456"

    def run(results=RESULTS, change=lambda line: None, line=0):
        for task in TASKS:
            rows = [line_of(item, i) for i, item in enumerate(items_of(task))]
            change(rows[line])
            (tmp_path / f"samples_{task}_{date}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / f"results_{date}.json").write_text(json.dumps(results))
        return attempt(sorted(tmp_path.glob("samples_*")), method="TA", tokenizer=f32[1])

    assert run()["correct"].tolist() == [1.0, 0.0, 0.0] * 2
    return run


def put(content, place, value):
    """Set a value within nested JSON."""
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = value


def drop(content, place):
    """Remove a value from nested JSON, if it is there."""
    for key in place[:-1]:
        content = content[key]
    if isinstance(content, list) or place[-1] in content:
        del content[place[-1]]


@MANY
@given(field=st.sampled_from(FIELDS), value=JSON, absent=st.booleans(), line=st.integers(0, N - 1))
def test_a_log_with_one_field_of_anything_is_refused_or_comes_in_right(logged, tokenizer, field, value, absent, line):
    found = logged(change=lambda row: drop(row, field) if absent else put(row, field, value), line=line)
    if found is None:
        return
    golds = {(task, i): item["gold"] for task in TASKS for i, item in enumerate(items_of(task))}
    assert len(found) == len(golds)
    for row in found.to_dict("records"):
        said = re.findall(r"the answer is ([^.]*)\.", row["response"])
        assert row["gold"] == golds[row["task"], row["item"]]
        assert row["correct"] == (said[-1:] == [row["gold"]])
        assert row["length"] == len(tokenizer(row["response"], add_special_tokens=False)["input_ids"])


@MANY
@given(place=st.sampled_from(PLACES), value=JSON)
def test_results_with_one_field_of_anything_are_refused_or_do_no_harm(logged, place, value):
    results = copy.deepcopy(RESULTS)
    put(results, place, value)
    found = logged(results)
    assert found is None or found["correct"].tolist() == [1.0, 0.0, 0.0] * 2


@MANY
@given(column=st.sampled_from(RECORD_COLUMNS), value=JSON, row=st.integers(0, N * len(MATHS) - 1))
def test_records_with_one_value_of_anything_are_refused_or_come_in_right(maths, attempt, tmp_path, column, value, row):
    profile, make = maths
    right, path = make(), tmp_path / "TA.parquet"
    values = right[column].tolist()
    values[row] = value
    try:
        right.assign(**{column: pd.Series(values, dtype=object)}).to_parquet(path)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # a column of several types is no parquet
        return
    found = attempt([path], profile)
    if found is not None:  # a length may differ a little, and nothing here knows the golds
        kept = [name for name in right if name not in ("length", "setting", "gold", "model")]
        pd.testing.assert_frame_equal(found[kept], right[kept], check_dtype=False)
