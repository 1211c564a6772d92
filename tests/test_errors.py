"""Messages are one readable sentence each: names cannot steer a terminal, lists are short, wording is our own."""

import errno
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from acm.errors import UserError, listed, os_refusal, shown, unknown
from acm.merging.compatibility import Finding
from acm.merging.recipe import Recipe, load_recipe
from acm.paths import ROOT

ANY = st.text(st.characters(), max_size=40)  # surrogates too
STEERS = {"Cc", "Cs", "Zl", "Zp"}
LIST = {"merge_method": "ties", "models": [{"model": "a", "parameters": {"weight": 1}}], "base_model": "b"}


def steering(text):
    """The characters of a text that steer a terminal, new lines apart."""
    return [c for c in text if (unicodedata.category(c) in STEERS and c != "\n") or "\u202a" <= c <= "\u202e"]


@given(ANY)
def test_no_name_steers_a_terminal_or_forges_a_line(name):
    for text in (str(UserError(f"model {shown(name)} is absent.")), str(unknown("task", name, ["a", name]))):
        assert not steering(text) and "\n" not in text
        text.encode()
    for text in (str(UserError(f"model {name} is absent.")), str(Finding("note", f"{name} differs."))):
        assert not steering(text)
        assert all(line.startswith("  ") for line in text.split("\n")[1:])


@pytest.mark.parametrize("name, says", [
    ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"), ("a\nerror: all is lost", r"a\nerror"), ("\x9b2J", r"\x9b2J"),
    ("abc\u202egnp.exe", r"\u202egnp"), ("x\ry", r"x\ry"), ("Grüße 中 λ", "Grüße 中 λ"),
])  # fmt: skip
def test_names_are_shown_by_their_codes(name, says):
    assert says in str(UserError(f"model {name} is absent."))
    with pytest.raises(UserError) as error:
        load_recipe(LIST | {name: 1})
    assert says in str(error.value)
    assert len(str(error.value).split("\n")) == 1


def test_messages_stay_short():
    names = [f"task_{i}" for i in range(14_000)]
    text = str(unknown("task", "tusk_13555", names, "`acm tasks` lists them"))
    assert "Did you mean 'task_13555'" in text
    assert "and 13,988 more (`acm tasks` lists them)." in text
    assert len(text) < 1000
    assert len(str(unknown("method", "x" * 1_000_000, names))) < 1000
    assert len(str(UserError("y" * 1_000_000))) < 4096
    assert listed(["b", "a"]) == "b, a"
    assert listed([]) == "none"


@pytest.mark.parametrize("change, says", [
    ({"models": "a"}, "models: must be a list, not 'a'."),
    ({"models": []}, "models: must hold at least 1, not 0."),
    ({"models": [{"model": ["a"]}]}, "models[0].model: must be text, not a list."),
    ({"models": [{"model": "a"}, {"model": "c", "parmeters": {}}]},
     "models[1].parmeters: unknown key; did you mean 'parameters'?"),
    ({"scope": "layer"}, "scope: must be 'tensor' or 'global', not 'layer'."),
    ({"seed": 1.5}, "seed: must be a whole number, not 1.5."),
    ({"coefficients": True}, "coefficients: must be text or a list or a mapping, not true."),
    ({"coefficients": {"a": {"0": "x"}}}, "coefficients.a.0: must be a number, not 'x'."),
    ({"tie_word_embeddings": "perhaps"}, "tie_word_embeddings: must be true or false, not 'perhaps'."),
    ({"modles": []}, "modles: unknown key; did you mean 'models'?"),
    ({"str": 1}, "str: unknown key; remove it or mend its spelling."),
    ({"list[x]": 1}, "list[x]: unknown key; remove it or mend its spelling."),
    ({"{0}": 1}, "{0}: unknown key; remove it or mend its spelling."),
    ({"merge_method": "tis"}, "unknown merge method 'tis'. Did you mean 'ties'?"),
])  # fmt: skip
def test_what_is_wrong_with_a_recipe_is_said_in_one_line_of_our_own_words(change, says):
    with pytest.raises(UserError) as error:
        load_recipe(LIST | change)
    text = str(error.value)
    assert says in text
    assert text.startswith("the recipe is not valid: ")
    assert not any(word in text for word in ("Input should", "Value error", "pydantic", "type="))


def test_several_findings_are_a_list_of_a_dozen():
    with pytest.raises(UserError) as error:
        load_recipe(LIST | {f"odd{i}\n  models: fine": i for i in range(40)})
    head, *lines = str(error.value).split("\n")
    assert head == "the recipe is not valid:"
    assert len(lines) == 13
    assert lines[-1] == "  and 28 more"
    with pytest.raises(ValidationError):
        Recipe.model_validate({})


@pytest.mark.parametrize("number", [
    errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EISDIR, errno.ENAMETOOLONG, errno.EMFILE, errno.ELOOP, errno.EBUSY
])  # fmt: skip
def test_what_the_system_refuses_is_said_without_numbers(number):
    text = str(os_refusal(OSError(number, "Wording of the system", "some\x1bwhere")))
    assert text.startswith(r"some\x1bwhere cannot be used: ")
    assert "Errno" not in text
    assert ("Wording of the system" in text) == (number == errno.EBUSY)


def acm(*arguments, **options):
    command = [sys.executable, "-m", "acm", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120, **options)


@pytest.mark.parametrize("out", ["/dev/null/x.yml", "/proc/x/y.yml", "{tmp}", "{tmp}/" + "n" * 300 + ".yml"])
def test_a_file_that_cannot_be_written_is_one_sentence(out, tmp_path):
    done = acm("export", plain(tmp_path), "--out", out.format(tmp=tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert "Errno" not in done.stderr and "Traceback" not in done.stderr


def plain(folder):
    """A recipe of the embedded models."""
    models = ROOT / "abacus" / "checkpoints"
    path = folder / "recipe.yml"
    path.write_text(
        f"merge_method: linear\nparameters: {{weight: 1.0}}\nmodels: [{{model: {models}/abacus-fast}}, "
        f"{{model: {models}/abacus-slow}}]\n"
    )
    return path


def test_output_that_nobody_reads_to_its_end_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m acm methods | true", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
