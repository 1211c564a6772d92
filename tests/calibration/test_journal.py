"""Interrupted calibrations: the next run continues with the next layer and gives the same table."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers_calibration import LAYERS, TEXTS, Killed, assert_same
from safetensors import SafetensorError

import acm
import acm.calibration.journal
from acm.calibration.lockstep import Walk
from acm.errors import UserError


@pytest.fixture
def ran(monkeypatch):
    """The layers that were walked through."""
    found, real = [], Walk.layer_rows

    def layer_rows(self, layer, *rest):
        found.append(layer)
        return real(self, layer, *rest)

    monkeypatch.setattr(Walk, "layer_rows", layer_rows)
    return found


FEW = {"texts": TEXTS[:2], "controls": ("none", "shuffled", "unrelated"), "estimators": ("plug-in", "miller-madow")}


def small_run(f32, **more):
    return acm.calibrate(f32[0], {"left": f32[1]}, **FEW | more)


@pytest.fixture(scope="module")
def small(f32):
    return small_run(f32)


def interrupted(f32, keep, layer, where, **more):
    """A run that dies at a layer: before it is noted, or between its states and its rows, or after."""

    def die(*_, **__):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        real_add, real_parquet = acm.calibration.journal.Journal.add, pd.DataFrame.to_parquet

        def add(self, name, *rest):
            if name == layer and where == "before":
                die()
            patch.setattr(pd.DataFrame, "to_parquet", die if name == layer and where == "within" else real_parquet)
            real_add(self, name, *rest)
            if name == layer and where == "after":
                die()

        patch.setattr(acm.calibration.journal.Journal, "add", add)
        with pytest.raises(Killed):
            small_run(f32, keep=keep, **more)


@pytest.fixture(scope="module")
def broken_off(f32, tmp_path_factory):
    keep = tmp_path_factory.mktemp("broken") / "keep"
    interrupted(f32, keep, "1", "after")
    return keep


@pytest.fixture
def keep(broken_off, tmp_path):
    """What a run that died after layer 1 has left."""
    return shutil.copytree(broken_off, tmp_path / "keep")


@pytest.mark.parametrize("where", ["before", "within", "after"])
@pytest.mark.parametrize("layer", LAYERS)
def test_an_interrupted_run_goes_on_with_the_next_layer(f32, small, tmp_path, ran, layer, where):
    keep = tmp_path / "keep"
    interrupted(f32, keep, layer, where)
    ran.clear()
    assert_same(small_run(f32, keep=str(keep)), small)
    assert ran == LAYERS[LAYERS.index(layer) + (where == "after") :]
    assert not keep.exists()


def leftovers(keep):
    return sorted(path for path in keep.rglob("*") if path.is_file())


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 64
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize(
    "name", ["000-embed.parquet", "001-0.parquet", "002-1.parquet", "002-1.safetensors", "002-1.json"]
)
def test_damaged_leftovers_are_not_believed(f32, small, keep, damage, name):
    (path,) = [path for path in leftovers(keep) if path.name == name]
    damage(path)
    assert_same(small_run(f32, keep=keep), small)
    assert not keep.exists()


def test_a_run_that_is_interrupted_again_and_again_ends_the_same(f32, small, tmp_path):
    keep = tmp_path / "keep"
    for layer in ("0", "0", "norm", "lm_head"):
        interrupted(f32, keep, layer, "before")
    assert len([path for path in leftovers(keep) if path.suffix == ".safetensors"]) == 1
    assert_same(small_run(f32, keep=keep), small)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 3},
        {"controls": ("none", "shuffled")},
        {"estimators": ("plug-in",)},
        {"dtype": "bfloat16"},
        {"max_tokens": 5},
        {"texts": TEXTS[1:]},
    ],
)
def test_changed_settings_start_anew(f32, keep, ran, change):
    kept = leftovers(keep)
    assert_same(small_run(f32, keep=keep, **change), small_run(f32, **change))
    assert ran == LAYERS * 2 and leftovers(keep) == kept


def test_a_changed_model_starts_anew(f32, make_model, tmp_path, ran):
    own = [f32[0], make_model(tmp_path / "left", 1, f32[0])]
    interrupted(own, tmp_path / "keep", "1", "after")
    make_model(tmp_path / "left", 7, f32[0])
    ran.clear()
    found = small_run(own, keep=tmp_path / "keep")
    assert ran == LAYERS
    assert_same(found, small_run(own))


def test_what_else_lies_in_the_folder_stays(f32, keep):
    (keep / "mine.txt").write_text("not yours")
    small_run(f32, keep=keep)
    assert [path.name for path in leftovers(keep)] == ["mine.txt"]


def test_a_failing_run_leaves_no_folder_before_it_has_something_to_keep(f32, tmp_path):
    with pytest.raises(UserError):
        acm.calibrate(f32[0], {"left": f32[1]}, TEXTS, dtype="float33", keep=tmp_path / "keep")
    assert not (tmp_path / "keep").exists()


def foreign(path, f32, make_model):
    """The layer of another model's run, under the name of this run's."""
    own = [f32[0], make_model(path.parents[2] / "left", 9, f32[0])]
    interrupted(own, path.parents[2] / "foreign", "1", "after")
    for found in leftovers(path.parents[2] / "foreign"):
        if found.name.startswith(path.name[:4]):
            shutil.copy(found, path.with_name(found.name))


def edited(change):
    def edit(path, *_):
        rows = json.loads(path.read_text())
        path.write_text(json.dumps(change(rows)))

    return edit


@pytest.mark.parametrize("damage", [
    foreign, edited(lambda rows: rows[:-1]), edited(lambda rows: [*rows[1:]]), edited(lambda rows: {"rows": rows}),
    edited(lambda rows: [[rows[0][0], "0" * 32], *rows[1:]]), edited(lambda rows: 3),
])  # fmt: skip
def test_notes_that_this_run_did_not_write_are_not_believed(f32, small, keep, make_model, ran, caplog, damage):
    (path,) = [path for path in leftovers(keep) if path.name == "001-0.json"]
    damage(path, f32, make_model)
    ran.clear()
    assert_same(small_run(f32, keep=keep), small)
    assert ran == LAYERS and f"{path} is " in caplog.text and "made anew" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
@pytest.mark.parametrize("where", ["save_file", "to_parquet", "write_text"])
def test_a_full_disk_is_one_sentence_and_loses_no_finished_layer(f32, small, keep, ran, monkeypatch, where, number):
    def fails(*_, **__):
        raise (
            SafetensorError(f"I/O error: full (os error {number})")
            if where == "save_file"
            else OSError(number, os.strerror(number))
        )

    place = {"save_file": acm.calibration.journal, "to_parquet": pd.DataFrame, "write_text": Path}[where]
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"cannot write .*the same command continues"):
        patch.setattr(place, where, fails)
        small_run(f32, keep=keep)
    ran.clear()
    assert_same(small_run(f32, keep=keep), small)
    assert ran == LAYERS[LAYERS.index("1") + 1 :]


def test_a_folder_that_is_none_is_named(f32, tmp_path, ran):
    (tmp_path / "keep").write_text("")
    with pytest.raises(UserError, match="keep is no folder"):
        small_run(f32, keep=tmp_path / "keep")
    assert not ran


KILL = """
import os, signal, sys
import acm.calibration.journal
from acm.calibration.walk import calibrate
real = acm.calibration.journal.Journal.add
def add(self, layer, *rest):
    if layer == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, layer, *rest)
acm.calibration.journal.Journal.add = add
base, left, keep, *texts = sys.argv[1:]
measures = {"controls": ("none", "shuffled", "unrelated"), "estimators": ("plug-in", "miller-madow")}
calibrate(base, {"left": left}, texts, keep=keep, **measures)
"""


def test_a_killed_process_leaves_what_the_next_one_continues_from(f32, small, tmp_path, ran):
    command = [sys.executable, "-c", KILL, *f32[:2], tmp_path / "keep", *FEW["texts"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert_same(small_run(f32, keep=tmp_path / "keep"), small)
    assert ran == LAYERS[2:] and not (tmp_path / "keep").exists()
