"""Results are assembled beside the committed ones, compared with them, and kept on request alone.

The run is made of a part of the committed results of the profile ``tiny``, laid out as the pipeline leaves them.
"""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from helpers import contents, names

from acm.errors import UserError, os_refusal
from acm.paths import FIGURES, PROFILES, REPORTS, ROOT
from acm.profiles.standard import STANDARD_METHODS
from acm.reporting import differences, outdated, pages, publish, results

NAME, EXPERIMENT, TINY = "pair", "long-to-short", "tiny"
METHODS = ("TA", "ACM-TA", "ACM-TIES", "Null-TA")  # and a point of the frontier: few, for time
LINK = re.compile(r"\]\(([^)#:\s]+)\)")
OLD = "0123456789abcdef"  # of code that there never was


def write_profile(folder: Path) -> None:
    """The profile of the part: one task, some methods."""
    content = yaml.safe_load((PROFILES / f"{TINY}.yaml").read_text())
    methods = {name: STANDARD_METHODS[name] for name in METHODS}
    part = {"tasks": ["abacus_easy"], "frontier": [0.5], "methods": methods}
    content |= {"items": 60, "experiments": {EXPERIMENT: content["experiments"][EXPERIMENT] | part}}
    folder.mkdir()
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(content))


def write_results(reports: Path, figures: Path) -> None:
    """The part's committed results."""
    shutil.copytree(REPORTS / TINY / EXPERIMENT, reports / EXPERIMENT)
    shutil.copytree(FIGURES / TINY / EXPERIMENT, figures / EXPERIMENT)
    records = pd.read_parquet(reports / EXPERIMENT / "records.parquet")
    kept = records["method"].isin(["abacus-fast", "abacus-slow", *METHODS, "frontier-0.5"])
    kept &= (records["task"] == "abacus_easy") & (records["item"] < 60)
    records[kept].to_parquet(reports / EXPERIMENT / "records.parquet", index=False)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with the committed results of a profile, and a finished run of it."""
    write_profile(tmp_path / "profiles")
    monkeypatch.setattr("acm.profiles.variants.PROFILES", tmp_path / "profiles")
    write_results(tmp_path / "reports" / NAME, tmp_path / "figures" / NAME)
    for module in (publish, pages):
        monkeypatch.setattr(module, "REPORTS", tmp_path / "reports")
        monkeypatch.setattr(module, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.setattr(results, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr("acm.profiles.RUNS", tmp_path / "runs")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns("course"))
    run = tmp_path / "runs" / NAME
    shutil.copytree(tmp_path / "reports" / NAME / EXPERIMENT, run / EXPERIMENT)
    shutil.copytree(tmp_path / "figures" / NAME / EXPERIMENT, run / EXPERIMENT / "figures")
    (run / EXPERIMENT / "figures" / ".snakemake_timestamp").touch()
    shutil.move(run / EXPERIMENT / "notebooks", run / "notebooks" / EXPERIMENT)
    link = nbformat.v4.new_markdown_cell("[the next](../../../../notebooks/6-figures.ipynb)")
    outputs = [nbformat.v4.new_output("stream", name=name, text="said") for name in ("stdout", "stderr")]
    book = nbformat.v4.new_notebook(cells=[link, nbformat.v4.new_code_cell("1", outputs=outputs)])
    for name in ("5-tables.ipynb", "5-tables.failed.ipynb"):
        nbformat.write(book, run / "notebooks" / EXPERIMENT / name)
    return tmp_path


def content(*folders: Path) -> dict[Path, bytes]:
    """Every file of these folders."""
    return {path: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


def committed(clone: Path) -> dict[Path, bytes]:
    return content(clone / "reports", clone / "figures")


def answered(folder: Path, name: str, verdict: str) -> None:
    """A question with its verdict."""
    (folder / name).mkdir(parents=True)
    facts = {"question": f"What of {name}?", "verdict": verdict, "numbers": {}, "provenance": {"source": OLD}}
    (folder / name / "verdict.json").write_text(json.dumps(facts))


def edit_records(path: Path, change) -> None:
    records = pd.read_parquet(path)
    records.assign(**change(records)).to_parquet(path, index=False)


def test_a_run_changes_nothing_that_is_committed(clone):
    before = committed(clone)
    message = publish.publish(NAME)
    assert committed(clone) == before
    assert "abacus-fast" in message and f"runs/{NAME}/results/reports/{NAME}/report.md" in message
    assert re.search(rf"{EXPERIMENT}: all \d+ responses are those of the committed results\.", message)


def test_what_a_browser_needs_is_published_with_the_searchs_best(clone):
    shutil.copytree(REPORTS / TINY / "searches" / "abacus", clone / "reports" / NAME / "searches" / "abacus")
    publish.publish(NAME)
    publish.keep(NAME)
    found = json.loads((clone / "reports" / NAME / EXPERIMENT / "live.json").read_text())
    assert [*found["presets"]] == ["acm", "noise", "search"] and found["methods"][0]["n"] == 60


def test_the_report_can_be_read_where_it_is_assembled(clone):
    publish.publish(NAME)
    report = clone / "runs" / NAME / "results" / "reports" / NAME / "report.md"
    links = LINK.findall(report.read_text())
    assert len(links) > 4 and all((report.parent / link).exists() for link in links if not link.startswith("http"))


def test_what_is_kept_is_what_was_assembled(clone):
    publish.publish(NAME)
    message = publish.keep(NAME)
    made = clone / "runs" / NAME / "results"
    for kind in ("reports", "figures"):
        assert f"kept in {kind}/{NAME}/" in message
        for path, data in content(made / kind).items():
            assert (clone / path.relative_to(made)).read_bytes() == data
    notebooks = clone / "reports" / NAME / EXPERIMENT / "notebooks"
    book = nbformat.read(notebooks / "5-tables.ipynb", 4)
    assert (notebooks / LINK.search(book.cells[0].source)[1]).resolve() == clone / "notebooks" / "6-figures.ipynb"
    assert [output.name for output in book.cells[1].outputs] == ["stdout"], "progress bars stay behind"
    assert not list(made.rglob("*.failed.ipynb")) and not list(made.rglob(".*"))
    before = committed(clone)
    publish.publish(NAME)
    publish.keep(NAME)
    assert committed(clone) == before, "the same run kept again changes nothing"


def test_the_worth_of_scores_is_kept_as_it_was_published(clone, monkeypatch):
    monkeypatch.setattr(publish, "WORTH", kept := clone / "worth.json")
    run = clone / "runs" / NAME / "questions"
    answered(run, "scores", "yes")
    (run / "scores" / "worth.json").write_text("published")
    publish.publish(NAME)
    (run / "scores" / "worth.json").write_text("a later run")
    publish.keep(NAME)
    assert kept.read_text() == "published"


def test_nothing_is_kept_before_a_run(clone):
    before = committed(clone)
    with pytest.raises(UserError, match=f"make reproduce PROFILE={NAME}"):
        publish.keep(NAME)
    assert committed(clone) == before


def test_without_committed_results_there_is_nothing_to_compare_with(clone):
    shutil.rmtree(clone / "reports")
    assert f"{EXPERIMENT}: no committed results to compare with." in publish.publish(NAME)


def test_questions_that_were_not_asked_again_stay(clone):
    answered(clone / "reports" / NAME / "questions", "layers", "Old.")
    answered(clone / "reports" / NAME / "questions", "rule", "Old.")
    answered(clone / "runs" / NAME / "questions", "rule", "New.")
    (clone / "reports" / NAME / "questions" / "rule" / "stale.parquet").touch()
    drawn = clone / "runs" / NAME / "questions" / "rule" / "figures"
    drawn.mkdir()
    (drawn / "families.svg").write_text("<svg/>")
    message = publish.publish(NAME)
    assert "The numbers of question rule are older than the code of acm/questions (made by 0123456789abcdef" in message
    publish.keep(NAME)
    found = clone / "reports" / NAME / "questions"
    verdicts = {path.parent.name: json.loads(path.read_text())["verdict"] for path in found.glob("*/verdict.json")}
    assert verdicts == {"layers": "Old.", "rule": "New."} and not (found / "rule" / "stale.parquet").exists()
    report = (clone / "reports" / NAME / "report.md").read_text()
    assert f"figures/{NAME}/questions/rule/families.svg" in report
    assert report.count("older than the code of acm/questions") == 2


def test_other_responses_are_counted_and_their_cause_is_named(clone, monkeypatch):
    path = clone / "runs" / NAME / EXPERIMENT / "records.parquet"
    edit_records(
        path, lambda r: {"response": ["another", *r["response"][1:]], "length": [r["length"][0] + 1, *r["length"][1:]]}
    )
    seen = []
    monkeypatch.setattr("acm.reporting.near_ties.explain", lambda *given: seen.append(given) or "Near ties.")
    message = publish.publish(NAME)
    assert "1 of " in message and "for a method. Code and versions are the same. Near ties." in message
    profile, experiment, changed, coefficients, _ = seen[0]
    assert (profile.name, experiment) == (NAME, EXPERIMENT) and (coefficients / "coefficients.json").is_file()
    assert len(changed) == 1 and {"method", "question", "response_old", "response_new"} <= set(changed)

    def other_code(records):
        settings = [json.loads(text) for text in records["setting"]]
        changes = {"source": OLD}
        return {"setting": [json.dumps(s | changes | {"versions": s["versions"] | {"torch": "1.0"}}) for s in settings]}

    edit_records(path, other_code)
    message = publish.publish(NAME)
    assert re.search(r"What changed since: code \w+ → 0123456789abcdef, torch [\w.+]+ → 1\.0\.", message)


def test_results_older_than_their_code_are_named_in_message_and_report(clone, monkeypatch):
    hashes = {room: f"{room}-now" for room in ("evaluation", "calibration", "reporting", "questions")}
    monkeypatch.setattr("acm.reporting.outdated.source_hash", hashes.__getitem__)
    message = publish.publish(NAME)
    report = (clone / "runs" / NAME / "results" / "reports" / NAME / "report.md").read_text()
    for what, room in (("records", "evaluation"), ("coefficients", "calibration"), ("figures", "reporting")):
        sentence = (
            rf"The {what} of {EXPERIMENT} are older than the code of acm/{room} \(made by \w+, now {room}-now\)\."
        )
        assert re.search(sentence, message) and re.search(sentence, report)


def test_results_of_todays_code_are_not_called_old(clone, monkeypatch):
    made = clone / "reports" / NAME / EXPERIMENT
    (setting,) = pd.read_parquet(made / "records.parquet")["setting"].map(json.loads).str["source"].unique()
    hashes = {
        "evaluation": setting,
        "calibration": outdated.recorded(made / "coefficients.json"),
        "reporting": outdated.recorded(clone / "figures" / NAME / EXPERIMENT / "strips.json", "drawn_with"),
    }
    monkeypatch.setattr("acm.reporting.outdated.source_hash", hashes.__getitem__)
    assert "older" not in publish.publish(NAME)


def test_records_without_a_source_have_no_age():
    assert differences.facts(['{"model": "x"}', '{"model": "y"}']) == {"code": "None"}
    assert publish.outdated_results(Path("nowhere"), Path("nowhere")) == []


PAGE = """# Title
<!-- acm: headline pair -->
old
<!-- end -->
between
<!-- acm: verdicts pair -->
<!-- end -->
after
"""


def test_a_page_gets_what_it_asks_for_and_keeps_the_rest(clone):
    answered(clone / "reports" / NAME / "questions", "layers", "Because.")
    (clone / "reports" / NAME / "questions" / "layers" / "4-layers.ipynb").write_text("{}")
    page = clone / "pages" / "page.md"
    page.parent.mkdir()
    page.write_text(PAGE)
    publish.publish(NAME)
    assert f"filled {page}" in publish.keep(NAME, [page])
    text = page.read_text()
    assert text.startswith("# Title\n<!-- acm: headline pair -->\n| method ") and text.endswith("<!-- end -->\nafter\n")
    assert "\n<!-- end -->\nbetween\n<!-- acm: verdicts pair -->\n1. **What of layers?** Because." in text
    link = LINK.search(text, text.index("Because."))[1]
    assert (page.parent / link).resolve() == clone / "reports" / NAME / "questions" / "layers" / "4-layers.ipynb"
    assert "filled" not in publish.keep(NAME, [page]) and page.read_text() == text, "a second time changes nothing"


@pytest.mark.parametrize(
    "text, words",
    [
        ("<!-- acm: headlines tiny -->\n<!-- end -->", "unknown part of a page 'headlines'. Did you mean 'headline'?"),
        ("<!-- acm: headline tinny -->\n<!-- end -->", "unknown profile 'tinny'"),
        ("<!-- acm: headline tiny -->\n", "needs a `<!-- end -->`"),
        ("<!-- acm: headline -->\n<!-- end -->", "PART PROFILE"),
    ],
)
def test_a_page_that_asks_wrongly_is_told_so(text, words):
    with pytest.raises(UserError, match=re.escape(words)):
        pages.filled(text, ROOT)


def test_a_page_without_marks_stays_and_one_that_is_not_there_is_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("plain <!-- end -->\n")
    assert not pages.fill_page(page) and page.read_text() == "plain <!-- end -->\n"
    with pytest.raises(UserError, match="no page"):
        pages.fill_page(tmp_path / "absent.md")


@pytest.mark.parametrize("content, says", [
    (b"\xff\xfe# Title", "is not a readable Markdown file"),
    (b"<!-- acm: headline tinny -->\n<!-- end -->\n", "unknown profile 'tinny'"),
    (b"<!-- acm: headline pair -->\r\n", "needs a `<!-- end -->`"),
])  # fmt: skip
def test_results_are_kept_only_if_every_page_can_be_filled(clone, content, says):
    publish.publish(NAME)
    (page := clone / "page.md").write_bytes(content)
    before = {path: path.read_bytes() for path in (clone / "reports").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"{re.escape(str(page))}.*{re.escape(says)}"):
        publish.keep(NAME, [page])
    assert before == {path: path.read_bytes() for path in (clone / "reports").rglob("*") if path.is_file()}
    assert page.read_bytes() == content


def test_a_full_disk_leaves_what_was_kept_and_is_said(disk, tmp_path):
    new, kept = tmp_path / "new", disk("size=64k") / "kept"
    for folder, text in ((new, "new" * 30_000), (kept, "old")):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "table.md").write_text(text)
    with pytest.raises(OSError) as refused:
        publish.replace(new, kept)
    assert (kept / "inner" / "table.md").read_text() == "old"
    assert re.fullmatch(r".*table\.md cannot be used: the disk is full; .*", str(os_refusal(refused.value)))
    disk("size=1m")
    publish.replace(new, kept)
    assert contents(kept) == contents(new) and names(kept.parent) == ["kept"]


def test_searches_are_kept_without_the_pipeline_and_no_trials_of_another_front_stay(clone):
    with pytest.raises(UserError, match=f"make search PROFILE={NAME}"):
        publish.keep_searches(NAME)
    made, kept = clone / "runs" / NAME / "searches" / "mine", clone / "reports" / NAME / "searches" / "mine"
    for folder, files in ((made, ("front.csv", "journal.log")), (kept, ("front.csv", "trials.csv"))):
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).write_text(folder.parts[-4])
    assert publish.keep_searches(NAME).startswith("kept in ")
    assert [path.name for path in kept.iterdir()] == ["front.csv"] and (kept / "front.csv").read_text() == "runs"
