"""Calibration texts: how they are read and chosen, and what is refused."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_calibration import TEXTS

import acm
from acm.calibration.coefficients import write_coefficients
from acm.calibration.texts import read_texts, select_texts
from acm.errors import UserError

THEMES = ["apples pears figs", "books pages ink", "coins notes bank", "eggs hens straw", "kites wind string"]


def themed_texts():
    rng = np.random.default_rng(0)
    return [
        f"{i} {' '.join(rng.permutation(THEMES[i % 5].split()))} {' '.join(THEMES[i % 5].split())}" for i in range(100)
    ]


def test_select_texts_takes_as_many_of_each_cluster_in_the_order_of_the_input():
    texts = themed_texts()
    chosen = select_texts(texts, clusters=5, per_cluster=3)
    places = [texts.index(text) for text in chosen]
    assert places == sorted(places) and len(set(places)) == 15
    assert sorted(place % 5 for place in places) == sorted([*range(5)] * 3)


def test_select_texts_is_seeded():
    texts = themed_texts()
    assert select_texts(texts, 5, 3, seed=1) == select_texts(texts, 5, 3, seed=1) != select_texts(texts, 5, 3, seed=2)


def test_select_texts_keeps_a_small_set_whole():
    assert select_texts(TEXTS, clusters=2, per_cluster=2) == TEXTS


@pytest.mark.parametrize(
    "module, words", [(None, "needs the package sentence-transformers"), ("broken", "cannot be loaded")]
)
def test_an_encoder_that_cannot_be_had_is_refused(monkeypatch, module, words):
    class Broken:
        @staticmethod
        def SentenceTransformer(name, **_):
            raise OSError("no network")

    monkeypatch.setitem(sys.modules, "sentence_transformers", module and Broken)
    with pytest.raises(UserError, match=f"encoder some/encoder {words}"):
        select_texts(themed_texts(), 5, 3, encoder="some/encoder")


def test_read_texts_takes_the_field_or_the_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"question": t, "n": 1}) + "\n\n" for t in TEXTS))
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n")
    assert read_texts(tmp_path / "a.jsonl") == read_texts(tmp_path / "a.txt") == TEXTS
    for name in ("a.json", "a.ndjson", "A.JSONL"):
        shutil.copy(tmp_path / "a.jsonl", tmp_path / name)
        assert read_texts(tmp_path / name) == TEXTS


@pytest.mark.parametrize("name, content", [
    ("a.csv", "question\nwhy\n"),
    ("a.tsv", "question\tgold\nwhy\t1\n"),
    ("a.txt", '{"question": "why"}\n'),
    ("a", '\n [{"question": "why"}]'),
])  # fmt: skip
def test_tables_and_json_are_not_taken_for_lines_of_text(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name} holds a table or JSON, .* named \*\.jsonl"):
        read_texts(tmp_path / name)


def test_read_texts_joins_fields_and_lists(tmp_path):
    row = {"question": "why", "trace": ["one", "two"], "answer": "so"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    for field in ("question+trace+answer", "question + trace + answer"):
        assert read_texts(tmp_path / "a.jsonl", field) == ["why one two so"]
    assert read_texts(tmp_path / "a.jsonl", "trace") == ["one two"]
    for field, named in (("question+proof", "proof"), ("", "")):
        with pytest.raises(UserError, match=f"no field '{named}' that is text; it has question, trace, answer"):
            read_texts(tmp_path / "a.jsonl", field)


def test_read_texts_splits_at_line_feeds_alone(tmp_path):
    texts = ["one\u2028line", "other\x85line"]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"question": t}, ensure_ascii=False) + "\r\n" for t in texts), encoding="utf-8-sig"
    )
    assert read_texts(tmp_path / "a.jsonl") == texts


def test_files_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00caf\xe9")
    with pytest.raises(UserError, match=r"a\.txt is not readable as UTF-8"):
        read_texts(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["simplescaling/s1K", "simplescaling/s1K-1.1"])
def test_a_dataset_of_the_hub_is_read_or_refused(monkeypatch, name):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: [{"question": "why", "cot": ["a"]}])
    assert read_texts(name) == ["why"]

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", offline)
    with pytest.raises(UserError, match=rf"{name}: no such file here, and the hub gives no dataset .*ConnectionError"):
        read_texts(name)
    with pytest.raises(
        UserError, match=rf"{name}: .* no dataset of that name at revision {'a' * 40} \(ConnectionError\)"
    ):
        read_texts(f"{name}@{'a' * 40}")


def test_a_commit_after_the_name_is_the_one_that_the_hub_is_asked_for(monkeypatch):
    monkeypatch.setattr(
        "datasets.load_dataset", lambda name, split, revision: [{"question": f"{name} {split} {revision}"}]
    )
    assert read_texts("simplescaling/s1K") == ["simplescaling/s1K train None"]
    assert read_texts("simplescaling/s1K-1.1@" + "a" * 40) == ["simplescaling/s1K-1.1 train " + "a" * 40]


def test_the_table_keeps_the_hash_of_its_texts_through_parquet_and_into_the_coefficients(f32, tmp_path):
    def stored(texts):
        acm.calibrate(f32[0], {"left": f32[1]}, texts, controls=("none",)).to_parquet(
            tmp_path / "mi.parquet", index=False
        )
        content = write_coefficients(
            tmp_path / "coefficients.json", pd.read_parquet(tmp_path / "mi.parquet"), {"texts": "some.jsonl"}
        )
        assert content["provenance"]["texts"] == "some.jsonl"
        return content["provenance"]["texts_sha256"]

    changed = [*TEXTS[:-1], TEXTS[-1].replace("5", "6")]
    assert stored(TEXTS) == hashlib.sha256(json.dumps(TEXTS).encode()).hexdigest()
    assert len({stored(TEXTS), stored(TEXTS[::-1]), stored(changed)}) == 3 and stored(list(TEXTS)) == stored(TEXTS)


@pytest.mark.parametrize("name", ["texts/absent.jsonl", "absent.txt", "a/b/c"])
def test_missing_file_is_refused(monkeypatch, name):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match=f"{name} does not exist; mend --texts, or `calibration.texts`"):
        read_texts(name)


@pytest.mark.parametrize("above, line", [("", 2), ("\n\n", 4)])
def test_missing_field_is_refused_with_line_and_known_fields(tmp_path, above, line):
    (tmp_path / "a.jsonl").write_text('{"question": "a", "gold": "1"}\n' + above + '{"prompt": "b", "gold": "2"}\n')
    with pytest.raises(
        UserError, match=rf"a\.jsonl, line {line}: no field 'question' that is text; it has prompt, gold"
    ):
        read_texts(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "line", ['{"question": "a"', '"question"', "7", '{"question": null}', '{"question": ["a", 7]}', "[" * 100_000]
)
def test_malformed_jsonl_is_refused_with_its_file(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"a\.jsonl"):
        read_texts(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "content, message",
    [("\n", "holds no calibration text"), ('{"question": "a"}\n{"question": " "}\n', "text 2 is empty")],
)
def test_empty_files_and_texts_are_refused(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match=rf"a\.jsonl.*{message}"):
        read_texts(tmp_path / "a.jsonl")


@pytest.mark.skipif(
    "ACM_DATA" not in os.environ, reason="ACM_DATA names no folder with the real calibration questions (s1K)"
)
def test_the_papers_calibration_set_is_drawn_from_s1k():
    texts = read_texts(Path(os.environ["ACM_DATA"]) / "calibration" / "s1k_questions.jsonl")
    chosen = select_texts(texts)
    assert len(texts) == 1000 and len(set(chosen)) == 100 and set(chosen) <= set(texts)
