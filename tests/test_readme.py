"""The README is short and true: its numbers are those of the committed results, and its links lead somewhere."""

import json
import re

import pandas as pd
import pytest
from packaging.requirements import Requirement
from PIL import Image

from acm.paths import REPORTS, ROOT
from acm.reporting.pages import FIRST_MARK, filled

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if FIRST_MARK in path.read_text()]
MAKEFILE = (ROOT / "Makefile").read_text()


def numbers_of(question):
    return json.loads((REPORTS / "tiny/questions" / question / "verdict.json").read_text())["numbers"]


def findings():
    """The findings, by their numbers, without the addresses of their links."""
    part = README.split("## Six findings")[1].split("\n## ")[0]
    return dict(re.findall(r"^(\d)\. (.*)$", re.sub(r"\]\([^)]*\)", "]", part), re.MULTILINE))


def numbers_in(text):
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", re.sub(r"\(\[question \d\]\)", "", text))]


def test_it_has_at_most_700_words_and_no_interval():
    assert len(README.split()) <= 700
    assert not re.search(r"\[[-+\d., ]+\](?!\()", re.sub(r"```.*?```", "", README, flags=re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_show_the_committed_results_and_make_keep_fills_them(page):
    text = page.read_text(encoding="utf-8")
    assert filled(text, page.parent) == text, "run `make keep`"
    assert f"--page {page.relative_to(ROOT).as_posix()}" in MAKEFILE


def test_the_page_of_results_shows_eight_verdicts():
    shown = (ROOT / "docs/results.md").read_text().split("<!-- acm: verdicts tiny -->")[1].split("<!-- end -->")[0]
    assert shown.count("**") == 16


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(targets) > 20
    for target in targets:
        assert (ROOT / target).exists(), target


def test_torch_is_the_locked_one():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line.startswith("torch==")]
    locked = str(Requirement(lines[0]).specifier)
    for page in ("README.md", "docs/install.md", "Dockerfile"):
        assert re.findall(r"torch(==[\d.]+)", (ROOT / page).read_text()) == [locked], page


def test_six_findings_each_with_a_link():
    assert list(findings()) == list("123456")
    assert len(re.findall(r"^\d\. .*\]\(", README, re.MULTILINE)) == 6
    assert [number for number, text in findings().items() if numbers_in(text)] == ["3", "5"], "the others have no test"


@pytest.mark.parametrize("profile", ["tiny", "smol"])
def test_finding_1_acm_is_shown_above_the_bar_nowhere(profile):
    table = pd.read_csv(REPORTS / profile / "long-to-short/tables/verdicts.csv").set_index("method")["verdict"]
    assert {"ACM-TA", "ACM-TIES"} <= set(table.index) and "above" not in table.filter(like="ACM").to_list()
    assert table["ACM-TA"] == ("below" if profile == "smol" else "no difference shown")


def test_finding_2_acm_is_not_shown_to_lead_over_noise():
    found = numbers_of("coefficients")
    fresh = [row for row in found["fresh"] if (row["ours"], row["theirs"]) == ("acm", "null")]
    assert len(fresh) == 1 and fresh[0]["verdict"] == found["lead"]["null"]["verdict"] == "no difference shown"


def test_finding_3_what_shuffled_tokens_keep():
    found = numbers_of("estimate")
    lowered = [100 * (1 - size["kept"]) for size in found["by_size"].values()]
    expected = [100 * found["kept"]["shuffled"]["share"], min(lowered), max(lowered)]
    assert [round(expected[0], 1), *map(round, expected[1:])] == numbers_in(findings()["3"])


def test_finding_4_draws_of_texts_against_blocks():
    found = numbers_of("stability")
    assert found["interval_width"] > found["spread_of_blocks"] > 0


def test_finding_5_what_a_search_found():
    rows = {(r["search"], r["sampler"], r["target"]): r for r in numbers_of("search")["summary"]}
    best = rows["abacus", "cmaes", "75"]
    assert best["verdict"] == "above" and [round(best["lead"])] == numbers_in(findings()["5"])
    assert {row["verdict"] for (search, *_), row in rows.items() if search == "smol"} == {"no difference shown"}
    assert all(row["less_low"] < 0 < row["less_high"] for row in numbers_of("search")["finer"])


def test_finding_6_no_rival_is_confirmed():
    found = numbers_of("rivals")
    assert found["fresh"] and "above" not in {row["verdict"] for row in [*found["fresh"], *found["families"]]}


def test_the_picture_is_small_and_moves():
    path = ROOT / "figures/live.webp"
    with Image.open(path) as picture:
        assert picture.n_frames > 10 and picture.width >= 2 * 330
        first = picture.convert("RGB")
        picture.seek(picture.n_frames - 1)
        assert list(first.getdata()) != list(picture.convert("RGB").getdata())
    assert path.stat().st_size <= 700_000


def test_the_pair_in_ten_lines_is_that_of_the_docs():
    pages = README, (ROOT / "docs/your-own-pair.md").read_text()
    told, full = (re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1] for text in pages)
    bare = [[line.split(" #")[0].rstrip() for line in text.splitlines() if line[0] != "#"] for text in (told, full)]
    assert bare[0] == bare[1] and len(told.splitlines()) == 10
