"""The last step of a run: assembles its results, compares them with the committed ones, and keeps them on request.

    runs/<profile>/results/reports/<profile>/    what `reports/<profile>` will be: records, tables, notebooks, report.md
    runs/<profile>/results/figures/<profile>/    what `figures/<profile>` will be

:func:`publish` assembles and compares, and changes nothing that is committed. :func:`keep` copies the two folders over
``reports/<profile>`` and ``figures/<profile>``. The report can be read in both places. The links in executed notebooks
work only after :func:`keep`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from acm.calibration.registry import COEFFICIENT_SETS
from acm.errors import UserError
from acm.files import whole, write_json
from acm.paths import FIGURES, REPORTS, ROOT
from acm.profiles import Profile, load_profile
from acm.records import coefficients_name, provenance, write_parquet, write_records
from acm.reporting.differences import differences
from acm.reporting.inspection import WORTH
from acm.reporting.live import write_live
from acm.reporting.outdated import outdated_results
from acm.reporting.pages import fill_page, page_text
from acm.reporting.report import headline, write_report
from acm.reporting.results import Results
from acm.running.notebooks import relink

PROGRESS = "application/vnd.jupyter.widget-view+json"  # a progress bar as a widget
SEARCH_FILES = ("candidates.parquet", "fresh.parquet", "front.csv", "search.json", "layers.parquet", "trials.csv",
                "trials.parquet")  # fmt: skip
LEFT_BEHIND = shutil.ignore_patterns("*.failed.ipynb", ".*")


@dataclass(frozen=True)
class Folders:
    """The two folders of a profile's results."""

    reports: Path
    figures: Path


def assembled(profile: Profile) -> Folders:
    """Where a run assembles its results."""
    root = profile.folder / "results"
    return Folders(root / "reports" / profile.name, root / "figures" / profile.name)


def committed(profile: Profile) -> Folders:
    """Where the committed results lie."""
    return Folders(REPORTS / profile.name, FIGURES / profile.name)


def publish(name: str) -> str:
    """Assemble the results of a profile's run, and return the closing message.

    The message has the headline table, where the report lies, how the responses differ from the committed ones, and
    which results are older than their code. Questions that were not asked in this run are taken from the committed
    results. Raises UserError where the run lacks a result.
    """
    profile = load_profile(name)
    made, kept = assembled(profile), committed(profile)
    for folder in (made.reports, made.figures):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for experiment in profile.experiments:
        assemble_experiment(profile, experiment)
    assemble_questions(profile)
    for source in (kept.reports, profile.folder):
        copy_searches(profile, source, made.reports)
    for experiment in profile.experiments:
        write_live(Results(profile, experiment, made.reports))
    manifest = provenance("reporting", profile=profile.model_dump(), profile_hash=profile.hash)
    write_json(made.reports / "manifest.json", manifest)
    report = write_report(profile, made.reports, made.figures)
    first = Results(profile, next(iter(profile.experiments)), made.reports)
    lines = [
        headline(first),
        f"Report:  {from_root(report)}",
        f"Figures: {from_root(made.figures)}/",
        *differences(profile, made.reports, kept.reports),
        *outdated_results(made.reports, made.figures),
        f"To take them into reports/ and figures/: make keep PROFILE={name}",
    ]
    return "\n".join(lines)


def keep(name: str, pages: Sequence[Path] = ()) -> str:
    """Copy the assembled results over the committed ones, fill the pages that show them, and say what was done.

    What else lies in the committed folders stays. What `acm inspect`'s scores were worth goes into the package too.
    Raises UserError where nothing was assembled, and for a page that cannot be filled.
    """
    profile = load_profile(name)
    made, kept = assembled(profile), committed(profile)
    if not (made.reports / "report.md").is_file():
        raise UserError(f"{from_root(made.reports)} holds no report; run `make reproduce PROFILE={name}` first.")
    for page in pages:
        page_text(page)  # before anything is replaced
    for source, target in ((made.reports, kept.reports), (made.figures, kept.figures)):
        for path in sorted(source.iterdir()):
            replace(path, target / path.name)
    if (worth := made.reports / "questions" / "scores" / WORTH.name).is_file():
        replace(worth, WORTH)
    filled = [str(page) for page in pages if fill_page(page)]
    lines = [f"kept in {from_root(folder)}/" for folder in (kept.reports, kept.figures)]
    return "\n".join([*lines, *(f"filled {page}" for page in filled)])


def keep_searches(name: str) -> str:
    """Copy the searches of a profile's run over the committed ones, and say what was done. UserError for none."""
    profile = load_profile(name)
    if not (copied := copy_searches(profile, profile.folder, committed(profile).reports)):
        raise UserError(f"{profile.folder / 'searches'} holds no finished search; run `make search PROFILE={name}`.")
    return "\n".join(f"kept in {from_root(folder)}/" for folder in copied)


def copy_searches(profile: Profile, source: Path, target: Path) -> list[Path]:
    """Copy tables and notebooks of every finished search; returns their new folders. Journals stay behind."""
    copied = []
    for front in sorted((source / "searches").glob("*/front.csv")):
        folder = target / "searches" / (name := front.parent.name)
        folder.mkdir(parents=True, exist_ok=True)
        for old in SEARCH_FILES:  # trials of another front must not stay beside this one
            (folder / old).unlink(missing_ok=True)
        for path in (found for file in SEARCH_FILES if (found := front.parent / file).is_file()):
            replace(path, folder / path.name)
        ran = profile.folder / "notebooks" / "searches"
        for title, place in (("search", ran / f"{name}.ipynb"), ("search-trials", ran / f"{name}-trials.ipynb")):
            own = front.parent / f"{title}.ipynb"  # of a committed search
            if (path := place if source == profile.folder else own).is_file():
                copy_notebook(path, folder / own.name, committed(profile).reports / "searches" / name)
        copied.append(folder)
    return copied


def replace(source: Path, target: Path) -> None:
    """Put a copy of a file or folder in the place of another."""
    if source.is_file():
        with whole(target) as part:
            shutil.copyfile(source, part)
        return
    part = target.with_name(f".{target.name}.part")  # the old folder stays until this one is complete
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def assemble_experiment(profile: Profile, experiment: str) -> None:
    """Records, MI table, coefficients, tables, executed notebooks and figures of one experiment."""
    results, made = Results(profile, experiment), assembled(profile)
    reports = made.reports / experiment
    reports.mkdir()
    write_records(results.records, reports / "records.parquet")
    write_parquet(results.information, reports / "mutual_information.parquet")
    for name in map(coefficients_name, COEFFICIENT_SETS):
        shutil.copyfile(results.path(name), reports / name)
    shutil.copytree(results.folder / "tables", reports / "tables", ignore=LEFT_BEHIND)
    copy_notebooks(profile, profile.folder / "notebooks" / experiment, reports / "notebooks")
    shutil.copytree(results.folder / "figures", made.figures / experiment, ignore=LEFT_BEHIND)


def assemble_questions(profile: Profile) -> None:
    """The committed questions, and over them those that were asked in this run.

    Of a question: its verdict, small tables, executed notebook and figures.
    """
    made, kept = assembled(profile), committed(profile)
    for source, target in ((kept.reports, made.reports), (kept.figures, made.figures)):
        if (source / "questions").is_dir():
            shutil.copytree(source / "questions", target / "questions", ignore=LEFT_BEHIND)
    for verdict in sorted((profile.folder / "questions").glob("*/verdict.json")):
        folder, name = verdict.parent, verdict.parent.name
        reports, figures = made.reports / "questions" / name, made.figures / "questions" / name
        for target in (reports, figures):
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
        small = [path for name in ("merges.json", "coefficients.json", WORTH.name) if (path := folder / name).is_file()]
        for path in [verdict, *small, *sorted(folder.glob("*.parquet"))]:
            shutil.copyfile(path, reports / path.name)
        for path in (profile.folder / "notebooks" / "questions").glob(f"*-{name}.ipynb"):
            copy_notebook(path, reports / path.name, committed_place(profile, reports))
        if (folder / "figures").is_dir():
            shutil.copytree(folder / "figures", figures, ignore=LEFT_BEHIND, dirs_exist_ok=True)


def committed_place(profile: Profile, folder: Path) -> Path:
    """Where a folder of the assembled reports will lie once it is kept."""
    return committed(profile).reports / folder.relative_to(assembled(profile).reports)


def copy_notebooks(profile: Profile, source: Path, target: Path) -> None:
    """All executed notebooks of a folder; those that failed stay behind."""

    def copy(path: str, place: str) -> None:
        copy_notebook(Path(path), Path(place), committed_place(profile, Path(place).parent))

    shutil.copytree(source, target, ignore=LEFT_BEHIND, copy_function=copy)


def copy_notebook(source: Path, target: Path, place: Path) -> None:
    """An executed notebook without its progress bars, which are redrawn thousands of times.

    place: the folder from which its relative links shall lead where they lead from ``source``.
    """
    notebook = nbformat.read(source, as_version=4)
    relink(notebook, source.parent, place)
    notebook.metadata.pop("widgets", None)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs = [output for output in cell.outputs if not is_progress(output)]
    nbformat.write(notebook, target)


def is_progress(output: dict[str, Any]) -> bool:
    """Whether an output is a progress bar, as text or as a widget."""
    return output.get("name") == "stderr" or PROGRESS in output.get("data", {})


def from_root(path: Path) -> Path:
    """A path as seen from the repository's root, where it lies in it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
