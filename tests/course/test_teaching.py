"""The grading script of docs/teaching.md runs as it stands, and its links and lessons exist."""

import os
import re
import subprocess
import sys

import nbformat
import pandas as pd
import pytest

from acm.course.copies import COURSE, lessons, solution_copy, tagged
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


@pytest.mark.pipeline
def test_the_grading_script_uses_its_own_checks(tmp_path):
    (tmp_path / "grade.py").write_text(TEXT.split("<!-- script: grade.py -->\n```python\n")[1].split("```")[0])
    notebook = solution_copy(COURSE / "source" / "5-measuring.ipynb")
    wrong, *_ = (cell for cell in tagged(notebook, "solution") if "def length_changes" in cell.source)
    wrong.source = wrong.source.replace("lengths / reference", "reference / lengths")
    for cell in tagged(notebook, "check"):
        cell.source = "print('passed')"
    folder = tmp_path / "submitted" / "ada"
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / "5-measuring.ipynb")
    subprocess.run(
        [sys.executable, tmp_path / "grade.py", tmp_path / "submitted"],
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    grades = pd.read_csv(tmp_path / "submitted" / "grades.csv", dtype={"exercise": str}).set_index("exercise")
    assert grades.index[~grades["passed"]].tolist() == ["5.6"] and "upside down" in grades.loc["5.6", "said"]
