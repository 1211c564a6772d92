"""The report's numbers are those of the records, and it lists the questions that were asked."""

import json

import pytest

from acm.paths import REPORTS
from acm.profiles import load_profile
from acm.reporting import report
from acm.reporting.results import Results


@pytest.fixture
def folders(tmp_path):
    """Made-up folders of reports and figures: two questions, of which one has figures, and one without an answer."""
    reports, figures = tmp_path / "reports" / "mini", tmp_path / "figures" / "mini"
    for name, number in (("layers", 4), ("estimate", 1)):
        folder = reports / "questions" / name
        folder.mkdir(parents=True)
        facts = {"question": f"Q{number}?", "verdict": f"V{number}. Of 1.5 λ.", "numbers": {}}
        facts |= {"answer": "V4. Of 1.5"} if number == 4 else {}  # those of before had none
        (folder / "verdict.json").write_text(json.dumps(facts))
        (folder / f"{number}-{name}.ipynb").write_text("{}")
    (reports / "questions" / "unanswered").mkdir()
    (figures / "questions" / "layers").mkdir(parents=True)
    for name in ("b.svg", "a.svg", "a.png"):
        (figures / "questions" / "layers" / name).touch()
    return reports, figures


def test_questions_are_read_in_their_order_with_notebook_and_figures(folders):
    found = report.questions(*folders)
    assert [(q["name"], q["notebook"], q["figures"]) for q in found] == [
        ("estimate", "1-estimate.ipynb", []),
        ("layers", "4-layers.ipynb", ["a.svg", "b.svg"]),
    ]


def test_the_list_of_verdicts_links_each_notebook_from_where_the_page_lies(folders, tmp_path):
    assert report.verdict_list(*folders, tmp_path) == (
        "1. **Q1?** V1. ([notebook](reports/mini/questions/estimate/1-estimate.ipynb))\n\n   Of 1.5 λ.\n"
        "2. **Q4?** V4. Of 1.5 ([notebook](reports/mini/questions/layers/4-layers.ipynb))\n\n   λ.\n"
    )
    assert "](../reports/mini/questions/layers/4-layers.ipynb)" in report.verdict_list(*folders, tmp_path / "docs")


@pytest.mark.parametrize(
    "text, first",
    [
        ("Yes.", "Yes."),
        ("It has 99.9 % of 5.91. The rest", "It has 99.9 % of 5.91."),
        ("No, e.g. here. λ is", "No, e.g. here."),
        ("Why? 5 of 6.", "Why?"),
    ],
)
def test_the_first_sentence_of_a_text(text, first):
    assert report.first_sentence(text) == first


def test_without_questions_there_is_no_list(tmp_path):
    assert report.questions(tmp_path, tmp_path) == [] and report.verdict_list(tmp_path, tmp_path, tmp_path) == ""


def test_the_headline_shows_parents_plain_merges_acm_and_its_nulls():
    results = Results(load_profile("tiny"), "long-to-short", "reports")
    lines = report.headline(results, markdown=True).splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ") and not line.startswith("| method")]
    assert rows == [
        "abacus-fast",
        "abacus-slow",
        "Average",
        "TA",
        "TIES",
        "ACM-TA",
        "ACM-TIES",
        "Null-TA",
        "Null-TIES",
        "Uniform-TA",
        "Uniform-TIES",
    ]
    for line in lines[2:13]:
        method, accuracy = (part.strip() for part in line.split("|")[1:3])
        records = results.records[results.records["method"] == method]
        mean = records.groupby("task")["correct"].mean().mean()
        assert accuracy.startswith(f"{100 * mean:.1f} ["), method


def test_of_several_models_the_headline_has_no_verdicts():
    text = report.headline(Results(load_profile("tiny"), "general", "reports"))
    rows = text.splitlines()[2:-2]
    assert rows and all(row.split()[-3:] == ["–", "–", "–"] for row in rows)


def test_the_committed_report_says_what_its_records_say():
    text = (REPORTS / "tiny" / "report.md").read_text(encoding="utf-8")
    found = report.findings(Results(load_profile("tiny"), "long-to-short", REPORTS / "tiny"), REPORTS)
    assert found["main"] in text and found["verdicts"] in text and found["caption"] in text
