"""What a model wrote stays text on the site: in streams, tables, Markdown, tracebacks, captions and the report."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PAYLOADS = [
    "<script>window.pwned = 1; alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<a href=\"javascript:alert(1)\" onclick='alert(1)'>press</a>",
    "<a href=' java\tscript:alert(1)'>press</a>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe><object data='x'></object><embed src='x'>",
    "<style>@import url(http://evil.example/x.css); body {display: none}</style>",
    "<form action=http://evil.example><button formaction=javascript:alert(1)>go</button></form>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'><base href=http://evil.example>",
    "<details open ontoggle=alert(1)><summary>more</summary></details>",
    "<table class=dataframe style='position:fixed'><tr><td onmouseover=alert(1)>cell</td></tr></table>",
    '<math><mtext></mtext><mglyph><style><!--</style><img title="--><img src=x onerror=alert(1)>">',
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    "</pre></div></article><script>alert(1)</script>",
    "<!--><script>alert(1)</script>-->",
    "[press](javascript:alert(1)) ![pixel](http://evil.example/pixel.png) <javascript:alert(1)>",
    "```{raw} html\n<script>alert(1)</script>\n```",
    "```{include} /etc/passwd\n```",
    "{raw-html}`<b onclick=alert(1)>` $\\href{javascript:alert(1)}{x}$ $\\require{html}\\style{position:fixed}{x}$",
]
FORBIDDEN = [
    "script",
    "style",
    "iframe",
    "object",
    "embed",
    "form",
    "meta",
    "base",
    "svg",
    "math",
    "noscript",
    "template",
]


def hostile_notebook():
    """Every payload as every kind of output."""
    cells = [new_markdown_cell("# Hostile")]
    for text in PAYLOADS:
        outputs = [
            new_output("stream", name="stdout", text=text),
            new_output("error", ename=text, evalue=text, traceback=[text]),
        ]
        for kind in (
            "text/plain",
            "text/html",
            "text/markdown",
            "text/latex",
            "image/svg+xml",
            "application/javascript",
        ):
            outputs.append(new_output("display_data", {kind: text}))
        view = {"model_id": text, "version_major": 2, "version_minor": 0}
        outputs.append(
            new_output("display_data", {"application/vnd.jupyter.widget-view+json": view, "text/html": text})
        )
        cells.append(new_code_cell(f"print({text!r})", outputs=outputs))
    return new_notebook(
        cells=cells, metadata={"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"x": PAYLOADS[0]}}}}
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A small repository full of hostile text, built as a site."""
    root, out = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("built")
    texts = {
        "README.md": "# Readme\n\nText.\n",
        "reports/tiny/report.md": "# Report\n\n" + "\n\n".join(PAYLOADS[:-4]),
        "reports/tiny/long-to-short/tables/main.md": "| method | answer |\n|---|---|\n"
        + "".join(f"| x | {p} |\n" for p in PAYLOADS if "\n" not in p),
        "reports/tiny/long-to-short/notebooks/.keep": "",
        "figures/tiny/long-to-short/trade_off.svg": "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        "figures/tiny/long-to-short/trade_off.json": json.dumps(
            {"caption": " ".join(PAYLOADS), "provenance": {"source": PAYLOADS[0]}}
        ),
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in ("notebooks/questions/1-evil.ipynb", "reports/tiny/questions/evil/1-evil.ipynb"):
        (root / name).parent.mkdir(parents=True)
        nbformat.write(hostile_notebook(), root / name)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "website.stage", out / "source", root], check=True, cwd=ROOT, env=environment)
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-Q", "-b", "html", "-c", ROOT / "website", out / "source", out / "site"],
        check=True,
        env=environment,
    )
    return out / "site"


def pages(folder):
    return [p for p in sorted(folder.rglob("*.html")) if "_static" not in p.parts]


def test_no_markup_of_a_model_reaches_a_page(hostile):
    found = {p.relative_to(hostile).as_posix(): BeautifulSoup(p.read_text(), "html.parser") for p in pages(hostile)}
    assert {
        "contents.html",
        "reports/tiny/report.html",
        "reports/tiny/long-to-short/tables/main.html",
        "reports/tiny/questions/evil/1-evil.html",
    } <= set(found)
    for name, soup in found.items():
        assert not soup.select(", ".join(f"article {tag}" for tag in FORBIDDEN)), name
        for tag in soup.body.find_all(True):
            assert not [key for key in tag.attrs if key.startswith("on")], f"{name}: {tag}"
            for key in ("href", "src", "action", "formaction", "data", "srcdoc"):
                value = "".join(tag.get(key, "").split()).lower()
                assert "evil.example" not in value and not value.startswith(("javascript:", "data:", "vbscript:")), (
                    f"{name}: {tag}"
                )
        assert not any(
            "alert(1)" in script.get_text() or "pwned" in script.get_text() for script in soup.find_all("script")
        ), name
        assert "root:x:0" not in soup.get_text(), name


def test_what_was_written_can_still_be_read(hostile):
    text = (
        BeautifulSoup((hostile / "reports/tiny/questions/evil/1-evil.html").read_text(), "html.parser")
        .select_one("article")
        .get_text()
    )
    for payload in PAYLOADS:
        assert payload.split("\n")[0] in text


def test_nothing_of_it_runs(hostile, serve, open_page):
    page, address = open_page(), serve(hostile)
    for path in pages(hostile):
        page.goto(f"{address}/{path.relative_to(hostile)}", wait_until="load")
        page.wait_for_timeout(200)
        assert page.evaluate("window.pwned") is None
    page.goto(f"{address}/search.html?q=press")
    page.wait_for_timeout(1000)
    assert page.trouble == []
