"""The rooms of the package: which room may import from which, and the hash of a room's code.

A room is a subpackage of acm, such as ``calibration`` or ``reporting``. A result carries the hash of the room that made
it. The hash shows which results are older than the code as it is now. A change to the code of figures leaves the
hash of ``evaluation`` as it is, so responses stay valid.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
TRUNK = "trunk"  # the room of the modules directly in acm, except ``__init__`` and ``__main__``
# Room → the rooms directly below it. A room may import from itself and from every room below it, never from above.
BELOW: dict[str, tuple[str, ...]] = {
    TRUNK: (),
    "calibration": (TRUNK,),
    "merging": (TRUNK,),
    "evaluation": (TRUNK,),
    "profiles": ("calibration", "merging", "evaluation"),
    "running": ("profiles",),
    "searching": ("profiles",),
    "reporting": ("running", "searching"),
    "questions": ("reporting",),
    "widgets": ("reporting",),
    "course": ("reporting",),
    "sharing": ("reporting",),
    "__init__": ("reporting",),  # names of the public functions, imported on first use
    "commands": ("questions", "widgets", "course", "sharing"),
    "__main__": ("commands",),
}
HOMES = {"tasks": "evaluation"}  # folders that belong to a room of another name
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
CODE = ("**/*.py", "tasks/*.yaml", "**/*.jinja")


def room_of(path: Path) -> str:
    """The room of a file of the package."""
    first = path.relative_to(PACKAGE).parts[0]
    stem = first.removesuffix(".py")
    return HOMES.get(first, stem if stem in BELOW else TRUNK)


def all_below(room: str) -> set[str]:
    """A room and all rooms that it may import from."""
    return {room}.union(*(all_below(lower) for lower in BELOW[room]))


@cache
def files_of(room: str) -> tuple[Path, ...]:
    """The files of a room, sorted, without this one: a new room must not make all results old."""
    found = (path for pattern in CODE for path in PACKAGE.glob(pattern) if room_of(path) == room)
    return tuple(sorted(path for path in found if path != Path(__file__)))


@cache
def source_hash(room: str) -> str:
    """Hash (16 hexadecimal digits) of the code of a room and of the rooms below it, without comments and docstrings."""
    digest = hashlib.sha256()
    for path in (path for part in sorted(all_below(room)) for path in files_of(part)):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0{decisive(path)}\0".encode())
    return digest.hexdigest()[:16]


@cache
def decisive(path: Path) -> str:
    """What a file can change in a result: the code of a module, the whole text of another file."""
    text = path.read_text(encoding="utf-8")
    return code_of(text) if path.suffix == ".py" else text


def code_of(text: str) -> str:
    """The syntax tree of Python source without docstrings: what decides a result. Comments and layout are not in it."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return shown(tree)


def shown(node: object) -> str:
    """A part of a syntax tree as text, empty fields left out: the same in every version of Python."""
    if isinstance(node, ast.AST):
        fields = [f"{name}={shown(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({', '.join(fields)})"
    return f"[{', '.join(map(shown, node))}]" if isinstance(node, list) else ascii(node)
