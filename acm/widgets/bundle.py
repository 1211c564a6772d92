"""Joins JavaScript modules of ``web/`` into one script, for pages opened from disk, workers and notebooks.

None of these can load a module beside another. The modules of ``web/`` are written for it: they import by name from
relative paths, export declarations, and no two of them declare the same name at the top.

This module needs the standard library alone: the website's environment has no more.
"""

from __future__ import annotations

import re
from pathlib import Path

from acm.paths import WEB

IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.[^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)
DECLARED = re.compile(
    r"^(?:export )?(?:async )?(?:function\*?|const|let|class) +(\w+|\{[^}]*\}|\[[^\]]*\])", re.MULTILINE
)


def bundle(entry: str) -> str:
    """One script of an entry, such as ``core/worker.js``, and all that it imports; what is imported comes first.

    An ``export default`` of the entry stays, so that the script is a module then. ValueError for a module that is not
    written for this: an import or export of another form, a name that two modules declare, or a circle of imports.
    """
    modules: dict[Path, str] = {}
    collect((WEB / entry).resolve(), modules, ())
    owners: dict[str, Path] = {}
    for path, text in modules.items():
        for name in declared(text):
            if name in owners:
                raise ValueError(f"{path.name} and {owners[name].name} both declare {name}.")
            owners[name] = path
    return "\n".join(stripped(path, text, path == (WEB / entry).resolve()) for path, text in modules.items())


def collect(path: Path, modules: dict[Path, str], above: tuple[Path, ...]) -> None:
    """Add a module after those that it imports. above: the modules on the way to it."""
    if path in above:
        raise ValueError(f"{path.name} imports itself, by way of {above[-1].name}.")
    if path in modules:
        return
    text = path.read_text(encoding="utf-8")
    for _, target in IMPORT.findall(text):
        collect((path.parent / target).resolve(), modules, (*above, path))
    modules[path] = text


def declared(text: str) -> list[str]:
    """The names that a module declares at its top."""
    return [name for found in DECLARED.findall(text) for name in re.findall(r"\w+", found)]


def stripped(path: Path, text: str, entry: bool) -> str:
    """A module without its imports, its exports plain declarations."""
    text = EXPORT.sub("", IMPORT.sub("", text))
    kept = r"import\b|export\b(?! default)" if entry else r"(?:import|export)\b"
    if odd := re.search(rf"^(?:{kept}).*", text, re.MULTILINE):
        raise ValueError(f"{path.name}: this is not joined: {odd[0]}")
    return text
