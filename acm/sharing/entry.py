"""Writes and checks the entries of `reports/community/<pair>/<name>/`, each with all that its row is computed from.

submission.yml    what was stated
recipe.yml        how the model was merged
coefficients.json λ by layer, only where the recipe reads them
profile.json      the content of the profile, so that later changes to the profile leave the entry valid
records.parquet   records of the method, and of the parents and the frontier that the verdict stands on
row.json          the row, its provenance and the hash of the records
figure.png        accuracy against length
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from pydantic import ValidationError

from acm import hub
from acm.errors import UserError, explain, listed, shown
from acm.files import whole, write_json, write_text
from acm.paths import ROOT
from acm.profiles import Profile
from acm.profiles.experiment import Experiment
from acm.reading import read_json
from acm.reporting.plotting import use_theme
from acm.reporting.results import Results
from acm.reporting.statistics import Sample
from acm.running.imported import Counting
from acm.running.imported_logs import token_counter
from acm.sharing.row import compute_row, differences, draw, sample_of
from acm.sharing.submission import COEFFICIENTS, RECIPE, STATED, Submitted, plain, read_submission
from acm.sharing.untrusted import LARGE, RECORDS, SMALL, plain_file

PROFILE, ROW, FIGURE = "profile.json", "row.json", "figure.png"
FILES = (STATED, RECIPE, PROFILE, RECORDS, ROW, FIGURE)
FIGURE_BYTES = 300 << 10
SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = len(SIGNATURE) + 8 + 13  # bytes up to the end of IHDR: width, height, depth and kind of colour
CHUNKS = (b"IHDR", b"pHYs", b"tEXt", b"IDAT", b"IEND")
PIXELS = 40  # that may differ, each by more than a quarter of the scale, in a figure that was drawn elsewhere


def write_entry(submitted: Submitted, folder: Path) -> dict[str, Any]:
    """Write the entry of a submission, whole or not at all; returns its row. UserError where the folder exists."""
    if folder.exists():
        raise UserError(f"{folder} exists already; remove it, or give another name by --name.")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write_compact(submitted, part / RECORDS)
        sample = sample_of(submitted)
        row = compute_row(submitted, sample) | {"records": sha256(part / RECORDS)}
        write_text(part / STATED, yaml.safe_dump(plain(submitted.stated), sort_keys=False, allow_unicode=True))
        write_text(part / RECIPE, yaml.safe_dump(plain(submitted.recipe), sort_keys=False, allow_unicode=True))
        write_text(part / PROFILE, submitted.profile.model_dump_json(indent=1) + "\n")
        if submitted.coefficients:
            shutil.copyfile(submitted.coefficients, part / COEFFICIENTS)
        write_json(part / ROW, row, ensure_ascii=False)
        (part / FIGURE).write_bytes(drawn(submitted, row, sample))
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return row


def write_compact(submitted: Submitted, path: Path) -> None:
    """All records of a submission in one file, made small: items of one task lie side by side.

    UserError where it is larger than an entry's may be.
    """
    records = pd.concat(submitted.records.values(), ignore_index=True)
    records = records.sort_values(["task", "item", "repeat", "method"], kind="stable").reset_index(drop=True)
    records.to_parquet(path, index=False, compression="zstd", compression_level=19)
    if (size := path.stat().st_size) > LARGE:
        raise UserError(
            f"the records take {size / (1 << 20):.1f} MiB when packed, and the limit is {LARGE >> 20} MiB; give the "
            "profile fewer `items` or points of the `frontier`."
        )


def drawn(submitted: Submitted, row: dict[str, Any], sample: Sample) -> bytes:
    """The figure of a row as PNG. The same row gives the same bytes."""
    use_theme()
    results, content = Results(submitted.profile, submitted.experiment), io.BytesIO()
    figure = draw(row, sample, results.frontier, list(submitted.setting.parents))
    figure.savefig(content, dpi=100, metadata={"Software": None})
    plt.close(figure)
    return content.getvalue()


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_entry(folder: Path, tokenizers: bool = False, notes: list[str] | None = None) -> Submitted:
    """The submission of an entry, all of it computed anew. UserError for the first thing that does not fit.

    tokenizers: fetch from the hub those that lengths are counted with. Where one cannot be had, the lengths stay as
    they are stated, and notes take a line on it.
    """
    allowed = {*FILES, COEFFICIENTS}
    found = {path.name for path in folder.iterdir()}
    if odd := sorted(found - allowed):
        raise UserError(f"{folder} holds {shown(odd[0])}, which is no part of an entry; remove it.")
    if lacking := [name for name in FILES if name not in found]:
        raise UserError(f"{folder} lacks {listed(lacking)}; write the entry with `acm submit`.")
    profile, row = read_profile(folder / PROFILE), read_row(folder / ROW)
    if (name := str(row.get("experiment"))) not in profile.experiments:
        raise UserError(f"{folder / ROW}: experiment {shown(name)} is none of the entry's profile.")
    counting = here(profile.experiment(name), tokenizers, notes)
    submitted = read_submission(folder, profile, name, counting, False)
    if (submitted.coefficients is None) == (COEFFICIENTS in found):
        raise UserError(f"{folder} holds {COEFFICIENTS}, and its recipe reads none; remove it.")
    return submitted


def read_profile(path: Path) -> Profile:
    """The profile of an entry."""
    plain_file(path, SMALL)
    try:
        return Profile.model_validate(read_json(path))
    except ValidationError as error:
        raise explain(error, str(path), Profile) from None


def read_row(path: Path) -> dict[str, Any]:
    """The row of an entry as it is stated."""
    plain_file(path, SMALL)
    return read_json(path, finite=True)


def here(setting: Experiment, tokenizers: bool, notes: list[str] | None = None) -> Counting:
    """Method → what counts its tokens: the tokenizer of the parent, or of the base. None where it is not here.

    tokenizers: fetch them from the hub. notes: takes a line where nothing can be counted, and why.
    """
    folders, why = {name: folder for name, folder in setting.parents.items() if folder.is_dir()}, list[str]()
    for model, revision in setting.hub_models.items() if tokenizers else ():
        if Path(model).name not in folders:
            try:
                folders[Path(model).name] = hub.tokenizer(model, revision)
            except UserError as error:
                why.append(str(error))
    first = next((folders[name] for name in setting.parents if name in folders), None)
    if first is None and notes is not None:
        notes.append(f"lengths not counted: {why[0] if why else 'no tokenizer of the models is here.'}")
    known: dict[Path, Callable[[str], int]] = {}

    def counting(name: str) -> Callable[[str], int] | None:
        if (folder := folders.get(name, first)) is None:
            return None
        if folder not in known:
            known[folder] = token_counter(folder)
        return known[folder]

    return counting


def check_entry(
    folder: Path, tokenizers: bool = False, redraw: bool = False, notes: list[str] | None = None
) -> dict[str, Any]:
    """The row of an entry, once it was computed anew and found to be the stated one. UserError otherwise.

    tokenizers, notes: as of :func:`read_entry`. redraw: draw a figure anew that another version of matplotlib drew.
    """
    submitted = read_entry(folder, tokenizers, notes)
    stated, sample = read_row(folder / ROW), sample_of(submitted)
    if stated.get("records") != sha256(folder / RECORDS):
        raise UserError(f"{folder / RECORDS} is not the file that {ROW} was computed from: its hash differs.")
    found = compute_row(submitted, sample) | {"records": stated["records"]}
    if lines := differences(stated, json.loads(json.dumps(found))):
        raise UserError(f"{folder / ROW}: {lines[0]}{f', and {len(lines) - 1} more' if lines[1:] else ''}.")
    if folder.parent.name != submitted.pair:
        raise UserError(f"{folder} lies under another pair than its own, {submitted.pair}; move it there.")
    check_figure(folder / FIGURE, drawn(submitted, stated, sample), redraw)
    return stated


def check_figure(path: Path, again: bytes, redraw: bool) -> None:
    """UserError where the picture of an entry is not what its row draws. redraw: write it anew instead."""
    plain_file(path, FIGURE_BYTES)
    if (stated := path.read_bytes()) != again and not alike(stated, again):
        if not redraw:
            raise UserError(f"{path} is not the figure of its row; `acm community` draws it.")
        with whole(path) as part:
            part.write_bytes(again)


def alike(one: bytes, other: bytes) -> bool:
    """Whether two PNG files show the same, but for a few pixels: another system may round otherwise.

    No picture is unpacked that is not as large as the other one, or that holds more than a still picture.
    """
    if one[:HEADER] != other[:HEADER] or not is_still(one):
        return False
    try:
        apart = np.abs(np.subtract(*(plt.imread(io.BytesIO(content), "png") for content in (one, other))))
    except (OSError, SyntaxError, ValueError):
        return False
    return int((apart.max(axis=2) > 0.25).sum()) <= PIXELS


def is_still(content: bytes) -> bool:
    """Whether a PNG file has no chunks but those of matplotlib's, the last of them at its end: no second frame."""
    place, kind = len(SIGNATURE), b""
    while place + 12 <= len(content) and kind != b"IEND":
        size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        if kind not in CHUNKS:
            return False
        place += 12 + size
    return kind == b"IEND" and place == len(content)


def relative(path: Path) -> str:
    """A path as seen from the repository's root, where it lies in it."""
    return (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()
