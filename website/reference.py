"""Writes the page of the Python interface from signatures and docstrings, which griffe reads without importing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import griffe

from acm import HOMES
from website.text import fenced, prose

NAMES = {  # heading → public name → module where it lives
    "Public names": {f"acm.{name}": home for name, home in HOMES.items()},
    "Recipes, profiles, comparisons": {
        f"{home}.{name}": home
        for home, name in {
            "acm.merging.recipe": "load_recipe",
            "acm.profiles": "load_profile",
            "acm.reporting.comparison": "compare",
            "acm.errors": "UserError",
        }.items()
    },
}
INTRO = """# Python

What `import acm` gives, read from the code.
[Contributing](/CONTRIBUTING.md) says how to add methods, tasks and figures."""
ROLE = re.compile(r":\w+:`~?([^`]+)`")
SPLIT = re.compile(r"(?<=[.)]) (?=(?:Raises|Returns) )")
HEADING = re.compile(r"^(Args|Returns|Raises):$")


def page(root: Path) -> str:
    """The page as Markdown. root: the repository."""
    loader = griffe.GriffeLoader(search_paths=[root])
    loader.load("acm")
    parts = [INTRO]
    for heading, names in NAMES.items():
        parts.append(f"## {heading}")
        for name, home in names.items():
            parts.append(entry(name, loader.modules_collection[f"{home}.{name.rpartition('.')[2]}"]))
    return "\n\n".join(parts) + "\n"


def entry(name: str, found: griffe.Object) -> str:
    """A function or class under its public name: signature, then its docstring."""
    found = found.final_target if isinstance(found, griffe.Alias) else found
    text = found.docstring.value if found.docstring else ""
    own = [p for p in found.parameters or [] if p.name != "self"]
    parts = [f"### {name.removeprefix('acm.')}", fenced(signature(name, found, own), "python")]
    parts += described(text, [p.name for p in own])
    where = found.relative_package_filepath.as_posix()
    return "\n\n".join([*parts, f"{{.provenance}}\nFrom `{where}`."])


def signature(name: str, found: griffe.Object, own: list[griffe.Parameter]) -> str:
    """A call as Python writes it, one parameter to a line where there are several. own: its parameters."""
    if found.is_class and not own:
        return f"class {name}"
    shown = [parameter(p, found) for p in own]
    keyword = [place for place, p in enumerate(own) if p.kind is griffe.ParameterKind.keyword_only]
    if keyword:
        shown.insert(keyword[0], "*")
    result = f" -> {found.returns}" if not found.is_class and found.returns else ""
    inside = "".join(f"\n    {part}," for part in shown) + "\n" if len(shown) > 2 else ", ".join(shown)
    return f"{'class ' * found.is_class}{name}({inside}){result}"


def parameter(p: griffe.Parameter, of: griffe.Object) -> str:
    """A parameter with its type and default."""
    stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(p.kind, "")
    annotation = f": {p.annotation}" if p.annotation else ""
    default = "" if p.default is None or stars else f" = {value(str(p.default), of)}"
    return f"{stars}{p.name}{annotation}{default}"


def value(text: str, of: griffe.Object) -> str:
    """A default as a literal where it names a constant of the package that is one; else as it is written."""
    names = set(re.findall(r"[A-Za-z_][\w.]*", re.sub(r"'[^']*'", "", text))) - {"None", "True", "False"}
    for name in names:
        try:
            found = of.modules_collection[of.parent.resolve(name)] if "." not in name else dotted(name, of)
            found = found.final_target if isinstance(found, griffe.Alias) else found
            ast.literal_eval(literal := value(str(found.value), found))
        except (KeyError, AttributeError, ValueError, SyntaxError, griffe.NameResolutionError):
            continue
        text = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", lambda _, put=literal: put, text)
    return text


def dotted(name: str, of: griffe.Object) -> griffe.Object:
    """What ``module.NAME`` or ``Class.name`` stands for, where ``of`` was written."""
    first, _, rest = name.partition(".")
    return of.modules_collection[f"{of.parent.resolve(first)}.{rest}"]


def described(text: str, names: list[str]) -> Iterator[str]:
    """A docstring as Markdown: prose, examples and indented tables as code, facts on parameters as a list.

    names: of the parameters.
    """
    text = ROLE.sub(lambda m: f"`{m[1]}`", text)
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        if heading := HEADING.match(lines[0]):
            yield f"**{heading[1]}**"
            yield "\n".join(fact(line.strip()) for line in re.sub(r"\n {8,}", " ", "\n".join(lines[1:])).split("\n"))
        elif lines[0].startswith(">>>"):
            yield fenced(block, "pycon")
        elif all(line.startswith("    ") for line in lines):
            yield fenced("\n".join(line[4:].replace("``", "") for line in lines), "text")
        else:
            yield from facts(" ".join(lines), names)


def facts(text: str, names: list[str]) -> Iterator[str]:
    """A paragraph. What it says of parameters, as ``name: …``, becomes a list."""
    text, *results = SPLIT.split(text)
    if names:
        one = rf"(?:{'|'.join(map(re.escape, names))})"
        before, *listed = re.split(rf"(?:^|(?<=[.)] ))(?={one}(?:, {one})*: )", text)
    else:
        before, listed = text, []
    if before.strip():
        yield prose(before.strip())
    if listed:
        yield "\n".join(fact(part.strip()) for part in listed)
    yield from map(prose, results)


def fact(line: str) -> str:
    """``name: what it is`` as an item of a list."""
    names, colon, rest = line.partition(": ")
    if not colon:
        return f"- {prose(line)}"
    return f"- {', '.join(f'`{name}`' for name in names.split(', '))}: {prose(rest)}"
