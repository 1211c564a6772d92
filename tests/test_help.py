"""The help opens with examples that run, and every command has one; errors name options as they are typed."""

import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from acm.__main__ import app
from acm.commands.app import EXAMPLES
from acm.errors import UserError
from acm.paths import ROOT

COMMANDS = typer.main.get_command(app).commands
QUICK = ("methods", "plan", "tasks", "compare", "check", "inspect")  # they write nothing
GROUPED = ("calibrate", "coefficients", "evaluate", "import", "merge")
FAST = str(ROOT / "abacus" / "checkpoints" / "abacus-fast")


def example(name):
    """What the example of a command's help types after ``acm``."""
    first, *words = shlex.split(COMMANDS[name].epilog.removeprefix("Example: "))
    assert first == "acm"
    return words


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder of work that has what the examples read of a clone, and a place for what they write."""
    for name in ("abacus", "docs", "reports"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words):
    """Run a command; what it printed."""
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output


def opening():
    """What the first help types after ``acm``, and each command with what stands above it."""
    text = EXAMPLES.strip().replace("\\\n", "")
    pairs = re.findall(r"^# (.+)\n(.+)$", text, re.MULTILINE)
    assert len(text.splitlines()) == 2 * len(pairs)
    return {words[1]: words[1:] for words in (shlex.split(command) for _, command in pairs)}


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_help_opens_with_examples_that_fit_a_terminal(words):
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "80"}).output.split("Options")[0]
    lines = [line.removeprefix(" ").rstrip() for line in shown.splitlines()]
    assert all(line in lines for line in EXAMPLES.strip().splitlines())
    assert list(opening()) == ["merge", "evaluate", "compare", "calibrate", "reproduce"]


@pytest.mark.usefixtures("indexed_once")
def test_the_first_examples_run_one_after_another(work):
    words = opening()
    run(words["merge"])
    assert "abacus_easy" in run([*words["evaluate"], "--items", "4"])
    assert "ACM-TA" in run(words["compare"])
    run([*words["calibrate"], "--clusters", "2", "--per-cluster", "1"])
    assert (work / "runs/calibration/coefficients.json").is_file()
    command = COMMANDS["reproduce"]
    assert command.make_context("reproduce", words["reproduce"][1:]).params["profile"] == "tiny"  # it runs for minutes


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_every_argument_and_has_an_example(name):
    command = COMMANDS[name]
    assert command.help
    assert [param.name for param in command.params if not getattr(param, "help", None)] == []
    words = example(name)
    assert words[0] == name
    command.make_context(name, words[1:])  # parses, and runs nothing
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    assert f"Example: acm {name}" in shown


@pytest.mark.parametrize("name", GROUPED)
def test_the_options_of_long_commands_stand_in_groups(name):
    panels = {getattr(param, "rich_help_panel", None) for param in COMMANDS[name].params}
    assert len(panels - {None}) >= 1
    alone = [p for p in COMMANDS[name].params if p.opts[0].startswith("--") and not getattr(p, "rich_help_panel", None)]
    assert len(alone) <= 4


@pytest.mark.usefixtures("indexed_once", "work")
@pytest.mark.parametrize("name", QUICK)
def test_an_example_that_writes_nothing_runs(name):
    assert run(example(name)).strip()


@pytest.mark.parametrize("name, made", [
    ("merge", "runs/merged/config.json"), ("export", "mergekit.yml"), ("coefficients", "runs/lines.json"),
])  # fmt: skip
def test_an_example_that_writes_a_file_runs(name, made, work):
    run(example(name))
    assert (work / made).is_file()


@pytest.mark.parametrize("arguments, says", [
    (["evaluate", FAST, "--task", "abacus_easy", "--batch-size", "0"], "--batch-size: is 0"),
    (["evaluate", FAST, "--task", "abacus_easy", "--max-tokens", "0"], "--max-tokens: is 0"),
    (["evaluate", FAST, "--task", "abacus_easy", "--temperature", "-1"], "--temperature: is -1.0"),
    (["evaluate", FAST, "--task", "abacus_easy", "--model-args", "3"], "--model-args: '3' is no mapping"),
    (["evaluate", FAST, "--task", "abacus_easy", "--items", "2"], "Set --max-tokens to at most 482"),
    (["evaluate", "data/max_tokens/model", "--task", "abacus_easy"], "data/max_tokens/model"),
])  # fmt: skip
def test_an_error_names_the_option_as_it_is_typed(arguments, says, tmp_path):
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "a.parquet")])
    assert isinstance(done.exception, UserError)
    assert says in str(done.exception)
