"""Finds results that were made by an older version of the code.

A result carries the hash of the code that made it (:func:`acm.sources.source_hash` of its room). Where today's code has
another hash, a sentence says so. The hash does not tell whether the numbers would differ; only another run does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from acm.reading import read_json
from acm.sources import source_hash


def outdated(what: str, room: str, sources: Iterable[str | None]) -> list[str]:
    """One sentence if any of these hashes is not that of the room's code now, else none.

    what: the results, as the subject of a sentence in the plural. sources: recorded hashes; None where a result from
    elsewhere has none.
    """
    now = source_hash(room)
    if not (old := sorted({source for source in sources if source} - {now})):
        return []
    return [f"{what} are older than the code of acm/{room} (made by {', '.join(old)}, now {now})."]


def outdated_results(reports: Path, figures: Path) -> list[str]:
    """A sentence for each part of a profile's results that earlier code made. reports, figures: their folders."""
    experiments = [path.parent.name for path in sorted(reports.glob("*/records.parquet"))]
    verdicts = sorted((reports / "questions").glob("*/verdict.json"))
    return [
        *(sentence for name in experiments for sentence in outdated_experiment(reports, figures, name)),
        *(sentence for path in verdicts for sentence in outdated_question(path)),
        *(
            sentence
            for path in sorted((reports / "searches").glob("*/search.json"))
            for sentence in outdated(
                f"The points of search {path.parent.name}", "searching", [read_json(path)["source"]]
            )
        ),
    ]


def outdated_experiment(reports: Path, figures: Path, experiment: str) -> list[str]:
    """The sentences on one experiment: its records, its coefficients, its figures."""
    settings = pd.read_parquet(reports / experiment / "records.parquet", columns=["setting"])["setting"].unique()
    evaluated = (json.loads(setting).get("source") for setting in settings)
    calibrated = (recorded(path) for path in sorted((reports / experiment).glob("coefficients*.json")))
    drawn = (recorded(path, "drawn_with") for path in sorted((figures / experiment).glob("*.json")))
    return [
        *outdated(f"The records of {experiment}", "evaluation", evaluated),
        *outdated(f"The coefficients of {experiment}", "calibration", calibrated),
        *outdated(f"The figures of {experiment}", "reporting", drawn),
    ]


def outdated_question(verdict: Path) -> list[str]:
    """The sentence on one question. verdict: its ``verdict.json``."""
    return outdated(f"The numbers of question {verdict.parent.name}", "questions", [recorded(verdict)])


def recorded(path: Path, key: str | None = None) -> str | None:
    """The hash that the ``provenance`` of a JSON file records, there under ``key`` if one is given."""
    found = read_json(path).get("provenance", {})
    return (found.get(key, {}) if key else found).get("source")
