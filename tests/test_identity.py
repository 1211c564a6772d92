"""The identity of a model folder covers every byte that decides what the model says."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from abacus import CHECKPOINTS
from acm import identity as module
from acm.errors import UserError
from acm.identity import MEMORY, identity, large_digest
from acm.paths import REPORTS

BIG = 1000  # bytes of what counts as a large file here


@pytest.fixture(autouse=True)
def small_world(monkeypatch, tmp_path):
    """Files above a kilobyte are large; the memory is empty; clocks are trusted at once."""
    monkeypatch.setattr(module, "WHOLE", BIG)
    monkeypatch.setattr(module, "SETTLED", -(10**18))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    MEMORY.clear()
    yield
    MEMORY.clear()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "additional_chat_templates").mkdir(parents=True)
    (folder / "model-1.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "model-2.safetensors").write_bytes(bytes(5000))
    for name in ("config.json", "tokenizer.json", "vocab.txt", "spiece.model", "chat_template.jinja", "cl.tiktoken"):
        (folder / name).write_text(name)
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    (folder / "README.md").write_text("words")
    return folder


@pytest.fixture
def hashed(monkeypatch):
    """Files that were read whole to be hashed."""
    found, real = [], hashlib.file_digest

    def file_digest(file, name):
        found.append(Path(file.name).name)
        return real(file, name)

    monkeypatch.setattr(module.hashlib, "file_digest", file_digest)
    return found


@pytest.mark.parametrize("name", ["abacus-fast", "abacus-slow"])
def test_of_small_models_it_is_what_committed_records_hold(monkeypatch, name):
    monkeypatch.undo()
    records = pd.read_parquet(REPORTS / "tiny" / "long-to-short" / "records.parquet", columns=["method", "setting"])
    setting = records.loc[records["method"] == name, "setting"].iloc[0]
    assert identity(CHECKPOINTS / name) == json.loads(setting)["model"]


def test_one_byte_anywhere_makes_another_model(folder):
    found = {identity(folder)}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "README.md"]
    for path in files:
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            found.add(identity(folder))
        path.write_bytes(content)
    assert len(found) == 1 + 3 * len(files)
    (folder / "README.md").write_text("other words")
    assert identity(folder) in found


def test_a_file_more_less_or_renamed_makes_another_model(folder):
    found = [identity(folder)]
    (folder / "cl.tiktoken").rename(folder / "cm.tiktoken")
    found.append(identity(folder))
    (folder / "cm.tiktoken").unlink()
    found.append(identity(folder))
    (folder / "generation_config.json").write_text("{}")
    assert len({*found, identity(folder)}) == 4


def test_what_is_no_file_does_not_count(folder):
    before = identity(folder)
    (folder / "old.json").mkdir()
    (folder / "gone.json").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.json")
    assert identity(folder) == before


def test_a_copy_and_links_to_it_are_the_same_model(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "links").mkdir()
    for path in copy.iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    assert identity(folder) == identity(copy) == identity(tmp_path / "links")


def test_a_large_file_is_hashed_once_and_remembered_across_processes(folder, hashed):
    first = identity(folder)
    assert sorted(hashed) == ["model-1.safetensors", "model-2.safetensors"]
    assert identity(folder) == first and len(hashed) == 2
    MEMORY.clear()  # as another process
    assert identity(folder) == first and len(hashed) == 2


@pytest.mark.parametrize("change", [
    lambda path, old: path.write_bytes(bytes(len(old))),
    lambda path, old: (path.write_bytes(bytes(len(old))), os.utime(path, ns=(path.stat().st_atime_ns,) * 2)),
    lambda path, old: (path.unlink(), path.write_bytes(bytes(len(old)))),
    lambda path, old: path.write_bytes(old[:-1] + b"x"),
])  # fmt: skip
def test_a_changed_file_is_hashed_anew_even_if_its_times_are_set_back(folder, hashed, change):
    path = folder / "model-1.safetensors"
    before, held, old = identity(folder), path.stat(), path.read_bytes()
    change(path, old)
    os.utime(path, ns=(held.st_atime_ns, held.st_mtime_ns))
    assert path.stat().st_mtime_ns == held.st_mtime_ns and path.stat().st_size == held.st_size
    assert identity(folder) != before


def test_a_file_that_has_just_changed_is_not_remembered(folder, hashed, monkeypatch):
    monkeypatch.setattr(module, "SETTLED", 60 * 10**9)
    assert identity(folder) == identity(folder) and len(hashed) == 4 and not MEMORY


def test_a_damaged_memory_is_not_believed(folder, hashed, tmp_path, caplog):
    first = identity(folder)
    files = sorted((tmp_path / "cache" / "acm" / "digests").iterdir())
    assert len(files) == 2
    rows = json.loads(files[0].read_text())
    files[0].write_text(json.dumps(["0" * 64, *rows[1:]]))
    files[1].write_bytes(b"")
    MEMORY.clear()
    assert identity(folder) == first and len(hashed) == 4 and "made anew" in caplog.text


def home_is_a_file(monkeypatch, tmp_path):
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def home_is_relative(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)


def no_home(monkeypatch, tmp_path):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)


@pytest.mark.parametrize("where", [home_is_a_file, home_is_relative, no_home])
def test_without_a_place_memory_alone_remembers(folder, hashed, monkeypatch, tmp_path, where):
    where(monkeypatch, tmp_path)
    assert identity(folder) == identity(folder) and len(hashed) == 2 and not (tmp_path / "here").exists()


def test_a_file_that_changes_while_it_is_read_is_named(folder, monkeypatch):
    real = hashlib.file_digest

    def file_digest(file, name):
        with Path(file.name).open("ab") as more:
            more.write(b"more")
        return real(file, name)

    monkeypatch.setattr(module.hashlib, "file_digest", file_digest)
    with pytest.raises(UserError, match=r"model-\d.safetensors changed while it was read"):
        identity(folder)


def test_a_file_that_cannot_be_read_is_named(folder, monkeypatch):
    def fails(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(UserError, match=r"model-1.safetensors cannot be read: you lack the permission"):
        identity(folder)


def test_the_hash_of_a_large_file_is_that_of_the_hub(folder):
    path = folder / "model-1.safetensors"
    assert large_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
