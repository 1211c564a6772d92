"""A merge on a disk that is full, small, or cannot be written: it says what to do, and loses nothing that is done."""

import errno
import itertools
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import contents, halfway, names, recipe, stop_before_publishing

import acm
from acm.errors import UserError

DARE = {"weight": 0.7, "density": 0.6}

pytestmark = pytest.mark.usefixtures("alarm")


def failing(function, after, number):
    """The function, which raises an OSError from some call on."""
    calls = itertools.count()

    def call(*given, **named):
        if next(calls) >= after:
            raise OSError(number, os.strerror(number))
        return function(*given, **named)

    return call


@pytest.mark.parametrize("where, name, after", [
    (os, "posix_fallocate", 0), (os, "posix_fallocate", 2), (os, "pwrite", 0), (os, "pwrite", 3), (os, "pwrite", 12),
    (os, "pwrite", 25), (os, "write", 0), (os, "write", 5), (os, "fsync", 0), (os, "fsync", 3), (Path, "write_text", 0),
    (Path, "write_text", 2), (shutil, "copyfile", 1),
])  # fmt: skip
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do(make_model, f32, tmp_path, kept, where, name, after, number):
    base = make_model(tmp_path / "base", shard="20KB")
    content = recipe("ties", base, f32[1], parameters=DARE)
    whole = contents(acm.merge(content, tmp_path / "whole"))
    message = r"no space left while writing .*out.*it continues"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=message):
        patch.setattr(where, name, failing(getattr(where, name), after, number))
        acm.merge(content, tmp_path / "out", threads=1)
    assert names(tmp_path) == [".out.part", "base", "whole"]
    assert contents(acm.merge(content, tmp_path / "out")) == whole and names(tmp_path) == ["base", "out", "whole"]
    assert name != "pwrite" or after < 12 or kept()


def test_a_disk_that_is_still_full_loses_no_finished_tensor(f32, tmp_path, monkeypatch, kept):
    content = halfway(*f32)
    stop_before_publishing(content, tmp_path / "out")
    with monkeypatch.context() as patch, pytest.raises(UserError, match="it continues"):
        patch.setattr(Path, "write_bytes", failing(Path.write_bytes, 0, errno.ENOSPC))
        acm.merge(content, tmp_path / "out")
    kept()
    acm.merge(content, tmp_path / "out")
    assert kept() == 27


def test_a_disk_that_is_really_full(large, tmp_path, monkeypatch, disk):
    content = halfway(*large[:2])
    whole = contents(acm.merge(content, tmp_path / "whole"))
    folder = disk("size=2m")
    with pytest.raises(UserError, match="no space left for the result at"):
        acm.merge(content, folder / "out")
    assert names(folder) == []
    with monkeypatch.context() as patch, pytest.raises(UserError, match="no space left while writing"):
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
        acm.merge(content, folder / "out")
    assert names(folder) == [".out.part"]
    disk("size=16m")
    assert contents(acm.merge(content, folder / "out")) == whole and names(folder) == ["out"]


def test_a_merge_continues_on_a_disk_with_room_for_one(large, tmp_path, disk):
    folder, content = disk("size=5m"), halfway(*large[:2])
    stop_before_publishing(content, folder / "out")
    acm.merge(content, folder / "out")
    assert names(folder) == ["out"]


def test_a_disk_that_is_read_only(f32, disk):
    folder = disk("size=2m")
    disk("ro")
    for out in (folder / "out", folder / "new/out"):
        with pytest.raises(UserError, match=f"cannot write beside {out} .*name an output folder where you may write"):
            acm.merge(halfway(*f32), out)
    assert names(folder) == []


def test_an_output_where_nothing_can_be_written(f32, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    content = halfway(*f32)
    beside, made = "cannot write beside", "cannot be made"
    for out, why in (("file/out", beside), ("file/new/out", beside), ("x" * 250, made)):
        with pytest.raises(UserError, match=why):
            acm.merge(content, tmp_path / out)
    monkeypatch.setattr(Path, "mkdir", failing(Path.mkdir, 0, errno.EACCES))
    with pytest.raises(UserError, match=r"cannot write beside .*you lack the permission"):
        acm.merge(content, tmp_path / "out")
    assert contents(tmp_path) == {"file": b"mine"} and names(tmp_path) == ["file"]
