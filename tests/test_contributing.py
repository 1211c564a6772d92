"""The examples of CONTRIBUTING.md run as they stand, here in copies of the folders that they write into."""

import re
import shutil
import sys
import types

import matplotlib
import pytest

from acm import course, paths
from acm.calibration import information
from acm.calibration.registry import ESTIMATORS
from acm.evaluation import task_files
from acm.merging import methods
from acm.merging.registry import METHODS
from acm.paths import PROFILES, ROOT, TASKS
from acm.profiles import variants
from acm.reporting.figures import FIGURES
from acm.widgets.registry import EXPLORERS

matplotlib.use("Agg")

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def copies(monkeypatch, tmp_path):
    """Folders for tasks and profiles, and registries that forget; returns what lies in the folders."""
    tasks, dials = shutil.copytree(TASKS, tmp_path / "tasks"), shutil.copytree(PROFILES, tmp_path / "profiles")
    for module, name, folder in (
        (paths, "TASKS", tasks),
        (task_files, "TASKS", tasks),
        (paths, "PROFILES", dials),
        (variants, "PROFILES", dials),
    ):
        monkeypatch.setattr(module, name, folder)
    held = (
        METHODS,
        methods.FUNCTIONS,
        ESTIMATORS,
        information.FUNCTIONS,
        FIGURES,
        EXPLORERS,
        course.checkers(),
    )
    before = [dict(names) for names in held]
    yield lambda: {path.name for folder in (tasks, dials) for path in folder.iterdir() if path.name != "__pycache__"}
    for names, then in zip(held, before, strict=True):
        names.clear()
        names.update(then)


def test_there_is_an_example_of_each_and_it_is_short():
    assert set(EXAMPLES) == {"method", "estimator", "task", "figure", "explorer", "profile", "lesson"}
    assert TEXT.count("```python") == len(EXAMPLES)
    assert all(code.count("\n") < 32 for code in EXAMPLES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_works_and_leaves_no_file(name, copies, monkeypatch):
    before = copies()
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "acm.widgets.lengths", module)  # as the example of an explorer sets it
    exec(compile(EXAMPLES[name], f"CONTRIBUTING.md, {name}", "exec"), vars(module))
    assert copies() == before


def test_files_and_tests_that_it_names_exist():
    for path in re.findall(r"`((?:acm|tests|docs|profiles|abacus|notebooks)/[\w./-]+)`", TEXT):
        assert (ROOT / path).exists(), path
