"""Names stand literally in Markdown, LaTeX and CSV, whatever they are; ordinary ones keep their bytes."""

import csv
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from acm import escaping
from acm.reporting.tables import write_table

ODD = st.text(st.sampled_from("ab1 |`*_~[]()<>!&#;:@=+-'\"\\$%{}^/.\n\t\x1b\u202eλü中"), min_size=1, max_size=20)
NAMES = ODD | st.text(min_size=1, max_size=20)
WORST = [
    "a|b", "`x`", "a\n| b", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://a.b/c)", "&lt;",
    "&#60;",
    "*x*", "_x_", "~~x~~", "\\", "\\|", "$x$", "http://a.b", "www.a.b", "a@b.c", "<!-- x -->", "x\\", "]]>",
    "`", "``|``",
]  # fmt: skip


class Cells(HTMLParser):
    """The texts of a table's cells, and the tags of the page."""

    def __init__(self, html):
        super().__init__()
        self.cells, self.tags = [], set()
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if data.strip() and self.cells:
            self.cells[-1] += data


def rendered(markdown):
    return Cells(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def seen(text):
    """A text as a page shows it: spaces run together."""
    return " ".join(text.split())


@given(NAMES, NAMES, NAMES)
def test_a_name_in_markdown_is_one_cell_that_shows_it(row, column, inner):
    page = rendered(escaping.text_table(pd.DataFrame({column: {row: inner}}).rename_axis("name")))
    assert [seen(cell) for cell in page.cells] == ["name", *(seen(escaping.literal(n)) for n in (column, row, inner))]
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("name", ["INF", "1e5", "007", "3.0", "nan"])
def test_a_name_that_looks_like_a_number_stays(name):
    page = rendered(escaping.text_table(pd.DataFrame({name: {name: name}, "n": {name: 0.5}}).rename_axis("name")))
    assert page.cells == ["name", name, "n", name, name, "0.5"]


@pytest.mark.parametrize("name", WORST)
def test_the_worst_names_in_markdown(name):
    page = rendered(escaping.text_table(pd.DataFrame({"n": {name: "1"}}).rename_axis("name")))
    assert page.cells == ["name", "n", escaping.literal(name), "1"]
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    heading = rendered(f"| a |\n|---|\n| {escaping.code(name).replace('|', chr(92) + '|')} |")
    assert seen(heading.cells[-1]) == seen(escaping.literal(name))


@pytest.mark.parametrize("name", ["http://a.b/c", "HTTPS://a.b", "www.a.b", "a@b.c"])
def test_no_name_becomes_a_link_on_github(name):
    assert not re.search(r"://|www\.|\w@\w", escaping.markdown(name), re.IGNORECASE)


@given(NAMES)
@example("\r")
def test_no_name_gives_a_formula_or_a_further_cell_in_csv(name):
    text = escaping.csv_table(pd.DataFrame({"method": [name, "b"], "value": [-1.5, 2]}))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    shown = rows[1][0]
    assert [len(row) for row in rows] == [2, 2, 2]
    assert not shown.startswith(escaping.FORMULA)
    assert shown in (name.replace("\r", r"\r"), f"'{escaping.literal(name)}")
    assert rows[1][1] == "-1.5000"  # numbers are no text


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@SUM(A1)", "=cmd|'/c calc'!A1"])
def test_what_a_spreadsheet_would_compute_is_text(name):
    assert escaping.cell(name) == f"'{name}"
    assert escaping.cell(-1.5) == -1.5


@given(NAMES)
def test_latex_has_no_bare_special_character(name):
    text = escaping.latex(name)
    commands = "textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl"
    plain = re.sub(rf"\\(?:{commands})\{{\}}|\\[%_&#${{}}]|^\{{[\[*]\}}", "", text)
    assert not set(plain) & set('\\{}%_&#$^~<>|"\n')
    assert text[:1] not in ("[", "*")


@pytest.mark.parametrize(
    "name", ["ACM-TA", "abacus_easy (n = 250)", "frontier-0.7", "75.6 [69.9, 80.5] (19 [19, 20])", "p < 0.001", "λ"]
)
def test_ordinary_names_keep_their_bytes(name):
    assert escaping.markdown(name) == name
    assert escaping.cell(name) == name
    assert escaping.code(name) == f"`{name}`"
    assert escaping.latex(name).replace("\\_", "_").replace(r"\textless{}", "<") == name


@pytest.mark.parametrize("name", ["$x$", "a$b", "$\\frac$", "$$", "\x1b[31m$_$"])
def test_a_figures_label_is_no_mathematics(name):
    figure, file = plt.figure(), io.BytesIO()
    figure.text(0, 0, escaping.figure_text(name))
    with plt.rc_context({"svg.fonttype": "none"}):  # texts as texts
        figure.savefig(file, format="svg")
    plt.close(figure)
    assert escaping.literal(name) in "".join(ElementTree.fromstring(file.getvalue()).itertext())


def test_written_tables_hold_the_names(tmp_path):
    shown = pd.DataFrame({"<b>t|": ["1"]}, index=pd.Index(["=x\n| y"], name="method"))
    write_table(pd.DataFrame({"method": ["=x\n| y"], "n": [-1]}), shown, tmp_path / "a", "Of <b>[x](y).")
    assert (tmp_path / "a.csv").read_text() == "method,n\n'=x\\n| y,-1\n"
    page = rendered((tmp_path / "a.md").read_text())
    assert page.cells[:3] == ["method", "<b>t|", "=x\\n| y"]
    assert not page.tags & {"b", "a"}
    assert r"=x\textbackslash{}n\textbar{} y & 1 \\" in (tmp_path / "a.tex").read_text()
