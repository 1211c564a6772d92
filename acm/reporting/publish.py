"""The last step: reports/<profile> and figures/<profile> from runs/<profile>, and what differs from the committed ones."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import nbformat
import pandas as pd

from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.files import write_json
from acm.paths import FIGURES, REPORTS, ROOT
from acm.profiles import Profile, load_profile
from acm.records import coefficients_name, provenance, write_parquet, write_records
from acm.reporting.report import headline, write_report
from acm.reporting.results import Results
from acm.running.notebooks import relink

KEYS = ["experiment", "method", "task"]


def publish(name: str) -> str:
    """Copy results of all experiments, write the report, and return the closing message."""
    profile = load_profile(name)
    reports, figures = REPORTS / profile.name, FIGURES / profile.name
    for experiment in profile.experiments:
        publish_experiment(profile, experiment, reports / experiment, figures / experiment)
    publish_questions(profile, reports / "questions", figures / "questions")
    manifest = provenance("reporting", profile=profile.model_dump(), profile_hash=profile.hash)
    write_json(reports / "manifest.json", manifest)
    report = write_report(profile, reports)
    lines = [
        headline(profile),
        f"Report:  {report.relative_to(ROOT)}",
        f"Figures: {figures.relative_to(ROOT)}/",
        *differences(profile),
    ]
    return "\n".join(lines)


def publish_experiment(profile: Profile, experiment: str, reports: Path, figures: Path) -> None:
    """Records, MI table, coefficients, tables, executed notebooks and figures of one experiment."""
    results = Results(profile, experiment)
    records, information = results.records, results.information  # read before anything is replaced
    for folder in (reports, figures):
        shutil.rmtree(folder, ignore_errors=True)
    write_records(records, reports / "records.parquet")
    write_parquet(information, reports / "mutual_information.parquet")
    for control in COEFFICIENT_CONTROLS:
        shutil.copyfile(results.path(coefficients_name(control)), reports / coefficients_name(control))
    shutil.copytree(results.folder / "tables", reports / "tables")
    failed = shutil.ignore_patterns("*.failed.ipynb")
    shutil.copytree(
        profile.folder / "notebooks" / experiment, reports / "notebooks", ignore=failed, copy_function=copy_notebook
    )
    shutil.copytree(results.folder / "figures", figures)


PROGRESS = "application/vnd.jupyter.widget-view+json"


def copy_notebook(source: str | Path, target: str | Path) -> None:
    """An executed notebook without its progress bars, as text or widgets: they are redrawn thousands of times. Its links are mended."""
    notebook = nbformat.read(source, as_version=4)
    relink(notebook, Path(source).parent, Path(target).parent)
    notebook.metadata.pop("widgets", None)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr" and PROGRESS not in o.get("data", {})]
    nbformat.write(notebook, target)


def publish_questions(profile: Profile, reports: Path, figures: Path) -> None:
    """Verdicts, figures, executed notebooks and small tables of the questions that were asked in this run; others stay as they are."""
    for source in sorted((profile.folder / "questions").glob("*/verdict.json")):
        folder = source.parent
        for target in (reports / folder.name, figures / folder.name):
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
        for path in [
            *(folder / name for name in ("verdict.json", "merges.json") if (folder / name).is_file()),
            *folder.glob("*.parquet"),
        ]:
            shutil.copy(path, reports / folder.name)
        for path in (profile.folder / "notebooks" / "questions").glob(f"*-{folder.name}.ipynb"):
            copy_notebook(path, reports / folder.name / path.name)
        if (folder / "figures").is_dir():
            shutil.copytree(folder / "figures", figures / folder.name, dirs_exist_ok=True)


def committed(path: Path) -> bytes | None:
    """The file as the last commit has it; None without git or where it was not committed."""
    try:
        done = subprocess.run(
            ["git", "show", f"HEAD:{path.relative_to(ROOT)}"], cwd=ROOT, capture_output=True, check=False
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def differences(profile: Profile) -> list[str]:
    """One line per experiment: how many responses, and which averages, differ from the committed results."""
    lines = []
    for experiment in profile.experiments:
        folder = REPORTS / profile.name / experiment
        old = committed(folder / "records.parquet")
        if old is None:
            lines.append(f"{experiment}: no committed results to compare with.")
            continue
        lines.append(
            f"{experiment}: {compare(pd.read_parquet(io.BytesIO(old)), pd.read_parquet(folder / 'records.parquet'))}"
        )
    return lines


def source_of(setting: str) -> str:
    """What a record was computed with, apart from the machine."""
    facts = json.loads(setting)
    return json.dumps([facts.get("source"), facts.get("versions")])


def compare(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """What differs between two sets of records, in one sentence."""
    keys = [*KEYS, "item", "repeat"]
    both = old.merge(new, on=keys, how="outer", suffixes=("_old", "_new"), indicator="found")
    changed = (both["found"] != "both") | (both["response_old"] != both["response_new"])
    if not changed.any():
        return f"all {len(new)} responses are those of the committed results."
    means = both.groupby("method")[["correct_old", "correct_new", "length_old", "length_new"]].mean()
    accuracy = (means["correct_new"] - means["correct_old"]).abs().max() * 100
    length = (means["length_new"] / means["length_old"] - 1).abs().max() * 100
    same = old["setting"].map(source_of).unique().tolist() == new["setting"].map(source_of).unique().tolist()
    cause = (
        "The sources are the same: another processor rounds differently."
        if same
        else "The sources or versions changed too."
    )
    return (
        f"{changed.sum()} of {len(both)} responses differ from the committed results; at most {accuracy:.1f} points "
        f"of accuracy and {length:.1f} % of mean length for a method. {cause}"
    )
