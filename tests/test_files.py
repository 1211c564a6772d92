"""Files appear whole or not at all; what cannot be read is named."""

import errno
import json
import os
import socket

import pytest

from acm.errors import UserError
from acm.files import digest, whole, write_json, write_text
from acm.reading import read_json


def test_a_file_appears_at_the_end_of_its_block(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with whole(path) as part:
        part.write_text("all of it")
        assert not path.exists() and part.parent == path.parent
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "before")
    with pytest.raises(KeyboardInterrupt), whole(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back_as_it_was_written(tmp_path):
    content = {"λ": [0.1, 1e-9], "empty": {}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    write_json(tmp_path / "b.json", content, indent=None, sort_keys=True)
    assert (tmp_path / "b.json").read_text() == json.dumps(content, sort_keys=True) + "\n"


@pytest.mark.parametrize(
    "text, words", [("{", "not readable JSON"), ("[1]", "must hold a JSON object"), (None, "JSON")]
)
def test_what_is_no_json_object_is_named(tmp_path, text, words):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        read_json(path)
    assert str(path) in str(error.value)


def test_the_digest_follows_the_content(tmp_path):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(text)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


@pytest.mark.parametrize("name", [None, "part", "other"])
def test_a_refusal_of_the_system_names_the_file_that_was_to_be_written(tmp_path, name):
    """Not the part beside it; a file that was read keeps its name."""
    path = tmp_path / ("ü" * 100 + ".json")
    with pytest.raises(OSError, match="full") as error, whole(path) as part:
        raise OSError(errno.ENOSPC, "full", {"part": str(part), "other": "other"}.get(name))
    assert error.value.filename == ("other" if name == "other" else str(path))
    assert not list(tmp_path.iterdir())
    write_text(path, "x")  # its part has a shorter name
    assert path.read_text() == "x"


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
def test_what_is_no_ordinary_file_is_never_replaced(tmp_path, kind):
    path = tmp_path / "a"
    with socket.socket(socket.AF_UNIX) as held:
        {"pipe": os.mkfifo, "folder": os.mkdir, "socket": lambda p: held.bind(str(p))}[kind](path)
        before = path.lstat()
        with pytest.raises(UserError, match="is a folder or a device; name a file"):
            write_text(path, "new")
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    (link := tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "far" / "file").read_text() == "new"
