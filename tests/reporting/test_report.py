"""The report's numbers are those of the records, and it lists the questions that were asked."""

import json
import re
import shutil

import pandas as pd
import pytest

from acm.paths import FIGURES, REPORTS
from acm.profiles import load_profile
from acm.reporting import answer, report
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
    begin, end = "\n\n   <details><summary>The numbers</summary>\n\n   - ", "\n\n   </details>\n"
    assert report.verdict_list(*folders, tmp_path) == (
        f"1. **Q1?** V1. ([notebook](reports/mini/questions/estimate/1-estimate.ipynb)){begin}Of 1.5 λ.{end}"
        f"2. **Q4?** V4. Of 1.5 ([notebook](reports/mini/questions/layers/4-layers.ipynb)){begin}λ.{end}"
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


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The report of the committed results, written anew."""
    folder = tmp_path_factory.mktemp("reports") / "tiny"
    shutil.copytree(REPORTS / "tiny", folder)
    return report.write_report(load_profile("tiny"), folder, FIGURES / "tiny").read_text(encoding="utf-8")


def test_the_report_opens_with_three_sentences_and_one_figure(opened):
    title, sentences, figure, fold, *_ = opened.split("\n\n")
    assert title.startswith("# ") and figure.count("![") == 1 and fold.startswith("<details>")
    assert len(sentences.splitlines()) == 3 and "[" not in sentences
    right = pd.read_csv(REPORTS / "tiny/long-to-short/tables/main.csv").query("task == 'average'").set_index("method")
    for method in ("abacus-slow", "abacus-fast", "ACM-TA"):
        row = right.loc[method]
        assert re.search(rf"`{method}` .*?{row['accuracy']:.1f} % in {row['length']:.0f} tokens", sentences)


def test_what_folds_is_closed_and_holds_the_tables(opened):
    tags = re.findall(r"^</?details>$", opened, re.MULTILINE)
    assert tags == ["<details>", "</details>"] * (len(tags) // 2) and len(tags) > 20
    assert opened.count("<summary>") == len(tags) // 2
    seen = re.sub(r"<details>.*?</details>", "", opened, flags=re.DOTALL)
    assert "| method" not in seen and "\n## long-to-short\n" in seen and seen.count("![") == 2


@pytest.mark.parametrize(
    "told, says",
    [
        ({"TA": "above", "ACM-TA": "below"}, "No ACM merge is shown to be above *the bar*"),
        ({"ACM-TA": "above", "ACM-TIES": "outside"}, "ACM-TA is shown to be above *the bar*"),
        ({"ACM-TA": "above", "ACM-TIES": "above"}, "ACM-TA and ACM-TIES are shown to be above *the bar*"),
        ({"ACM-TA": "outside"}, "The lengths of the ACM merges lie beyond"),
        ({"TA": "above"}, ""),
    ],
)
def test_the_sentence_on_the_bar(told, says):
    text = answer.against_the_bar(pd.DataFrame({"method": [*told], "verdict": [*told.values()]}))
    assert text.startswith(says) and bool(text) == bool(says)


@pytest.mark.parametrize(
    "rows, says",
    [
        ([("ACM-TA", "TA", "more often right, longer"), ("Null-TA", "Uniform-TA", "more often right, longer")], ""),
        ([("ACM-TA", "Null-TA", "less often right, longer")], "not shown to be more often right than one with λ of"),
        ([("ACM-TA", "Null-TA", "more often right"), ("ACM-TA", "Uniform-TA", "no difference of accuracy shown")],
         "shown to be more often right: ACM-TA than Null-TA."),
    ],
)  # fmt: skip
def test_the_sentence_on_the_controls(rows, says):
    text = answer.against_the_controls(pd.DataFrame(rows, columns=["method", "against", "finding"]))
    assert says in text and bool(text) == bool(says) and ("Uniform" in str(rows) or "mean" not in text)


def test_where_hardly_anything_is_right_the_answer_says_so():
    found = report.findings(Results(load_profile("smol+new"), "long-to-short", REPORTS / "smol+new"), REPORTS)["answer"]
    assert found[0] == "No merge is right often enough to say anything of accuracy." and len(found) == 2
