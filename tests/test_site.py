"""The site: hostile HTML is defused, links and figures keep their sources.

What Sphinx makes of it is tested by `make test-browser`.
"""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import typer
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from packaging.requirements import Requirement

import acm
from acm.__main__ import app
from acm.display import Shown
from acm.paths import ROOT
from website import commands, executed, findings, live, navigation, reference, safe
from website.stage import Stage
from website.text import plain, prose

LONGEST = 30  # characters of a title in the sidebar
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)></svg>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='java&#9;script:alert(1)'>x</a>",
    "<iframe src=x></iframe>",
    "<style>body {display: none}</style>",
    "<b onclick=alert(1)>x</b>",
    "<details ontoggle=alert(1) open>x</details>",
    "<table class='dataframe evil' style='x'><td onmouseover=alert(1)>x</td></table>",
    "<form action=x><input autofocus onfocus=alert(1)></form>",
    "<math><mglyph><style><!--</style><img title='--><img src=x onerror=alert(1)>'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--><script>alert(1)</script>-->",
    "<details <script>alert(1)</script>>",
    "<b/onclick=alert(1)>x",
    "<p\nonclick=alert(1)>x",
    "<scr<script>ipt>alert(1)</script>",
    "<meta http-equiv=refresh content=0>",
    "<base href=//x>",
]


@pytest.mark.parametrize("html", HOSTILE)
def test_html_keeps_nothing_that_runs_loads_or_restyles(html):
    for tag in BeautifulSoup(safe.clean(html), "html.parser").find_all(True):
        assert tag.name in safe.TAGS, tag
        assert set(tag.attrs) <= safe.PLAIN | {"href", "open", "class"}, tag
        assert tag.get("class", ["dataframe"]) == ["dataframe"] and "script" not in tag.get("href", ""), tag


def test_tables_and_half_pairs_pass():
    table = pd.DataFrame({"answer": ["<b>1</b>"]}, index=["x & y"]).to_html()
    before, after = (BeautifulSoup(html, "html.parser") for html in (table, safe.clean(table)))
    assert [c.get_text() for c in after.select("th, td")] == [c.get_text() for c in before.select("th, td")]
    assert (
        after.table["class"] == ["dataframe"]
        and not after.select("b")
        and not [th for th in after.select("th") if not th.get_text()]
    )
    assert safe.clean("<details><summary>Hint</summary>") == "<details><summary>Hint</summary>"
    assert safe.clean("</details>\n") == "</details>\n"


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)",
        " JavaScript:x",
        "java\nscript:x",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "http://[",
    ],
)
def test_links_that_run_or_read_files_are_refused(target):
    assert not safe.is_safe_link(target)


def test_links_of_the_web_and_of_the_site_pass():
    assert all(map(safe.is_safe_link, ["https://arxiv.org/abs/2505.14009", "a/b.html#c", "#c", "mailto:a@b.c"]))
    assert safe.is_local("_images/a.svg") and not any(
        map(safe.is_local, ["http://x/a.png", "//x/a.png", "data:image/png;base64,x"])
    )


@pytest.mark.parametrize(
    "text", ["*a* _b_ `c` [d](e) ![f](g) <b>h</b> $i$ | j", "# k", "{raw}`l` &lt; \\m https://x.y", *HOSTILE]
)
def test_captions_are_taken_as_plain_text(text):
    tokens = MarkdownIt().parse(plain(text))
    assert [t.type for t in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {t.type for t in tokens[1].children} <= {"text", "text_special"}
    assert "".join(t.content for t in tokens[1].children) == " ".join(text.split())


@pytest.fixture
def repository(tmp_path):
    """A stage over a small repository: a report, a notebook and its executed copy, a figure."""
    svg, plot = "<svg xmlns='http://www.w3.org/2000/svg'/>", 'save_figure(figure, folder / "plot")'
    widget = {"model_id": "x", "version_major": 2, "version_minor": 0}
    data = {"image/png": "eA==", "text/plain": "<Figure>", "application/javascript": "alert(1)"}
    outputs = [
        new_output("display_data", {"text/markdown": "**The title**"}),
        new_output("display_data", data, metadata={"figure": "plot"}),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": widget}),
    ]
    intro, moved = (
        new_markdown_cell(f"# Tables\n\nSee [one]({up}1-one.ipynb).") for up in ("", "../../../../notebooks/")
    )
    texts = {
        "README.md": "[report](reports/tiny/report.md), [data](a.csv), [folder](reports/tiny), "
        "[book](notebooks/5-tables.ipynb)",
        "reports/tiny/report.md": "![the plot](../../figures/tiny/e/plot.svg)\n\n[out](../../../secret) [gone](gone.md) [web](https://x.y)",
        "a.csv": "1",
        "../secret": "s",
        "figures/tiny/e/plot.svg": svg,
        "figures/tiny/e/plot.json": json.dumps(
            {"caption": "A *plot*. More.", "provenance": {"drawn_with": {"source": "0123456789abcdef"}}}
        ),
        "reports/tiny/e/records.parquet": "",
    }
    books = {
        "notebooks/1-one.ipynb": [new_markdown_cell("# One")],
        "notebooks/5-tables.ipynb": [intro, new_code_cell(plot)],
        "reports/tiny/long-to-short/notebooks/5-tables.ipynb": [moved, new_code_cell("1")],
        "reports/tiny/e/notebooks/6-figures.ipynb": [moved, new_code_cell("draw_all()", outputs=outputs)],
        "reports/tiny/questions/q/1-q.ipynb": [moved, new_code_cell(plot, outputs=outputs[1:2])],
    }
    root = tmp_path / "root"
    for name, text in (texts | books).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text) if isinstance(text, str) else nbformat.write(
            new_notebook(cells=text), root / name
        )
    stage = Stage(root, tmp_path / "out")
    stage.collect()
    return stage


def test_links_lead_to_pages_files_and_folders_but_not_out(repository):
    executed = "/reports/tiny/long-to-short/notebooks/5-tables.ipynb"
    expected = (
        f"[report](/reports/tiny/report.md), [data](/a.csv), [folder](/reports/tiny/files.md), [book]({executed})"
    )
    assert repository.markdown((repository.root / "README.md").read_text(), Path("README.md")) == expected
    assert (repository.out / "a.csv").read_text() == "1"
    report = Path("reports/tiny/report.md")
    shown = repository.markdown((repository.root / report).read_text(), report)
    assert "[out](#) [gone](#) [web](https://x.y)" in shown
    assert repository.broken == [f"{report}: ../../../secret", f"{report}: gone.md"]


def test_a_figure_brings_caption_alternative_text_and_sources(repository):
    shown = repository.figures.block(Path("figures/tiny/e/plot.svg"), "the plot")
    assert (
        ':alt: "the plot: A *plot*."' in shown and "A \\*plot\\*" in shown and "Source hash 0123456789abcdef" in shown
    )
    for target in (
        "/reports/tiny/e/notebooks/6-figures.ipynb",
        "/reports/tiny/e/records.parquet",
        "/figures/tiny/e/plot.svg",
    ):
        assert f"]({target})" in shown
    assert repository.figures.block(None) == ""


def test_a_notebook_shows_its_saved_figure_and_no_unknown_output(repository):
    book = repository.notebook(Path("reports/tiny/e/notebooks/6-figures.ipynb"))
    assert [c.cell_type for c in book.cells] == ["markdown", "code", "markdown", "markdown"]
    assert "[one](/notebooks/1-one.ipynb)" in book.cells[0].source, "links start from where the notebook is stored"
    assert "Executed copy of `notebooks/6-figures.ipynb`" in book.cells[0].source
    assert book.cells[1].outputs == [] and book.cells[2].source == "**The title**"
    assert "figures/tiny/e/plot.svg" in book.cells[3].source


def test_a_picture_without_a_name_is_the_figure_that_its_cell_saves(repository):
    svg = "figures/tiny/questions/q/plot.svg"
    for kind in (".svg", ".json"):
        place = (repository.root / svg).with_suffix(kind)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((repository.root / "figures/tiny/e/plot").with_suffix(kind).read_bytes())
    path = repository.root / "reports/tiny/questions/q/1-q.ipynb"
    book = nbformat.read(path, 4)
    del book.cells[1].outputs[0].metadata["figure"]
    nbformat.write(book, path)
    assert svg in repository.notebook(path.relative_to(repository.root)).cells[-1].source


def test_no_link_of_the_projects_pages_leads_nowhere(tmp_path):
    stage = Stage(ROOT, tmp_path)
    stage.write()
    assert stage.broken == []
    assert len(set(stage.pages.values())) > 40


def test_the_guide_describes_the_readme_by_its_first_sentence_and_the_picture_keeps_its_width(tmp_path):
    stage = Stage(ROOT, tmp_path)
    stage.collect()
    title, text = stage.describe(Path("README.md"))
    assert title == "ACM companion" and text.startswith("This Jupyter companion")
    shown = stage.markdown((ROOT / "README.md").read_text(), Path("README.md"))
    assert ":::{image} /figures/live.webp\n:width: 330px\n:alt: The live page" in shown and "<img" not in shown
    assert (tmp_path / "figures/live.webp").is_file()


def test_the_rows_of_others_have_a_page_with_their_figures_and_records(tmp_path):
    stage = Stage(ROOT, tmp_path)
    stage.write()
    page = (tmp_path / "reports/community/README.md").read_text()
    targets = re.findall(r"\]\(<?/(reports/community/[^)>]+)", page)
    assert {Path(target).name for target in targets} == {"records.parquet", "recipe.yml", "row.json", "figure.png"}
    assert all((tmp_path / target).is_file() for target in targets) and "| verdict" in page
    results = (tmp_path / "results.md").read_text()
    assert "[Results from other hardware](/reports/community/README.md)" in results
    assert "\nOther hardware </reports/community/README.md>\n" in results


def test_the_start_page_leads_somewhere():
    book = nbformat.read(ROOT / "notebooks/start.ipynb", 4)
    text = "\n".join(c.source for c in book.cells if c.cell_type == "markdown")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert len(targets) > 10 and all((ROOT / "notebooks" / target).exists() for target in targets)


@pytest.mark.parametrize("name", ["requirements-site.txt", "requirements-browser.txt"])
def test_the_sites_packages_have_the_versions_of_the_lock(name):
    locked, site = pins("requirements.lock"), pins(name)
    shared = site.keys() & locked.keys()
    assert len(shared) > 2 and {n: site[n] for n in shared} == {n: locked[n] for n in shared}


def pins(name: str) -> dict[str, str]:
    """Package → version, wherever its marker puts it."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines)
    return {r.name.lower().replace("_", "-"): str(r.specifier) for r in map(Requirement, lines)}


def test_a_shown_object_keeps_its_table_and_words():
    shown = Shown("A title", pd.DataFrame({"n": ["1"]}, ["r0"]), "A caption.", lambda axes: axes.plot([1], [1]))
    found = BeautifulSoup(safe.clean(shown._repr_html_()), "html.parser")
    assert found.table["class"] == ["dataframe"] and not found("img")
    assert found.get_text(" ", strip=True) == "A title n r0 1 A caption."


def test_the_live_page_brings_its_models_for_servers_and_for_folders(tmp_path):
    live.main(str(tmp_path))
    folder, checkpoints = tmp_path / "live", ROOT / "abacus/checkpoints"
    for name in ("abacus-fast", "abacus-slow"):
        weights = (checkpoints / name / "model.safetensors").read_bytes()
        assert (folder / f"{name}.safetensors").read_bytes() == weights
        told = re.fullmatch(r'acmFile\("([\w-]+)", "([\w+/=]+)"\);\n', (folder / f"{name}.js").read_text())
        assert told[1] == name and base64.b64decode(told[2], validate=True) == weights
    handed = json.loads((folder / "data.js").read_text().removeprefix("globalThis.acmLive = ").removesuffix(";\n"))
    assert handed["data"] == json.loads((ROOT / live.DATA).read_text())
    assert handed["tokenizer"] == json.loads((checkpoints / "abacus-fast/tokenizer.json").read_text())
    assert handed["bytes"] == [len((checkpoints / name / "model.safetensors").read_bytes()) for name in handed["names"]]
    first = ("live/data.js", "live/page.js", "live/live.css", "index.html")
    assert sum((tmp_path / name).stat().st_size for name in first) < 300_000, "what comes before the models"


def test_the_live_page_is_utf_8_wherever_it_is_built(tmp_path):
    strict = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning:website.live"]
    run = [sys.executable, *strict, "-c", f"from website import live; live.main({str(tmp_path)!r})"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_live_page_lets_nothing_in_from_elsewhere(tmp_path):
    live.main(str(tmp_path))
    page = BeautifulSoup((tmp_path / "index.html").read_text(), "html.parser")
    policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';") and "unsafe" not in policy
    assert not page.select("[style], style, script:not([src]), base, iframe, form, [onclick], [onload]")
    for tag in page.select("script, link, img"):
        assert re.match(r"live/|data:image/svg", tag.get("src") or tag["href"]), tag


def notebook(folder, *cells):
    """A notebook in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), folder / "a.ipynb")
    return folder / "a.ipynb"


@pytest.mark.parametrize("folder", executed.FOLDERS)
def test_the_kept_copies_are_of_the_notebooks_as_they_are_and_small(folder):
    kept = ROOT / executed.KEPT
    stored = sorted((ROOT / folder).glob("*.ipynb"))
    assert [path.name for path in sorted((kept / folder).glob("*"))] == [path.name for path in stored]
    for path in stored:
        copy = kept / path.relative_to(ROOT)
        text, book = copy.read_text(encoding="utf-8"), nbformat.read(copy, 4)
        assert executed.cells_of(book) == executed.cells_of(nbformat.read(path, 4)), "run `make site-notebooks`"
        assert executed.best(ROOT, path.relative_to(ROOT)) == copy
        assert "/home/" not in text and "/root/" not in text and len(text) < 400_000
        kinds = [o.output_type for c in book.cells for o in c.get("outputs", [])]
        assert kinds and "error" not in kinds


def test_a_kept_copy_has_outputs_but_no_state_of_widgets(tmp_path):
    cells = [new_code_cell("a"), new_markdown_cell("b")]
    notebook(tmp_path / "notebooks/explore", *cells)
    widget = new_output("display_data", {executed.WIDGET: {"model_id": "x"}, "text/plain": "Box()"})
    said = [new_output("stream", name=name, text=name) for name in ("stdout", "stderr")]
    ran = notebook(tmp_path / "ran", new_code_cell("a", outputs=[widget, *said]), new_markdown_cell("b"))
    path = Path("notebooks/explore/a.ipynb")
    executed.keep(ran, path, tmp_path)
    found = nbformat.read(executed.best(tmp_path, path), 4).cells[0].outputs
    assert [o.get("text") or o.data for o in found] == [{executed.WIDGET: {}}, "stdout"]
    notebook(tmp_path / "notebooks/explore", new_code_cell("another"))
    assert executed.best(tmp_path, path) == tmp_path / path, "a copy of other cells is not shown"
    with pytest.raises(ValueError, match="other cells"):
        executed.keep(ran, path, tmp_path)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (new_output("error", ename="KeyError", evalue="x", traceback=[]), "a cell failed: KeyError"),
        (new_output("stream", name="stdout", text=str(ROOT)), "a path of this machine"),
    ],
)
def test_what_failed_or_names_this_machine_is_not_kept(output, why, monkeypatch):
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: pytest.fail("written"))
    book = new_notebook(cells=[new_code_cell("a", outputs=[output])])
    monkeypatch.setattr(nbformat, "read", lambda *_: nbformat.from_dict(json.loads(json.dumps(book))))
    with pytest.raises(ValueError, match=why):
        executed.keep(Path("ran"), Path("a.ipynb"), ROOT)


def test_a_widget_gives_way_to_a_link_to_the_live_page(repository):
    widget = new_output("display_data", {executed.WIDGET: {}})
    path = Path("notebooks/explore/a.ipynb")
    notebook((repository.root / path).parent, new_markdown_cell("# A\n\nIntro."), new_code_cell("a", outputs=[widget]))
    opening, code, after = repository.notebook(path).cells
    assert code.outputs == [] and f"[live page]({navigation.LIVE_LINK})" in after.source
    assert f"({navigation.LIVE_LINK})" in opening.source and "as executed" in opening.source


def test_the_progress_of_a_lesson_is_not_shown_and_its_download_says_that_it_has_no_outputs(tmp_path):
    path = Path("notebooks/course/1-task-vectors.ipynb")
    shown = Stage(ROOT, tmp_path).notebook(path)
    (progress,) = [cell for cell in shown.cells if "course.progress" in cell.source]
    assert progress.outputs == [] and "without outputs" in shown.cells[0].source


def test_a_page_says_first_what_was_found(repository):
    verdict = {"answer": "Length comes with `head`, not [x](javascript:y)."}
    folder = repository.root / "reports/tiny/questions/q"
    (folder / "verdict.json").write_text(json.dumps(verdict))
    title, box, *_ = repository.notebook(Path("reports/tiny/questions/q/1-q.ipynb")).cells[0].source.split("\n\n")
    assert title == "# Tables" and box.startswith("::::{div} finding\n**Finding.** Length comes with `head`")
    assert "not \\[x\\](java" in box
    said = [[new_output("stream", name="stdout", text=text)] for text in ("No.", "None is\nabove\nbelow: all.")]
    ended = [new_markdown_cell("# T"), new_code_cell("0", outputs=said[0]),
             new_markdown_cell("## Conclusion"), new_code_cell("1", outputs=said[1])]  # fmt: skip
    path = notebook(repository.root / "reports/paper", *ended).relative_to(repository.root)
    assert repository.books.finding(path) == "None is above; below\\: all."


@pytest.mark.parametrize("name", ["tiny", "smol", "smol+new"])
def test_a_report_says_its_finding_once_in_its_own_words(name):
    report = (ROOT / "reports" / name / "report.md").read_text()
    told, shown = findings.of_report(report), findings.report(report)
    title, box = report.split("\n")[0], findings.box(told)
    assert told and shown.startswith(f"{title}\n\n{box}\n") and box.startswith("::::{div} finding\n**Finding.**")
    assert all(line in report for line in told.strip().split("\n"))
    assert shown.count("No ACM merge is shown") <= 1


def test_the_guide_has_every_page_once_by_a_short_title():
    listed = [name for pages in navigation.GUIDE.values() for name in pages]
    found = [p.relative_to(ROOT).as_posix() for p in (*ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"))]
    assert len(set(listed)) == len(listed) and set(found) <= set(listed)
    assert all(len(short) <= LONGEST for short in navigation.SHORT.values())
    made = {"commands.md", "python.md", "notebooks.md"}
    assert [name for name in navigation.SHORT if name not in made and not (ROOT / name).is_file()] == []


def test_every_title_in_a_sidebar_is_short_and_every_page_has_one(tmp_path):
    stage = Stage(ROOT, tmp_path)
    stage.write()
    for page in tmp_path.glob("*.md"):
        for block in re.findall(r"```{toctree}\n:hidden:\n(.*?)```", page.read_text(), re.DOTALL):
            for title in re.findall(r"^(.+) <.*>$", block, re.MULTILINE):
                assert len(title) <= LONGEST + 8, (page, title)
    untitled = [p for p in tmp_path.rglob("*.md") if "_downloads-only" not in p.parts
                and not re.search(r"^# \S", p.read_text(), re.MULTILINE)]  # fmt: skip
    assert untitled == []


def test_the_live_page_has_the_sections_of_all_pages(tmp_path):
    live.main(str(tmp_path))
    found = BeautifulSoup((tmp_path / "index.html").read_text(), "html.parser").select("nav[aria-label=sections] a")
    assert {a.get_text(): a["href"] for a in found} == navigation.SECTIONS
    assert [a.get_text() for a in found if a.get("aria-current")] == ["Live"]
    with pytest.raises(ValueError, match="nav"):
        live.with_sections("<nav></nav>")


def test_the_page_of_the_command_line_has_every_command_with_its_example():
    page = commands.page()
    for name, command in typer.main.get_command(app).commands.items():
        part = page.split(f"## acm {name}\n", 1)[1].split("\n## ", 1)[0]
        example = command.epilog.removeprefix("Example: ")
        assert example in part.replace(" \\\n  ", " ")
        for param in command.params:
            assert all(f"`{option}`" in part for option in param.opts), (name, param.name)
    assert (
        max(len(line) for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.split("\n")) < 120
    )


def test_the_page_of_the_python_interface_has_every_public_name_with_its_docstring():
    page = reference.page(ROOT)
    for name in acm.__all__:
        part = page.split(f"### {name}\n", 1)[1].split("\n### ", 1)[0]
        doc = getattr(acm, name).__doc__
        assert re.split(r"[.:`]", doc)[0].strip() in part.replace("\\", "")
        assert ">>>" not in doc or "```pycon\n>>>" in part
        assert "defaults." not in part.split("```")[1], "a default stands as its value"
    assert "estimator: str = 'plug-in'" in page and "- `finetuned`: name" in page


@pytest.mark.parametrize("words", ["`a|b` c|d", "x_1 *y* <b>z</b>", "``q`` `r` $s$", *HOSTILE])
def test_prose_keeps_code_and_interprets_nothing_else(words):
    inline = MarkdownIt().parse(prose(words))[1]
    assert {t.type for t in inline.children} <= {"text", "text_special", "softbreak", "code_inline"}
    assert [t.content for t in inline.children if t.type == "code_inline"] == [
        found.strip("`").strip() for found in re.findall("``?[^`\n]+``?", words)
    ]
