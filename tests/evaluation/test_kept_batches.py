"""Kept batches: used where all that decides them is the same, else generated anew, with the same bytes."""

import json
import shutil

import pandas as pd
import pytest
from helpers import start
from helpers_evaluation import FAST, SLOW

from acm import evaluate
from acm.errors import UserError
from acm.evaluation import harness
from acm.evaluation.backends import RecordingLM
from acm.paths import ROOT

SETTING = {"items": 8, "max_tokens": 12, "batch_size": 4}
TASK = ["abacus_easy"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The records of two batches, and the folder where these are kept."""
    keep = tmp_path_factory.mktemp("kept") / "keep"
    return evaluate(FAST, TASK, keep=keep, **SETTING), keep


@pytest.fixture
def keep(undisturbed, tmp_path):
    return shutil.copytree(undisturbed[1], tmp_path / "keep")


@pytest.fixture
def generated(monkeypatch):
    """How many items each generated batch had."""
    found, real = [], RecordingLM.generate_batch

    def generate_batch(self, requests):
        found.append(len(requests))
        return real(self, requests)

    monkeypatch.setattr(RecordingLM, "generate_batch", generate_batch)
    return found


def files(keep):
    return sorted(path for path in keep.rglob("*") if path.is_file())


def rows(change):
    def edit(path, _):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content)))

    return edit


def of_another_model(path, keep):
    """The same requests, answered by another model."""
    evaluate(SLOW, TASK, keep=keep.parent / "other", **SETTING)
    (other,) = [found for found in files(keep.parent / "other") if found.name == path.name]
    assert other.read_bytes() != path.read_bytes()
    shutil.copy(other, path)


DAMAGES = {
    "a digit": lambda path, _: path.write_text(path.read_text().replace('"length": 1', '"length": 2', 1)),
    "the text": rows(lambda found: [found[0] | {"response": "4 2"}, *found[1:]]),
    "cut by one": rows(lambda found: [found[0] | {"truncated": not found[0]["truncated"]}, *found[1:]]),
    "swapped rows": rows(lambda found: [found[1], found[0], *found[2:]]),
    "a row less": rows(lambda found: found[1:]),
    "a row more": rows(lambda found: [found[0], *found]),
    "no seal": rows(lambda found: found[:-1]),
    "a mapping": rows(lambda found: {"rows": found}),
    "half": lambda path, _: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path, _: path.write_bytes(b""),
    "no Unicode": lambda path, _: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "another batch": lambda path, keep: shutil.copy(files(keep)[1], path),
    "another model": of_another_model,
    "gone": lambda path, _: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_batch_that_this_run_did_not_write_is_generated_anew(undisturbed, keep, generated, caplog, damage):
    path = files(keep)[0]
    DAMAGES[damage](path, keep)
    generated.clear()
    assert evaluate(FAST, TASK, keep=keep, **SETTING).equals(undisturbed[0]) and generated == [4]
    assert (str(path) in caplog.text) == (damage != "gone") and caplog.text.count("made anew") <= 1
    assert [path.read_bytes() for path in files(keep)] == [path.read_bytes() for path in files(undisturbed[1])]


@pytest.mark.parametrize(("where", "change", "named"), [
    ("source_hash", lambda room: "other code", "another source"),
    ("versions", lambda packages=(): {"torch": "1.0"}, "another versions"),
])  # fmt: skip
def test_other_code_and_other_versions_generate_anew(
    undisturbed, keep, generated, caplog, monkeypatch, where, change, named
):
    monkeypatch.setattr(harness, where, change)
    found = evaluate(FAST, TASK, keep=keep, **SETTING)
    assert found.drop(columns="setting").equals(undisturbed[0].drop(columns="setting")) and generated == [4, 4]
    assert caplog.text.count(f"is of another run ({named})") == 1


def changed_weight(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def added_template(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def other_end(folder):
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [1, 2]}))


@pytest.mark.parametrize("change", [changed_weight, added_template, other_end])
def test_a_model_that_differs_anywhere_shares_no_batch(keep, tmp_path, generated, change, monkeypatch):
    monkeypatch.setattr("acm.identity.WHOLE", 1000)  # bytes: its weights are a large file
    evaluate(FAST, TASK, keep=keep, **SETTING)
    generated.clear()
    folder = shutil.copytree(FAST, tmp_path / FAST.name)
    change(folder)
    evaluate(folder, TASK, keep=keep, **SETTING)
    assert generated == [4, 4] and len(files(keep)) == 6


def test_a_model_with_the_same_bytes_shares_them_whatever_it_is_called(undisturbed, keep, tmp_path, generated):
    folder = shutil.copytree(FAST, tmp_path / "renamed")
    found = evaluate(folder, TASK, keep=keep, labels={"method": "mine", "profile": "p"}, **SETTING)
    assert not generated and found["response"].equals(undisturbed[0]["response"]) and set(found["method"]) == {"mine"}


@pytest.mark.parametrize("make", [
    lambda keep: keep.write_text(""), lambda keep: keep.symlink_to(keep), lambda keep: keep.symlink_to("nowhere"),
])  # fmt: skip
def test_a_place_that_takes_no_files_is_named_before_any_model_is_loaded(tmp_path, monkeypatch, make):
    monkeypatch.setattr(RecordingLM, "__init__", lambda *_, **__: pytest.fail("a model was loaded"))
    make(tmp_path / "keep")
    for place in (tmp_path / "keep", tmp_path / "keep" / "inner"):
        with pytest.raises(UserError, match=r"nothing can be kept there, since .*keep is no folder"):
            evaluate(FAST, TASK, keep=place, **SETTING)


def test_a_folder_in_the_place_of_a_batch_is_named(keep):
    path = files(keep)[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"\.json is a folder or a device; name a file"):
        evaluate(FAST, TASK, keep=keep, **SETTING)


def test_two_evaluations_at_once_in_one_folder_both_end_right(undisturbed, tmp_path):
    """In two processes: transformers cannot load two models at once in the threads of one."""
    keep, records = tmp_path / "keep", tmp_path / "records"
    call = f"evaluate({str(FAST)!r}, {TASK}, keep={str(keep)!r}, **{SETTING}).to_pickle({str(records)!r})"
    code = f"from acm import evaluate; import acm.evaluation.harness; print('ready', flush=True); {call}"
    process = start("-c", code, cwd=ROOT)
    assert process.stdout.readline() == "ready\n"
    assert evaluate(FAST, TASK, keep=keep, **SETTING).equals(undisturbed[0])
    process.communicate()
    assert process.returncode == 0 and pd.read_pickle(records).equals(undisturbed[0])
    assert len(files(keep)) == 2
