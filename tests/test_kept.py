"""Kept files are believed whole or not at all."""

import json
import os
import subprocess
import sys

import pytest

from acm.errors import UserError
from acm.kept import check_writable, read_kept, write_kept

KEY = {"model": "a1", "versions": {"torch": "2"}, "count": 1}
ROWS = [{"text": "4 2\ud800 ä", "length": 3, "share": 0.1}, {"text": "", "length": 0, "share": 1e300}]


def read(path, key=KEY):
    return read_kept(path, key, lambda rows: len(rows) == 2)


@pytest.fixture
def kept(tmp_path):
    write_kept(tmp_path / "new" / "kept.json", KEY, ROWS)
    return tmp_path / "new" / "kept.json"


def test_what_was_kept_comes_back_without_a_note(kept, caplog):
    assert read(kept) == ROWS and not caplog.text
    assert read(kept.with_name("other.json")) is None and not caplog.text
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_no_cut_and_no_flipped_bit_is_believed(kept, caplog):
    whole = kept.read_bytes()
    for end in range(len(whole) - 1):  # the last byte is a line break
        kept.write_bytes(whole[:end])
        assert read(kept) is None
    for place in range(len(whole) - 1):
        kept.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert read(kept) in (None, ROWS)  # a space between entries may become another, and "\\uD800" is "\\ud800"
    assert str(kept) in caplog.text and "made anew" in caplog.text


def edited(change):
    def edit(path):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content)))

    return edit


def sealed(change):
    return edited(lambda rows: [*rows[:-1], rows[-1] | change])


def unparsed(content):
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize("damage", [
    edited(lambda rows: rows[:-1]), edited(lambda rows: rows[1:]), edited(lambda rows: [rows[1], rows[0], rows[2]]),
    edited(lambda rows: [rows[0], *rows]), edited(lambda rows: {"0": rows}), edited(lambda rows: []),
    edited(lambda rows: [rows[0] | {"length": 3.0}, *rows[1:]]),
    edited(lambda rows: [rows[0] | {"more": 1}, *rows[1:]]), edited(lambda rows: None), edited(lambda rows: 3),
    sealed({"key": []}), sealed({"format": 2}), sealed({"more": 0}),
    unparsed(b"\xff\xfe["), unparsed(b"["), unparsed(b"[" * 100_000), unparsed(b"\0" * 4096), unparsed(b"[NaN]"),
    unparsed(b'[{"digest": 1e999}]'), unparsed(b'{"key": 1'),
])  # fmt: skip
def test_edited_content_is_made_anew_with_a_note(kept, caplog, damage):
    damage(kept)
    assert read(kept) is None and f"{kept} is damaged" in caplog.text
    write_kept(kept, KEY, ROWS)
    assert read(kept) == ROWS


@pytest.mark.parametrize(("change", "named"), [
    ({"model": "b2"}, "another model"), ({"versions": {"torch": "3"}}, "another versions"),
    ({"count": True}, "another count"), ({"more": 1}, "another more"),
    ({"count": 1.5, "model": None}, "another count, model"),
])  # fmt: skip
def test_another_key_is_named(kept, caplog, change, named):
    assert read(kept, KEY | change) is None and f"{kept} is of another run ({named})" in caplog.text


def test_a_folder_of_old_files_is_one_note(kept, caplog):
    for number in range(50):
        write_kept(kept.with_name(f"{number}.json"), KEY, ROWS)
    assert [read(kept.with_name(f"{number}.json"), KEY | {"model": "b"}) for number in range(50)] == [None] * 50
    assert caplog.text.count("another model") == 1 and "any other beside it" in caplog.text


def test_rows_of_another_form_are_not_believed(kept, caplog):
    assert read_kept(kept, KEY, lambda rows: False) is None and "is damaged" in caplog.text


@pytest.mark.parametrize("make", [
    lambda path: path.mkdir(), lambda path: path.symlink_to(path), lambda path: path.symlink_to(path.with_name("none")),
    os.mkfifo,
], ids=["folder", "loop", "dangling", "pipe"])  # fmt: skip
def test_what_is_no_file_is_not_read(kept, caplog, make):
    kept.unlink()
    make(kept)
    assert read(kept) is None and "is damaged" in caplog.text
    if kept.is_dir() or kept.is_fifo():
        with pytest.raises(UserError, match=r"kept\.json is a folder or a device; name a file"):
            write_kept(kept, KEY, ROWS)
    else:
        write_kept(kept, KEY, ROWS)
        assert read(kept) == ROWS


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    check_writable(tmp_path / "a" / "b")
    for place in (tmp_path / "file", tmp_path / "file" / "a", tmp_path / "loop" / "a"):
        with pytest.raises(UserError, match="is no folder; name another"):
            check_writable(place)
        with pytest.raises(UserError, match="cannot write"):
            write_kept(place / "kept.json", KEY, ROWS)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="may not be written; name another"):
        check_writable(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


WRITER = """
import pathlib, sys
from acm.kept import write_kept
for n in range(60):
    write_kept(pathlib.Path(sys.argv[1]), {"n": 1}, [sys.argv[2]])
"""


def test_two_processes_that_keep_the_same_file_leave_one_that_is_whole(kept):
    running = [subprocess.Popen([sys.executable, "-c", WRITER, kept, name * 99_999]) for name in "ab"]
    seen = set()
    while any(process.poll() is None for process in running):
        rows = read_kept(kept, {"n": 1}, bool)
        seen.add(rows[0][0] if rows else None)
    assert [process.wait() for process in running] == [0, 0] and read_kept(kept, {"n": 1}, bool)[0][0] in "ab"
    assert seen >= {"a", "b"} and [path.name for path in kept.parent.iterdir()] == [kept.name]
