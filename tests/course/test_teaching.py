"""What docs/teaching.md and the pages for language models say: links, lessons, and no solutions."""

import re

import nbformat
import pytest

from acm.course.copies import lessons, tagged
from acm.paths import ROOT

TEXT = (ROOT / "docs/teaching.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "docs/macos.md", "docs/teaching.md", "docs/troubleshooting.md", "docs/windows.md"]
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_every_lesson_is_listed():
    assert re.findall(r"course/(\d-[\w-]+\.ipynb)", TEXT.split("## Ways")[0]) == [path.name for path in lessons()]


def test_verdicts_of_the_lessons_are_against_the_bar_and_have_differences_beside_them():
    for number, differences in (("5", "wide_dominance(pairs)"), ("6", 'compare_pairs(part, [("TA", "entry")]')):
        (path,) = (path for path in lessons() if path.name.startswith(number))
        code = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        assert "above_frontier" not in code and "above_bar" in code and differences in code, path.name


def test_binders_scripts_can_be_run():
    assert all((ROOT / "binder" / name).stat().st_mode & 0o111 for name in ("postBuild", "start"))


def test_pages_for_language_models_lead_somewhere_and_withhold_solutions():
    tutor, index = ((ROOT / name).read_text(encoding="utf-8") for name in ("TUTOR.md", "llms.txt"))
    links = re.findall(r"\]\(([^)#]+)\)", tutor + index)
    assert links and all((ROOT / link).exists() for link in links)
    assert "(TUTOR.md)" in index and "(../TUTOR.md)" in TEXT and "Never write the solution" in tutor
    assert index.startswith("# ") and "\n> " in index  # as llmstxt.org wants it
    lines = [
        line.strip()
        for path in lessons()
        for cell in tagged(nbformat.read(path, 4), "solution")
        for line in cell.source.split("# BEGIN SOLUTION")[1].split("# END")[0].splitlines()
        if len(line.strip()) > 12
    ]
    assert len(lines) > 40 and not [line for line in lines if line in tutor + index]


def test_the_page_says_that_marking_runs_code():
    part = TEXT.split("## Grading")[1].split("## ")[0]
    assert "acm course check FOLDER" in part and "**It runs other people's code as you.**" in part
