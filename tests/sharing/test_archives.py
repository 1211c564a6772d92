"""Archives: the same files give the same bytes, and nothing but expected regular files comes out of one."""

import io
import os
import stat
import tarfile
import zipfile

import pytest

from acm.errors import UserError
from acm.sharing.archives import pack, unpack

EXPECTED = r"a/[a-z]+\.txt"


def tarred(path, *entries):
    """A .tar.gz of entries: name, content or None, and further fields of the header."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content, fields in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content or b"")
            for key, value in fields.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(content or b""))
    return path


def test_what_is_packed_comes_out_and_depends_on_content_and_names_alone(tmp_path):
    for name, text in (("x", "one"), ("y", "two" * 10**6)):
        (tmp_path / name).write_text(text)
    files = {"a/one.txt": tmp_path / "x", "a/two.txt": tmp_path / "y"}
    pack(files, tmp_path / "first.tar.gz")
    os.utime(tmp_path / "x", (0, 0))
    (tmp_path / "x").chmod(0o600)
    pack(dict(reversed(files.items())), tmp_path / "second.tar.gz")
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tar.gz").read_bytes()
    assert unpack(tmp_path / "first.tar.gz", EXPECTED, tmp_path / "out") == ["a/one.txt", "a/two.txt"]
    assert (tmp_path / "out/a/two.txt").read_text() == "two" * 10**6


def test_a_zip_is_taken_too(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.mkdir("a")
        packed.writestr("a/one.txt", "one")
    assert unpack(tmp_path / "a.zip", EXPECTED, tmp_path / "out") == ["a/one.txt"]
    assert (tmp_path / "out/a/one.txt").read_text() == "one"


@pytest.mark.parametrize("name, fields, words", [
    ("../one.txt", {}, "holds ../one.txt, which is no part"),
    ("a/../../one.txt", {}, "no part of a deposit"),
    ("/a/one.txt", {}, "no part of a deposit"),
    ("a/one.exe", {}, "no part of a deposit"),
    ("a/one.txt\n", {}, "no part of a deposit"),
    ("a/one.txt", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link or a device"),
    ("a/one.txt", {"type": tarfile.LNKTYPE, "linkname": "../x"}, "is a link or a device"),
    ("a/one.txt", {"type": tarfile.FIFOTYPE}, "is a link or a device"),
    ("a/one.txt", {"type": tarfile.CHRTYPE}, "is a link or a device"),
])  # fmt: skip
def test_nothing_else_comes_out_of_a_tar(tmp_path, name, fields, words):
    path = tarred(tmp_path / "x.tar.gz", (name, None if fields else b"x", fields))
    with pytest.raises(UserError) as error:
        unpack(path, EXPECTED, tmp_path / "out")
    assert words in str(error.value)
    assert not (tmp_path / "one.txt").exists() and not list(tmp_path.glob("out/**/*.txt"))


def test_nothing_else_comes_out_of_a_zip(tmp_path):
    for name, mode in (("../one.txt", stat.S_IFREG), ("a/one.txt", stat.S_IFLNK)):
        info = zipfile.ZipInfo(name)
        info.external_attr = (mode | 0o644) << 16
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
            packed.writestr(info, "/etc/passwd")
        with pytest.raises(UserError, match=r"no part of a deposit|is a link or a device"):
            unpack(tmp_path / "x.zip", EXPECTED, tmp_path / "out")
    assert not (tmp_path / "one.txt").exists()


def test_sizes_are_bounded_before_anything_is_written(tmp_path):
    path = tarred(tmp_path / "x.tar.gz", ("a/one.txt", bytes(2 << 20), {}))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(UserError, match="unpacks to more than 1 MiB"):
        unpack(path, EXPECTED, tmp_path / "out", most=1 << 20)
    assert not (tmp_path / "out").exists()
    twice = tarred(tmp_path / "y.tar.gz", *[("a/one.txt", b"x", {})] * 2)
    with pytest.raises(UserError, match="or holds it twice"):
        unpack(twice, EXPECTED, tmp_path / "twice")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04", None])
def test_damaged_archives_are_told(tmp_path, content):
    path = tarred(tmp_path / "x.tar.gz", ("a/one.txt", os.urandom(1 << 16), {}))
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(UserError, match=r"is no readable \.tar\.gz or \.zip|has another size"):
        unpack(path, EXPECTED, tmp_path / "out")


def test_every_member_counts_and_a_large_header_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("acm.sharing.archives.MEMBERS", 3)
    folders = tarred(tmp_path / "x.tar.gz", *[("a", None, {"type": tarfile.DIRTYPE})] * 4)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name in "abcd":
            packed.mkdir(name)
    for path in (folders, tmp_path / "x.zip"):
        with pytest.raises(UserError, match="holds more than 3 members"):
            unpack(path, EXPECTED, tmp_path / "out")
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        path = tarred(tmp_path / "y.tar.gz", ("x", b"0" * (1 << 20), {"type": kind}), ("a/one.txt", b"1", {}))
        with pytest.raises(UserError, match=r"is no readable \.tar\.gz or \.zip \(ReadError\)"):
            unpack(path, EXPECTED, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_told_however_it_is_packed(tmp_path, method):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.writestr("a/one.txt", os.urandom(5000))
    content = bytearray(path.read_bytes())
    start = content.index(b"a/one.txt") + 9 + 6
    content[start : start + 40] = bytes(255 - value for value in content[start : start + 40])
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is no readable \.tar\.gz or \.zip"):
        unpack(path, EXPECTED, tmp_path / "out")
