"""What is kept of a run: the columns of the tables, and where a number comes from."""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd

from acm.errors import UserError
from acm.paths import ROOT

RECORD_COLUMNS = [
    "profile", "experiment", "model", "method", "task", "item", "repeat", "correct", "answer", "gold", "response",
    "length", "truncated", "thinking_closed", "reflections", "setting",
]  # fmt: skip
PACKAGES = ("torch", "transformers", "lm-eval", "numpy", "pandas", "scikit-learn")


def write_records(records: pd.DataFrame, path: Path) -> None:
    """Records as parquet; UserError if a promised column is missing."""
    if missing := [c for c in RECORD_COLUMNS if c not in records]:
        raise UserError(f"records for {path} lack the columns {', '.join(missing)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    records.to_parquet(part, index=False)
    part.rename(path)


def read_records(paths: list[Path]) -> pd.DataFrame:
    """All records of these files in one frame, in the given order."""
    if absent := [p for p in paths if not Path(p).is_file()]:
        raise UserError(f"no records at {absent[0]}; run the evaluation first.")
    return pd.concat([pd.read_parquet(p) for p in paths], ignore_index=True)


def combine(frames: list[pd.DataFrame], tasks: list[str]) -> pd.DataFrame:
    """Records of several calls as one table: by task in the order of ``tasks``, by repeat, items as they come.

    Columns as in the first frame, then those that only others have.
    """
    whole = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    order = np.lexsort((whole["repeat"], whole["task"].map(tasks.index)))  # stable
    return whole.iloc[order].reset_index(drop=True)


@cache
def source_hash() -> str:
    """Hash of the sources that a result depends on; a committed figure cannot name its own commit."""
    digest = hashlib.sha256()
    taught = {ROOT / "acm" / part for part in ("exercises", "widgets", "course.py")}  # no result depends on these
    for folder, pattern in (
        ("acm", "**/*.py"),
        ("acm", "**/*.yaml"),
        ("abacus", "*.py"),
        ("smol", "*.py"),
        ("notebooks", "[1-6]-*.ipynb"),
        ("notebooks/questions", "*.ipynb"),
    ):
        for path in sorted((ROOT / folder).glob(pattern)):
            if not taught & {path, path.parent}:
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # lm-eval, where nothing is evaluated
            found[name] = version(name)
    return found


def provenance(**facts: object) -> dict:
    """Facts about a result plus the hash of the sources and the versions of what computed it."""
    return {**facts, "source": source_hash(), "versions": versions()}
