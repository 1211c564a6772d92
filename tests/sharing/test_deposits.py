"""`acm fetch --records`: a deposit comes in whole, checked by its hash and against the profile, or not at all."""

import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from acm.__main__ import app
from acm.calibration.lockstep import COLUMNS
from acm.errors import UserError
from acm.paths import ROOT
from acm.reporting.results import Results
from acm.sharing import deposits
from acm.sharing.archives import pack
from acm.sharing.deposits import deposit, fetch_records
from acm.sharing.entry import sha256
from acm.sharing.submit import submit

LONG, FAST, SLOW, HALF = "long-to-short", "abacus-fast", "abacus-slow", "frontier-0.5"
ALL = [FAST, SLOW, "TA", "ACM-TA", HALF]


@pytest.fixture
def packed(profile, records, tmp_path):
    """The archive of a run, which is then gone."""
    run = profile.folder / LONG
    (run / "records").mkdir(parents=True)
    for method in ALL:
        records(method).to_parquet(run / "records" / f"{method}.parquet", index=False)
    pd.DataFrame([[SLOW, "0", 0, 9, "knn", "none", 1.0, 1.0, 1.0]], columns=COLUMNS).to_parquet(
        run / "mutual_information.parquet", index=False
    )
    (run / "coefficients.json").write_text(json.dumps({"coefficients": {SLOW: {"0": 0.5}}}))
    (run / "notes.txt").write_text("mine")
    deposit(profile, tmp_path / "mine.tar.gz")
    shutil.rmtree(profile.folder)
    return tmp_path / "mine.tar.gz"


@pytest.fixture
def stored(profile):
    return lambda: sorted(
        path.relative_to(profile.folder).as_posix() for path in profile.folder.rglob("*") if path.is_file()
    )


def test_what_was_packed_comes_in_and_results_read_it(profile, packed, stored, records):
    said = fetch_records(profile, packed.as_uri(), sha256(packed))
    assert stored() == sorted([
        f"{LONG}/coefficients.json", f"{LONG}/mutual_information.parquet",
        *(f"{LONG}/records/{m}.{end}" for m in ALL for end in ("parquet", "imported.json")),
    ])  # fmt: skip
    found = Results(profile, LONG).records
    columns = ["method", "task", "item", "response", "length", "correct"]
    assert set(map(tuple, found[columns].to_numpy())) == set(map(tuple, records(*ALL)[columns].to_numpy()))
    assert f"{LONG}: records of 5 models, 5 of them new." in said
    assert "acm notebook notebooks/5-tables.ipynb" in said and "-p profile=mine -p experiment=long-to-short" in said
    assert "0 of them new" in fetch_records(profile, packed.as_uri(), sha256(packed))


def test_the_same_run_gives_the_same_archive_and_its_line(profile, packed, tmp_path):
    fetch_records(profile, packed.as_uri(), sha256(packed))
    first, second = (deposit(profile, tmp_path / f"{name}.tar.gz") for name in ("one", "two"))
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    line = yaml.safe_load(first.splitlines()[-1])
    assert line == {"mine": {"doi": "DOI", "file": "one.tar.gz", "sha256": sha256(tmp_path / "one.tar.gz")}}
    assert "two.tar.gz" in second
    with pytest.raises(UserError, match=r"a deposit is a \.tar\.gz"):
        deposit(profile, tmp_path / "x.zip")


def test_questions_on_terms_are_not_published(profile, folder, tmp_path):
    setting = profile.experiment(LONG).model_copy(update={"tasks": ["abacus_easy", "acm_gpqa_diamond"]})
    gated = profile.model_copy(update={"experiments": {LONG: setting}})
    for call in (
        lambda: deposit(gated, tmp_path / "x.tar.gz"),
        lambda: submit(folder(), gated, LONG, "mine", tmp_path / "community"),
    ):
        with pytest.raises(UserError, match=r"acm_gpqa_diamond hold questions and answers of .*, whose terms forbid"):
            call()
    assert not (tmp_path / "x.tar.gz").exists() and not (tmp_path / "community").exists()


def test_without_a_deposit_a_sentence_says_so(profile, monkeypatch, tmp_path):
    for content in (None, "deposits: {}\n", "deposits: {other: {}}\n"):
        monkeypatch.setattr(deposits, "LIST", tmp_path / "deposits.yml")
        if content:
            (tmp_path / "deposits.yml").write_text(content)
        with pytest.raises(UserError, match="no deposit of the records of mine is listed in"):
            fetch_records(profile)


def test_the_committed_list_is_readable():
    listed = yaml.safe_load(deposits.LIST.read_text())["deposits"]
    assert all(deposits.Deposit.model_validate(found) for found in listed.values())


@pytest.mark.parametrize("listed, words", [
    ({"doi": "10.5281/zenodo.1"}, "sha256: is missing"),
    ({"sha256": "0" * 64}, "must name either a doi or a url"),
    ({"sha256": "0" * 64, "doi": "10.5281/zenodo.1", "url": "https://x.y"}, "must name either a doi or a url"),
    ({"sha256": "0" * 64, "url": "ftp://x.y/z"}, "url must begin with https://"),
    ({"sha256": "x", "url": "https://x.y"}, "sha256: must be a SHA-256"),
    ({"sha256": "0" * 64, "doi": "zenodo.1"}, "doi: must be a DOI"),
])  # fmt: skip
def test_the_list_is_checked(profile, monkeypatch, tmp_path, listed, words):
    monkeypatch.setattr(deposits, "LIST", tmp_path / "deposits.yml")
    (tmp_path / "deposits.yml").write_text(yaml.safe_dump({"deposits": {"mine": listed}}))
    with pytest.raises(UserError) as error:
        fetch_records(profile)
    assert words in str(error.value)


def repacked(packed, change):
    """The archive with other files; change: a function on the folder that it is unpacked into."""
    folder = packed.parent / "again"
    shutil.unpack_archive(packed, folder, "gztar", filter="data")
    change(folder)
    pack({p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}, packed)
    return packed


def graded(folder):
    path = folder / LONG / "records.parquet"
    pd.read_parquet(path).assign(correct=1.0).to_parquet(path, index=False)


@pytest.mark.parametrize("change, words", [
    (lambda f: (f / "manifest.json").unlink(), "has no manifest.json"),
    (lambda f: (f / "manifest.json").write_text(json.dumps({"profile_hash": "0" * 16})), "another content of profile"),
    (lambda f: (f / LONG / "records.parquet").unlink(), "holds no records of long-to-short"),
    (lambda f: (f / LONG / "run.py").touch(), "holds long-to-short/run.py, which is no part of a deposit"),
    (lambda f: (f / LONG / "mutual_information.parquet").write_bytes(b"x"), "is not a readable parquet file"),
    (lambda f: shutil.copy(f / LONG / "records.parquet", f / LONG / "mutual_information.parquet"), "is no MI table"),
    (lambda f: (f / LONG / "coefficients.json").write_text("{}"), "has no `coefficients` that maps models"),
    (lambda f: (f / LONG / "coefficients.json").write_text('{"coefficients": {"evil": {"0": 1}}}'), "is of evil"),
    (graded, "state other than their own text says: correct"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_stored(profile, packed, stored, change, words):
    archive = repacked(packed, change)
    with pytest.raises(UserError) as error:
        fetch_records(profile, archive.as_uri(), sha256(archive))
    assert words in str(error.value) and stored() == []


def test_another_file_and_no_file_are_refused(profile, packed, stored, tmp_path):
    with pytest.raises(UserError, match="is another file, or broke off: its SHA-256 is"):
        fetch_records(profile, packed.as_uri(), "0" * 64)
    with pytest.raises(UserError, match="cannot be fetched"):
        fetch_records(profile, (tmp_path / "absent.tar.gz").as_uri(), "0" * 64)
    with pytest.raises(UserError, match="--url needs --sha256"):
        fetch_records(profile, packed.as_uri())
    assert stored() == []


@pytest.mark.parametrize("name", ["mutual_information.parquet", "records/TA.parquet"])
def test_ones_own_run_stays(profile, packed, stored, records, name):
    mine = profile.folder / LONG / name
    mine.parent.mkdir(parents=True)
    records("TA", response="the answer is none.", correct=0.0).to_parquet(mine, index=False)
    with pytest.raises(UserError, match=r"is another file than the deposit's|holds other records of this method"):
        fetch_records(profile, packed.as_uri(), sha256(packed))
    assert stored() == [f"{LONG}/{name}"]


def test_a_deposit_of_two_experiments_comes_in_whole_or_not_at_all(profile, packed, stored, records):
    """The second experiment's store holds a method that was asked other questions: the first stays out too."""
    second = profile.model_copy(update={"experiments": {LONG: profile.experiment(LONG), "b": profile.experiment(LONG)}})

    def doubled(folder):
        shutil.copytree(folder / LONG, folder / "b")
        frame = pd.read_parquet(folder / "b" / "records.parquet").assign(experiment="b")
        frame.to_parquet(folder / "b" / "records.parquet", index=False)
        (folder / "manifest.json").write_text("{}")

    archive = repacked(packed, doubled)
    other = profile.folder / "b" / "records" / "Other.parquet"
    other.parent.mkdir(parents=True)
    records("TA", method="Other", gold="other").to_parquet(other, index=False)
    with pytest.raises(UserError, match="have another reference answer"):
        fetch_records(second, archive.as_uri(), sha256(archive))
    assert stored() == ["b/records/Other.parquet"]


@pytest.fixture
def zenodo(packed, monkeypatch):
    """A stand-in for doi.org and Zenodo on this machine; returns its files by name, and the paths that were asked."""
    files, asked = {"mine.tar.gz": packed.read_bytes(), "paper.pdf": b"%PDF"}, []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            here = f"http://127.0.0.1:{self.server.server_port}"
            if self.path == "/10.5281/zenodo.77":
                self.send_response(302)
                self.send_header("Location", f"{here}/records/77")
                return self.end_headers()
            name = self.path.removeprefix("/api/records/77/files/").removesuffix("/content")
            listing = [{"key": key, "links": {"self": f"{here}/api/records/77/files/{key}/content"}} for key in files]
            pages = {"/records/77": b"<html>", "/api/records/77": json.dumps({"files": listing}).encode(),
                     "/10.1234/elsewhere": b"<html>"}  # fmt: skip
            content = pages.get(self.path, files.get(name))
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(deposits, "RESOLVER", here := f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(deposits, "RECORDS_API", f"{here}/api/records")
    yield files, asked
    server.shutdown()
    server.server_close()


def test_a_doi_leads_to_the_archive(profile, zenodo, stored):
    files, asked = zenodo
    digest = hashlib.sha256(files["mine.tar.gz"]).hexdigest()
    assert "5 of them new" in fetch_records(profile, "10.5281/zenodo.77", digest)
    assert asked == [
        "/10.5281/zenodo.77",
        "/records/77",
        "/api/records/77",
        "/api/records/77/files/mine.tar.gz/content",
    ]
    assert len(stored()) == 12


def test_dois_that_lead_to_no_archive_are_told(profile, zenodo, stored):
    files, _ = zenodo
    for doi, words in (
        ("10.1234/elsewhere", "leads to .*, no record of Zenodo"),
        ("10.5281/zenodo.78", r"cannot be fetched \(404\)"),
    ):
        with pytest.raises(UserError, match=words):
            fetch_records(profile, doi, "0" * 64)
    files |= {"a.zip": b"", "b.zip": b""}
    del files["mine.tar.gz"]
    with pytest.raises(UserError, match=re.escape("has the archives a.zip, b.zip; name the one of mine by `file`")):
        fetch_records(profile, "10.5281/zenodo.77", "0" * 64)
    assert stored() == []


def test_a_file_that_is_too_large_is_not_fetched_to_its_end(profile, packed, stored, monkeypatch):
    monkeypatch.setattr(deposits, "MOST", 100)
    with pytest.raises(UserError, match="is larger than"):
        fetch_records(profile, packed.as_uri(), sha256(packed))
    assert stored() == []


def test_the_command_line_and_make(profile, packed, tmp_path):
    dial = str(tmp_path / "mine.yaml")
    done = CliRunner().invoke(
        app, ["fetch", "--records", "--profile", dial, "--url", packed.as_uri(), "--sha256", sha256(packed)]
    )
    assert done.exit_code == 0 and "5 of them new" in done.output, done.output
    odd = CliRunner().invoke(app, ["fetch", "--profile", dial, "--url", "https://x.y"])
    assert "add --records" in str(odd.exception)
    done = CliRunner().invoke(app, ["deposit", str(tmp_path / "again.tar.gz"), "--profile", dial])
    assert done.exit_code == 0 and "sha256: " in done.output
    rule = (ROOT / "Makefile").read_text().split("\nrecords:")[1].split("\n\n")[0]
    assert 'fetch --records --profile "$(PROFILE)"' in rule and "$(URL)" in rule and "$(SHA256)" in rule
