"""The formats of a run's results: the columns of its tables, its coefficients file, and the provenance of numbers."""

from __future__ import annotations

import contextlib
import csv
import io
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acm.errors import UserError
from acm.files import whole
from acm.reading import finite_number, read_json, read_text
from acm.sources import source_hash

if TYPE_CHECKING:
    import pandas as pd

RECORD_COLUMNS = [
    "profile", "experiment", "model", "method", "task", "item", "repeat", "correct", "answer", "gold", "response",
    "length", "truncated", "thinking_closed", "reflections", "setting",
]  # fmt: skip
PACKAGES = ("torch", "transformers", "lm-eval", "numpy", "pandas", "scikit-learn")


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """A table as a parquet file that appears whole."""
    with whole(path) as part:
        table.to_parquet(part, index=False)


def write_records(records: pd.DataFrame, path: Path) -> None:
    """Records as parquet; UserError if a promised column is missing."""
    if missing := [c for c in RECORD_COLUMNS if c not in records]:
        raise UserError(f"records for {path} lack the columns {', '.join(missing)}.")
    write_parquet(records, path)


def read_records(paths: list[Path]) -> pd.DataFrame:
    """All records of these files in one frame, in the given order."""
    import pandas as pd  # takes half a second, and a merge needs none of it

    if absent := [p for p in paths if not Path(p).is_file()]:
        raise UserError(f"no records at {absent[0]}; run the evaluation first.")
    return pd.concat([pd.read_parquet(p) for p in paths], ignore_index=True)


def combine(frames: list[pd.DataFrame], tasks: list[str]) -> pd.DataFrame:
    """Records of several calls as one table: by task in the order of ``tasks``, by repeat, items as they come.

    Columns as in the first frame, then those that only others have.
    """
    import pandas as pd

    records = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    order = np.lexsort((records["repeat"], records["task"].map(tasks.index)))  # stable
    return records.iloc[order].reset_index(drop=True)


def coefficients_name(control: str) -> str:
    """The file of the coefficients that come from a control of the MI table; ``none`` is the real pair."""
    return "coefficients.json" if control == "none" else f"coefficients-{control}.json"


def read_coefficients(path: Path, key: str = "coefficients") -> dict[str, Any]:
    """``{model: {layer: number}}`` from a JSON file with this key, or from a CSV file of coefficients.

    The columns of the CSV file are finetuned, layer and coefficient. Numbers are as the file has them: whoever uses
    them checks models, layers and ranges. Raises UserError for a file that cannot be read so.
    """
    if not path.exists():
        raise UserError(f"no {key} at {path}; calibrate first, or name another file.")
    if path.suffix == ".csv":
        return read_coefficients_csv(path)
    found = read_json(path, finite=True).get(key)
    if not isinstance(found, dict):
        raise UserError(f"{path} has no `{key}` that maps models to layers.")
    return found


def read_coefficients_csv(path: Path) -> dict[str, dict[str, float]]:
    """``{model: {layer: λ}}`` from a table with the columns finetuned, layer and coefficient.

    UserError for a layer that comes twice for one model, and for what is no finite number.
    """
    found: dict[str, dict[str, float]] = {}
    table = csv.DictReader(io.StringIO(read_text(path, "CSV"), newline=""))
    try:
        if lacking := {"finetuned", "layer", "coefficient"} - set(table.fieldnames or ()):
            raise ValueError(f"it lacks the column {min(lacking)}")
        for row in table:
            model, layer = row["finetuned"], row["layer"]
            own = found.setdefault(model, {})
            if not model or not layer or not row["coefficient"] or None in row:
                raise ValueError("a cell is empty, or the row has cells too many")
            if layer in own:
                raise ValueError(f"layer {layer} of {model} comes twice")
            own[layer] = finite_number(row["coefficient"])
    except (ValueError, csv.Error) as error:
        line = f"line {table.line_num}: " if table.line_num else ""
        raise UserError(
            f"{path} is not a readable table with the columns finetuned, layer, coefficient: {line}{error!s:.200}."
        ) from None
    return found


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that a number depends on, as far as they are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):  # lm-eval, where only the core is installed
            found[name] = version(name)
    return found | {"python": platform.python_version()}


def provenance(room: str, **facts: object) -> dict[str, Any]:
    """Facts about a result, plus the hash of the code of the room that made it and the versions of what computed it."""
    return {**facts, "source": source_hash(room), "versions": versions()}
