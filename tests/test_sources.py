"""The hash of a room's code changes with what decides a result, and with nothing else."""

import pytest

from acm import sources
from acm.sources import BELOW, PACKAGE, all_below, code_of, files_of, room_of, source_hash

CODE = '''"""What it is."""

LIMIT = 3  # entries


def first(values):
    """The first.

    Of several.
    """
    text = "# no comment"  # a comment
    return values[0], text
'''


def test_comments_docstrings_and_blank_lines_do_not_count():
    other = CODE.replace("What it is.", "What it was.").replace("  # entries", "").replace("Of several.", "Of many.")
    assert code_of(CODE) == code_of(other.replace("\n\n\n", "\n\n"))
    assert "'# no comment'" in code_of(CODE) and "a comment" not in code_of(CODE)


@pytest.mark.parametrize("old, new", [
    ('"# no comment"', "'# no comment'"), ("values[0], text", "(\n        values[0],\n        text,\n    )"),
    ("(values):", "(values) :"), ('    """The first.\n\n    Of several.\n    """\n', ""), ('"""What it is."""\n', ""),
])  # fmt: skip
def test_layout_and_quotes_do_not_count(old, new):
    assert old in CODE and code_of(CODE) == code_of(CODE.replace(old, new))


@pytest.mark.parametrize("old, new", [("LIMIT = 3", "LIMIT = 4"), ("values[0]", "values[1]"), ("# no", "# yes, no")])
def test_code_counts(old, new):
    assert code_of(CODE) != code_of(CODE.replace(old, new))


def test_every_version_of_python_finds_the_same_code():
    """Fields that only newer versions have are empty, and text is ASCII: what can be printed differs by version."""
    assert code_of("async def f(a: int = None, /, *b): pass\n") == (
        "Module(body=[AsyncFunctionDef(name='f', args=arguments(posonlyargs=[arg(arg='a', annotation=Name(id='int', "
        "ctx=Load()))], vararg=arg(arg='b'), defaults=[Constant()]), body=[Pass()])])"
    )
    assert code_of("x = 'λ'").endswith("value=Constant(value='\\u03bb'))])")


@pytest.mark.parametrize("one, other", [
    ("1", "True"), ("1", "1.0"), ("'a'", "b'a'"), ("None", "0"), ("()", "[]"), ("f'{x}'", "f'{x!r}'"), ("-1", "+1"),
    ("x.y", "x[y]"), ("...", "None"),
])  # fmt: skip
def test_unlike_values_are_unlike_code(one, other):
    assert code_of(f"x = {one}\n") != code_of(f"x = {other}\n")


@pytest.fixture
def changed(monkeypatch, tmp_path):
    """The hashes of all rooms once one file has another content."""

    def hashes(name):
        original = sources.decisive
        monkeypatch.setattr(sources, "decisive", lambda path: original(path) + "\nx = 1" * (path == PACKAGE / name))
        source_hash.cache_clear()
        found = {room: source_hash(room) for room in BELOW}
        monkeypatch.undo()
        source_hash.cache_clear()
        return found

    return hashes


@pytest.mark.parametrize(
    "name, stale",
    [
        ("reporting/plotting.py", {room for room in BELOW if "reporting" in all_below(room)}),
        ("merging/engine.py", {room for room in BELOW if "merging" in all_below(room)}),
        ("files.py", set(BELOW)),
    ],
)
def test_a_change_makes_its_room_and_those_above_stale(changed, name, stale):
    before = {room: source_hash(room) for room in BELOW}
    after = changed(name)
    assert {room for room in BELOW if before[room] != after[room]} == stale


def test_a_changed_figure_does_not_make_responses_stale(changed):
    assert changed("reporting/figures.py")["evaluation"] == source_hash("evaluation")


def test_tasks_belong_to_the_evaluation_and_lone_modules_to_the_trunk():
    assert room_of(PACKAGE / "tasks" / "abacus_easy.yaml") == "evaluation"
    assert room_of(PACKAGE / "files.py") == "trunk" and room_of(PACKAGE / "profiles.py") == "profiles"
    assert PACKAGE / "tasks" / "abacus_easy.yaml" in files_of("evaluation")
