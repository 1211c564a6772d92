"""One lock for all systems: it satisfies pyproject.toml everywhere and lists no CUDA. All other lists agree with it."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import acm
from acm.course.copies import lessons, read_lesson
from acm.errors import UserError, absent
from acm.paths import PROFILES, ROOT, TASKS, require_clone

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PLATFORMS = {
    "linux": ("posix", "x86_64"),
    "linux-arm": ("posix", "aarch64"),
    "darwin": ("posix", "arm64"),
    "win32": ("nt", "AMD64"),
}
# by what they are imported, where that is not their name
IMPORTED = {"sklearn": "scikit-learn", "yaml": "pyyaml", "lm_eval": "lm-eval", "IPython": "ipykernel"}
# what a course's environment lacks
HIDDEN = ["lm_eval", "datasets", "snakemake", "papermill", "jupyterlab", "nbclient", "optuna", "tabulate"]
# imported where it is there, or with instructions of its own: docs/backends.md, requirements-smol-train.txt; peft and
# nltk come with lm-eval, langdetect with lm-eval[ifeval]: docs/benchmarks.md
UNLISTED = {"vllm", "sentence_transformers", "reasoning_gym", "peft", "nltk", "langdetect"}


def environment(platform: str, python: str) -> dict[str, str]:
    os_name, machine = PLATFORMS[platform]
    return {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform.partition("-")[0],
        "os_name": os_name, "platform_machine": machine, "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "extra": "",
    }  # fmt: skip


def listed(name: str, where: dict[str, str] | None = None) -> dict[str, str]:
    """Package → version of the lines of a list whose markers hold there (None: here); each package once, with ==."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    found = [r for r in map(Requirement, lines) if not r.marker or r.marker.evaluate(where)]
    versions = {canonicalize_name(r.name): str(r.specifier) for r in found}
    assert len(versions) == len(found) and all(v.startswith("==") for v in versions.values())
    return {package: pin.removeprefix("==") for package, pin in versions.items()}


def wanted(*extras: str) -> list[Requirement]:
    lines = [line for extra in extras for line in EXTRAS[extra]]
    return [Requirement(line) for line in [*PROJECT["dependencies"], *lines] if not line.startswith("acm-companion")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_satisfies_pyproject_everywhere(platform, python):
    assert python in SpecifierSet(PROJECT["requires-python"])
    locked = listed("requirements.lock", environment(platform, python))
    for requirement in wanted("evaluate", "notebooks", "course", "test", "dev"):
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_locks_markers_tell_the_systems_apart():
    linux, mac, windows = (
        listed("requirements.lock", environment(name, "3.13")) for name in ("linux", "darwin", "win32")
    )
    assert "pexpect" in linux and "pexpect" not in windows and "pywinpty" in windows and "pywinpty" not in linux
    assert "appnope" in mac and "appnope" not in linux


def test_no_list_has_cuda():
    for name in ("requirements.lock", "requirements-site.txt", "requirements-browser.txt"):
        found = re.findall(r"^(?:nvidia|cuda|triton).*", (ROOT / name).read_text(), re.MULTILINE)
        assert not found, "pip adds what torch's own wheel asks for; see `lock` in the Makefile"


def test_every_dependency_has_a_lower_bound():
    stubs = [line for line in EXTRAS["dev"] if line.startswith("types-")]  # their versions are those of the stubbed
    for requirement in wanted(*EXTRAS):
        bounded = any(specifier.operator in (">=", "==", "~=") for specifier in requirement.specifier)
        assert bounded or str(requirement) in stubs, requirement


def test_what_is_installed_is_what_is_locked():
    for package, locked in listed("requirements.lock").items():
        assert version(package).split("+")[0] == locked.split("+")[0], package


def third_party(path: Path) -> set[str]:
    """The packages that a module imports, at its top or within a function."""
    return tops(ast.parse(path.read_text(encoding="utf-8")))


def tops(tree: ast.Module) -> set[str]:
    """The packages that code imports, at its top or within a function."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    first = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    return {canonicalize_name(IMPORTED.get(top, top)) for top in first - {"acm", "abacus", "smol"} - UNLISTED}


def test_what_is_imported_is_asked_for():
    core, whole = (
        {canonicalize_name(r.name) for r in wanted(*extras)} for extras in ((), ("evaluate", "notebooks", "search"))
    )
    for folder in ("abacus", "acm", "smol"):
        for path in (ROOT / folder).rglob("*.py"):
            assert third_party(path) <= whole, path
    for folder in ("abacus", "acm", "acm/calibration", "acm/merging"):
        for path in (ROOT / folder).glob("*.py"):
            assert third_party(path) <= core | {"datasets", "matplotlib"}, f"{path}: texts of the hub and plots apart"


def test_lessons_import_what_the_course_brings():
    brought = {canonicalize_name(r.name) for r in wanted("course")}
    assert brought <= {canonicalize_name(r.name) for r in wanted("notebooks")}, "`make` brings the course too"
    for path in lessons():
        cells = [cell.source for cell in read_lesson(path).cells if cell.cell_type == "code"]
        assert tops(ast.parse("\n".join(cells))) <= brought, path


@pytest.mark.slow
def test_lessons_import_without_the_pipelines_packages():
    imports = []
    for path in lessons():
        code = "\n".join(cell.source for cell in read_lesson(path).cells if cell.cell_type == "code")
        found = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
        imports += [ast.unparse(node) for node in found]
    start = f"import sys; sys.modules.update(dict.fromkeys({HIDDEN!r}))"
    code = "\n".join([start, *dict.fromkeys(imports), "Playground(0.5)", "course.checkers()"])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_conda_and_binder_install_the_lock_on_a_python_that_it_is_for():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(d for d in conda["dependencies"] if str(d).startswith("python="))
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert conda["dependencies"][-1]["pip"] == ["-r requirements.lock", "-e ."]
    assert (ROOT / "binder/runtime.txt").read_text().strip().removeprefix("python-") == python.removeprefix("python=")
    assert "-r ../requirements.lock" in (ROOT / "binder/requirements.txt").read_text()


def test_docker_installs_the_lock_and_codespaces_build_the_same_image():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    image = next(line for line in lines if line.startswith("FROM ")).removeprefix("FROM python:")
    assert image.removesuffix("-slim") == (ROOT / "binder/runtime.txt").read_text().strip().removeprefix("python-")
    copied = [line.split()[2] for line in lines if line.startswith("COPY ")]
    assert copied == ["requirements.lock", "."] and all((ROOT / name).exists() for name in copied)
    assert any(line.endswith("-r requirements.lock") for line in lines) and "EXPOSE 8888" in lines
    assert json.loads(lines[-1].removeprefix("CMD "))[-1] == "notebooks/start.ipynb"
    assert {"runs", ".venv*", ".git"} <= set((ROOT / ".dockerignore").read_text().split())
    box = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / box["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert box["forwardPorts"] == [8888] and f"USER {box['remoteUser']}" in lines


def test_the_version_is_the_same_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == acm.__version__
    assert version("acm-companion") == acm.__version__


# of a deposit on Zenodo, as developers.zenodo.org documents them: required fields, further ones, and fixed values
ZENODO = {"title", "upload_type", "description", "creators"}
ZENODO_MORE = {"version", "license", "access_right", "language", "keywords", "related_identifiers", "notes",
               "contributors", "references", "communities", "grants", "publication_date", "doi"}  # fmt: skip
RELATIONS = {"isCitedBy", "cites", "isSupplementTo", "isSupplementedBy", "isContinuedBy", "continues", "isDescribedBy",
             "describes", "isPartOf", "hasPart", "isReferencedBy", "references", "isDocumentedBy", "documents",
             "isCompiledBy", "compiles", "isVariantFormOf", "isOriginalFormof", "isIdenticalTo",
             "isAlternateIdentifier", "isReviewedBy", "reviews", "isDerivedFrom", "isSourceOf", "requires",
             "isRequiredBy", "isObsoletedBy", "obsoletes"}  # fmt: skip


def test_zenodo_is_told_what_the_citation_says():
    said, cited = json.loads((ROOT / ".zenodo.json").read_text()), yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert ZENODO <= said.keys() <= ZENODO | ZENODO_MORE
    assert said["upload_type"] == cited["type"] == "software" and said["access_right"] == "open"
    assert (said["title"], said["version"], said["license"]) == (cited["title"], cited["version"], cited["license"])
    assert [one["name"] for one in said["creators"]] == [author["name"] for author in cited["authors"]]
    assert all(one.keys() <= {"name", "affiliation", "orcid", "gnd"} for one in said["creators"])
    for one in said["related_identifiers"]:
        assert one.keys() <= {"identifier", "relation", "scheme", "resource_type"} and one["relation"] in RELATIONS
    paper = cited["preferred-citation"]["identifiers"][0]["value"]
    assert [one["identifier"] for one in said["related_identifiers"]] == [paper] and paper in said["description"]
    assert all(isinstance(word, str) for word in said["keywords"]) and said["keywords"] == PROJECT["keywords"]


def test_the_hooks_are_those_of_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    commands = {line.split("$(VENV)/bin/")[1].removesuffix(" --check") for line in lint.splitlines()[1:]}
    assert {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks} == commands


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda p: p.stem)
def test_workflows_ask_for_little(path):
    flow = yaml.safe_load(path.read_text())
    assert flow["permissions"] == {"contents": "read"}, "jobs that need more say so themselves"
    uses = [step["uses"] for job in flow["jobs"].values() for step in job.get("steps", []) if "uses" in step]
    assert uses and all(re.search(r"^\./|@(v\d+|release/v\d+)$", use) for use in uses)


def test_a_clone_is_known_as_one(monkeypatch):
    require_clone("this")
    assert PROFILES == ROOT / "profiles" and TASKS.is_dir()
    monkeypatch.setattr("acm.paths.CLONE", False)
    with pytest.raises(UserError, match=r"^acm course needs a clone of the repository, .*: clone the repository, and "):
        require_clone("acm course")


@pytest.mark.parametrize(
    "module, said",
    [("lm_eval.tasks", r"lm-eval, .*\[evaluate\]"), ("papermill", r"papermill, .*\[notebooks\]"), ("fcntl", "WSL")],
)
def test_an_absent_package_is_told_with_its_extra(module, said):
    assert re.search(said, str(absent(ModuleNotFoundError(name=module))))
    assert absent(ModuleNotFoundError(name="no_such_module")) is None
