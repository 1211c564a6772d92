"""Every command says what it takes, with an example that works; errors name options as they are typed."""

import shlex

import pytest
import typer
from typer.testing import CliRunner

from acm.__main__ import app
from acm.errors import UserError
from acm.paths import ROOT

COMMANDS = typer.main.get_command(app).commands
QUICK = ("methods", "plan", "tasks", "compare", "check")  # they write nothing
GROUPED = ("calibrate", "coefficients", "evaluate", "import", "merge")
FAST = str(ROOT / "abacus" / "checkpoints" / "abacus-fast")
SLOW = str(ROOT / "abacus" / "checkpoints" / "abacus-slow")


def example(name):
    """What the example of a command's help types after ``acm``."""
    first, *words = shlex.split(COMMANDS[name].epilog.removeprefix("Example: "))
    assert first == "acm"
    return words


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A folder of work that holds the example's recipe."""
    monkeypatch.chdir(tmp_path)
    models = f"[{{model: {FAST}}}, {{model: {SLOW}}}]"
    (tmp_path / "recipe.yml").write_text(f"merge_method: linear\nparameters: {{weight: 1.0}}\nmodels: {models}\n")


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


@pytest.mark.usefixtures("indexed_once")
@pytest.mark.parametrize("name", QUICK)
def test_an_example_that_writes_nothing_runs(name, recipe, monkeypatch):
    if name == "compare":  # its example names committed records
        monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, example(name))
    assert done.exit_code == 0, done.output
    assert done.output.strip()


def test_the_examples_of_merge_and_export_run(recipe, tmp_path):
    for name in ("merge", "export"):
        assert CliRunner().invoke(app, example(name)).exit_code == 0
    assert (tmp_path / "runs" / "merged" / "config.json").is_file()
    assert (tmp_path / "mergekit.yml").is_file()


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
