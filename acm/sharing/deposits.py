"""Fetches the records of a profile from a deposit, so that tables and figures redraw without a GPU, and packs one.

A deposit is an archive with, for each experiment, ``records.parquet``, ``mutual_information.parquet`` and the
coefficients, and a ``manifest.json`` that names the profile. ``reports/deposits.yml`` lists the deposits. It gives the
hash of each, so it does not matter who hands the archive over. Records come in as by `acm import`: checked against the
profile, and whole or not at all.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError, model_validator

from acm.calibration.lockstep import COLUMNS
from acm.errors import UserError, explain, listed, shown
from acm.files import whole, write_json
from acm.paths import REPORTS
from acm.profiles import Profile
from acm.profiles.experiment import Experiment
from acm.reading import parse_json, read_yaml
from acm.records import provenance, read_coefficients
from acm.reporting.results import Results
from acm.running.imported import checked, fresh_ones, other_methods, put, read_own
from acm.schema import Strict, like
from acm.sharing.archives import MOST, pack, unpack
from acm.sharing.entry import here, relative, sha256
from acm.sharing.submission import check_published
from acm.sharing.untrusted import RECORDS, ROWS, check_parquet

LIST = REPORTS / "deposits.yml"
RESOLVER, RECORDS_API = "https://doi.org", "https://zenodo.org/api/records"
MANIFEST = "manifest.json"
BESIDE = r"mutual_information\.parquet|coefficients[a-z-]*\.json"
SECONDS, CHUNK = 60, 1 << 20
DOI = Annotated[str, like(r"10\.\d{4,9}/[A-Za-z0-9._;()/:-]+", "a DOI such as 10.5281/zenodo.1234567")]
Hash = Annotated[str, like("[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits")]


class Deposit(Strict):
    """Where an archive is. doi: of a record of Zenodo. url: of the archive itself. file: its name in the record."""

    sha256: Hash
    doi: DOI | None = None
    url: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def one_place(self) -> Deposit:
        if (self.doi is None) == (self.url is None):
            raise ValueError("must name either a doi or a url")
        if self.url and urlsplit(self.url).scheme not in ("http", "https", "file"):
            raise ValueError("url must begin with https://, http:// or file://")
        return self


def fetch_records(profile: Profile, url: str | None = None, digest: str | None = None) -> str:
    """Fetch the deposit of a profile and take in what it holds; returns what came in and how to redraw.

    url: an address or a DOI, instead of the listed one. digest: its SHA-256. UserError where nothing is listed, and for
    an archive that cannot be had, is another one, or does not fit the profile; then nothing is stored.
    """
    deposit = chosen(profile, url, digest)
    profile.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".deposit-", dir=profile.folder) as name:
        archive, folder = Path(name, "archive"), Path(name, "unpacked")
        download(deposit.url or file_of(deposit, profile.name), archive, deposit.sha256)
        experiments = "|".join(map(re.escape, profile.experiments))
        unpack(archive, rf"{MANIFEST}|(?:{experiments})/(?:{re.escape(RECORDS)}|{BESIDE})", folder)
        return "\n".join([*take_in(profile, folder), *redrawing(profile)])


def chosen(profile: Profile, url: str | None, digest: str | None) -> Deposit:
    """The deposit that the user names, else the listed one. UserError for neither."""
    if url is None:
        deposits = read_yaml(LIST).get("deposits") if LIST.is_file() else None
        found = deposits.get(profile.name) if isinstance(deposits, dict) else None
        if found is None:
            raise UserError(
                f"no deposit of the records of {profile.name} is listed in {relative(LIST)}; name one by --url and "
                "--sha256 (`make records PROFILE=… URL=… SHA256=…`)."
            )
        place = f"{relative(LIST)}: {profile.name}"
    else:
        if digest is None:
            raise UserError("--url needs --sha256, the hash of the archive: whoever packed it has it.")
        found, place = {"doi" if re.match(r"10\.\d", url) else "url": url, "sha256": digest}, "the deposit"
    try:
        return Deposit.model_validate(found)
    except ValidationError as error:
        raise explain(error, place, Deposit) from None


def opened(url: str) -> Any:
    """An address as a response to read from. UserError where it cannot be had."""
    request = urllib.request.Request(url, headers={"User-Agent": "acm-companion"})
    try:
        return urllib.request.urlopen(request, timeout=SECONDS)
    except (OSError, HTTPException, ValueError) as error:
        raise refusal(url, error) from None


def refusal(url: str, error: Exception) -> UserError:
    """What kept an address from being read."""
    why = error.code if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None) or error
    return UserError(f"{shown(url)} cannot be fetched ({shown(why)}); try again, or name another address.")


def file_of(deposit: Deposit, profile: str) -> str:
    """The address of the archive in the record that a DOI leads to."""
    with opened(f"{RESOLVER}/{quote(str(deposit.doi))}") as response:
        landing = response.geturl()
    number = re.search(r"/records?/(\d+)", urlsplit(landing).path)
    if number is None:
        raise UserError(f"{deposit.doi} leads to {shown(landing)}, no record of Zenodo; give the archive's own --url.")
    with opened(f"{RECORDS_API}/{number[1]}") as response:
        content = response.read(16 << 20)
    try:
        files = {file["key"]: file["links"]["self"] for file in parse_json(content.decode())["files"]}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{RECORDS_API}/{number[1]} does not list files as Zenodo does; give --url.") from None
    packed = [name for name in files if str(name).endswith((".tar.gz", ".tgz", ".zip"))]
    wanted = [deposit.file] if deposit.file else [n for n in packed if n.split(".")[0] == profile] or packed
    if len(wanted) != 1 or wanted[0] not in files:
        raise UserError(
            f"{deposit.doi} has the archives {listed(packed)}; name the one of {profile} by `file` or --url."
        )
    return str(files[wanted[0]])


def download(url: str, target: Path, digest: str) -> None:
    """Fetch a file. UserError for one that is too large, breaks off, or has another SHA-256."""
    size = 0
    try:
        with opened(url) as response, target.open("wb") as file:
            while chunk := response.read(CHUNK):
                size += len(chunk)
                if size > MOST:
                    raise UserError(f"{shown(url)} is larger than {MOST >> 30} GiB.")
                file.write(chunk)
    except (OSError, HTTPException) as error:
        raise refusal(url, error) from None
    if (found := sha256(target)) != digest:
        raise UserError(f"{shown(url)} is another file, or broke off: its SHA-256 is {found}, not {digest}.")


def take_in(profile: Profile, folder: Path) -> list[str]:
    """Check all that a deposit holds, then store it in the profile's run. Returns a line for each experiment."""
    if not (folder / MANIFEST).is_file():
        raise UserError(f"the deposit has no {MANIFEST}; pack it with `acm deposit`.")
    found, sources = {}, {}
    for name in profile.experiments:
        path = folder / name / RECORDS
        if not path.is_file():
            continue
        check_parquet(path)
        records, setting = read_own(path, profile, name), profile.experiment(name)
        takes = [*setting.parents, *setting.method_names, *other_methods(profile, name)]
        found[name], _ = checked(profile, name, records, takes, here(setting, tokenizers=False))
        sources[name] = path
    if not found:
        raise UserError(f"the deposit holds no records of {', '.join(profile.experiments)}.")
    beside = [path for name in found for path in (folder / name).iterdir() if path.name != RECORDS]
    for path in beside:
        check_beside(path, profile.experiment(path.parent.name))
        check_same(path, profile.folder / path.relative_to(folder))
    for name, methods in found.items():
        fresh_ones(profile.folder / name / "records", methods)
    lines = []
    for name, methods in found.items():
        fresh = put(profile, name, methods, [sources[name]])
        lines.append(f"{name}: records of {len(methods)} models, {len(fresh)} of them new.")
    for path in beside:
        if not (target := profile.folder / path.relative_to(folder)).exists():
            with whole(target) as part:
                shutil.copyfile(path, part)
    return lines


def check_beside(path: Path, setting: Experiment) -> None:
    """UserError for a file beside the records that is neither an MI table nor coefficients, or of other models."""
    if path.suffix == ".json":
        models: set[str] = set(read_coefficients(path))
    else:
        try:
            with pq.ParquetFile(path) as file:
                if file.metadata.num_rows > ROWS or file.schema_arrow.names != COLUMNS:
                    raise UserError(f"{path} is no MI table: its columns are not {', '.join(COLUMNS)}.")
                models = set(file.read(["finetuned"]).column(0).to_pylist())
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise UserError(f"{path} is not a readable parquet file ({type(error).__name__}).") from None
    if odd := models - {Path(model).name for model in setting.finetuned}:
        raise UserError(f"{path} is of {shown(next(iter(odd)))}, which is no fine-tuned model of the experiment.")


def check_same(path: Path, target: Path) -> None:
    """UserError where another file stands in the place of one of the deposit."""
    if target.exists() and (not target.is_file() or target.read_bytes() != path.read_bytes()):
        raise UserError(f"{target} is another file than the deposit's; move your own run away first.")


def redrawing(profile: Profile) -> list[str]:
    """The commands that draw tables and figures from what came in."""
    lines = ["Tables and figures, without running a model:"]
    for name in profile.experiments:
        for stage in ("5-tables", "6-figures"):
            target = relative(profile.folder / "notebooks" / name / f"{stage}.ipynb")
            asked = f"-p profile={profile.name} -p experiment={name}"
            lines.append(f"  acm notebook notebooks/{stage}.ipynb {target} {asked}")
    return lines


def deposit(profile: Profile, archive: Path, results: str = "runs") -> str:
    """Pack the records of a profile's run, or of its committed results; returns what to list. UserError without any.

    The same results give the same bytes. results: as of :class:`Results`.
    """
    if not archive.name.endswith(".tar.gz"):
        raise UserError(f"{archive}: a deposit is a .tar.gz; name it so.")
    for setting in profile.experiments.values():
        check_published(setting.tasks)
    with tempfile.TemporaryDirectory() as name:
        folder, files = Path(name), dict[str, Path]()
        for experiment in profile.experiments:
            own = Results(profile, experiment, results)
            records = folder / f"{experiment}.parquet"
            own.records.to_parquet(records, index=False, compression="zstd", compression_level=19)
            files[f"{experiment}/{RECORDS}"] = records
            files |= {f"{experiment}/{p.name}": p for p in own.folder.iterdir() if re.fullmatch(BESIDE, p.name)}
        manifest = {"profile": json.loads(profile.model_dump_json()), "profile_hash": profile.hash}
        write_json(folder / MANIFEST, manifest | provenance("sharing"))
        pack(files | {MANIFEST: folder / MANIFEST}, archive)
    return (
        f"{archive}: {len(files) + 1} files, {archive.stat().st_size / 1e6:.1f} MB. "
        f"Once it is deposited, list it in {relative(LIST)}:\n"
        f"  {profile.name}: {{doi: DOI, file: {archive.name}, sha256: {sha256(archive)}}}"
    )
