"""What docs/submit.md and docs/gpu-machine.md show is taken: profile, submission, and every command."""

import re
import shlex

import pytest
import typer
import yaml

from acm.__main__ import app
from acm.paths import ROOT
from acm.profiles import load_profile
from acm.running.budget_text import describe
from acm.running.machine import Machine
from acm.sharing.submission import Submission, check_models

COMMANDS = typer.main.get_command(app).commands
TEXTS = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("submit", "gpu-machine")}


def blocks(page, kind):
    """The blocks of code of a page."""
    return re.findall(rf"```{kind}\n(.*?)```", TEXTS[page], re.DOTALL)


def test_the_submission_to_copy_is_one():
    (text,) = blocks("submit", "yaml")
    said = Submission.model_validate(yaml.safe_load(text))
    assert said.method == "ACM-TA" and said.weights and said.hours
    optional = yaml.safe_load(re.sub(r"^# (\w+:)", r"\1", text, flags=re.MULTILINE))
    assert Submission.model_fields.keys() == optional.keys()
    assert Submission.model_validate(optional).engine


def test_the_profile_of_the_ten_lines_loads_and_has_a_plan(tmp_path):
    (tmp_path / "mine.yaml").write_text(blocks("gpu-machine", "yaml")[0])
    profile = load_profile(str(tmp_path / "mine.yaml"))
    check_models(profile, "long-to-short")
    assert "evaluate" in describe(profile, Machine(80, 500))


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_is_one_that_the_parser_takes(page):
    lines = [line.split("  #")[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]
    typed = [shlex.split(line)[1:] for line in lines if line.startswith("acm ")]
    assert len(typed) > 2
    for name, *words in typed:
        COMMANDS[name].make_context(name, words)


def test_the_ten_lines_are_ten_and_each_has_its_step():
    lines = blocks("gpu-machine", "sh")[0].splitlines()
    assert [int(re.search(r"# (\d+)\. ", line)[1]) for line in lines] == list(range(1, 11))
    assert re.findall(r"^## (\d+)\.", TEXTS["gpu-machine"], re.MULTILINE) == ["1", "2", "3", "4", "5", "6", "7"]
