"""The browser's modules join into one script, and keep the rules of the house."""

import re

import pytest

from acm.paths import WEB
from acm.widgets import bundle as joining
from acm.widgets.bundle import bundle

MODULES = [path for path in WEB.rglob("*.js") if "test" not in path.parts]


@pytest.fixture
def web(tmp_path, monkeypatch):
    """Writes modules; gives the joined script of the first."""

    def make(**modules: str) -> str:
        for name, text in modules.items():
            (tmp_path / f"{name}.js").write_text(text)
        monkeypatch.setattr(joining, "WEB", tmp_path)
        return bundle(f"{next(iter(modules))}.js")

    return make


def test_what_is_imported_comes_first_and_once(web, node, tmp_path):
    script = web(
        a='import { b } from "./b.js";\nimport {\n  c,\n} from "./c.js";\nconsole.log(b() + c);\n',
        b='import { c } from "./c.js";\nexport function b() {\n  return c + 1;\n}\n',
        c="export const c = 20;\n",
    )
    assert "import" not in script and "export" not in script and script.count("const c") == 1
    (tmp_path / "joined.cjs").write_text(script)
    assert node(str(tmp_path / "joined.cjs")) == "41\n"


def test_the_default_export_of_an_entry_stays(web):
    assert "export default { a };" in web(a="const a = 1;\nexport default { a };\n")


@pytest.mark.parametrize(
    ("modules", "why"),
    [
        (
            {"a": 'import { b } from "./b.js";\nconst x = 1;\n', "b": "const x = 2;\nexport const b = 1;\n"},
            "both declare x",
        ),
        ({"a": 'import { b } from "./b.js";\n', "b": 'import { a } from "./a.js";\n'}, "imports itself"),
        ({"a": 'import b from "./b.js";\n', "b": ""}, "not joined"),
        ({"a": 'import { b } from "./b.js";\n', "b": "export default 1;\n"}, "not joined"),
        ({"a": "export { x };\n"}, "not joined"),
    ],
)
def test_what_cannot_be_joined_is_refused(web, modules, why):
    with pytest.raises(ValueError, match=why):
        web(**modules)


def test_the_worker_is_a_script(node, tmp_path):
    (tmp_path / "worker.cjs").write_text(bundle("core/worker.js"))
    node("--check", str(tmp_path / "worker.cjs"))


def test_no_two_modules_declare_a_name():
    owners: dict[str, list[str]] = {}
    for path in MODULES:
        for name in joining.declared(path.read_text(encoding="utf-8")):
            owners.setdefault(name, []).append(path.name)
    assert not {name: found for name, found in owners.items() if len(found) > 1}


LONGEST = 40  # lines of a function, with what it holds
START = re.compile(r"(?:export )?(?:(?:async )?function\*? ?(\w+)|const (\w+) = (?:async )?(?:\(|function\b|\w+ =>))")


def functions(text: str) -> dict[str, int]:
    """Top-level functions of a module as Prettier writes it, and how many lines each has."""
    lines, found = text.splitlines(), {}
    for first, line in enumerate(lines):
        if not (match := START.match(line)):
            continue
        rest = [] if line.endswith(("}", ";")) else lines[first + 1 :]
        found[match[1] or match[2]] = next((i + 2 for i, end in enumerate(rest) if re.match(r"[})]+;?$", end)), 1)
    return found


def test_the_lines_of_a_function_are_counted_with_what_it_holds():
    text = (
        "export async function a(x, {\n  y,\n}) {\n  const b = () => {\n    x();\n  };\n}\n\n"
        "const c = ({\n  x,\n}) => {\n};\n"
        "const d = (x) => x;\nfunction e() {}\nconst NAMES = {\n  f: 1,\n};\n"
    )
    assert functions(text) == {"a": 7, "c": 4, "d": 1, "e": 1}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_functions_are_short(path):
    found = functions(path.read_text(encoding="utf-8"))
    assert {name: lines for name, lines in found.items() if lines > LONGEST} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_are_small_and_harmless(path):
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) < 300 and max(map(len, lines)) <= 120
    forbidden = ("eval(", "new Function", "innerHTML", "document.write", "insertAdjacentHTML")
    assert not [word for word in forbidden if word in text]
