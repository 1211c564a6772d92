"""The plan of the house: imports run down only, and in no circle."""

import ast

import acm
from acm.sources import BELOW, PACKAGE, all_below, room_of

# The package itself is the door: its names are imported on first use, and stand for the modules where they live.
DOOR = PACKAGE / "__init__.py"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if path != DOOR
}


def imported(path):
    """The modules of the package that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [acm.HOMES.get(name.removeprefix("acm."), name) for name in names]
            yield from (name if name in MODULES else node.module for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


ARROWS = {
    name: {found for found in imported(path) if found in MODULES and found != name} for name, path in MODULES.items()
}


def test_imports_run_down_only():
    against = [
        (name, found)
        for name, arrows in ARROWS.items()
        for found in arrows
        if room_of(MODULES[found]) not in all_below(room_of(MODULES[name]))
    ]
    assert not against


def test_no_modules_import_each_other_in_a_circle():
    left = {name: set(arrows) for name, arrows in ARROWS.items()}
    while free := [name for name, arrows in left.items() if not arrows & left.keys()]:
        for name in free:
            del left[name]
    assert not left


def test_every_folder_is_a_room_and_every_room_is_there():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert folders - {"tasks"} == {room for room in BELOW if (PACKAGE / room).is_dir()}
    assert all((PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file() for room in BELOW if room != "trunk")
