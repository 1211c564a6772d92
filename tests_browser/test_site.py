"""The built site: nothing missing, nothing from elsewhere, legible to all, on a desk and on a phone, and searchable."""

import gzip
import io
import json
import re
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from conftest import DESK, PHONE, SITE
from PIL import Image, ImageStat

from website.navigation import SECTIONS

PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html") if "_static" not in p.parts)
QUESTIONS = [page for page in PAGES if re.match(r"reports/\w+/questions/", page) and not page.endswith("files.html")]
FOUND = ["contents.html", "results.html", "questions.html", "paper.html", "reports/tiny/report.html",
         "reports/smol/report.html", "reports/paper-numbers/paper-numbers.html", *QUESTIONS]  # fmt: skip
LIMITS = {  # page of each kind → kB that it fetches, compressed, before its reader does anything
    "contents.html": 300,
    "results.html": 300,
    "questions.html": 300,
    "paper.html": 300,
    "reports/tiny/report.html": 300,
    "reports/tiny/questions/estimate/1-estimate.html": 300,
    "reports/tiny/long-to-short/notebooks/5-tables.html": 300,
    "reports/tiny/long-to-short/tables/main.html": 300,
    "reports/paper/table-1.html": 300,
    "reports/community/README.html": 300,
    "course.html": 300,
    "notebooks/course/3-information.html": 300,
    "explore.html": 320,
    "notebooks/explore/2-merge-playground.html": 300,
    "guide.html": 300,
    "docs/merging.html": 300,
    "commands.html": 300,
    "python.html": 300,
    "figures.html": 400,  # pictures alone
    "figures/tiny/questions/figures.html": 400,
    "README.html": 450,  # with the moving picture
    "figures/tiny/general/files.html": 300,
    "search.html": 300,
}
KINDS = [page for page in LIMITS if page in PAGES]
NARROW = {"width": 330, "height": 800}
# what of a page lies beyond the screen, and in no box of its own that scrolls; the theme would let the article scroll
BEYOND = """() => {
  const article = document.querySelector(".bd-article-container") ?? document.body;
  const boxed = (node) => {
    for (let box = node.parentElement; box && box !== article; box = box.parentElement)
      if (getComputedStyle(box).overflowX !== "visible") return true;
    return false;
  };
  const beyond = (node) => node.getBoundingClientRect().width && node.getBoundingClientRect().right > innerWidth + 1;
  const found = [...article.querySelectorAll("*")].filter((node) => beyond(node) && !boxed(node));
  const wide = document.documentElement.scrollWidth > innerWidth ? ["the page itself"] : [];
  return [...wide, ...found.map((node) => `${node.tagName} ${node.textContent.slice(0, 60)}`)];
}"""


def test_every_kind_of_page_is_there():
    assert set(LIMITS) <= set(PAGES) and len(PAGES) > 120 and len(QUESTIONS) > 8


def test_every_page_opens_without_errors_and_fits_a_small_phone(site, open_page):
    page, wide = open_page(), []
    for name in (name for name in PAGES if not name.endswith("/files.html")):
        page.set_viewport_size(DESK)
        page.goto(f"{site}/{name}", wait_until="load")
        page.set_viewport_size(NARROW)
        out = page.evaluate(BEYOND)
        wide += [f"{name}: {out[:3]}"] * bool(out)
    assert page.trouble == []
    assert wide == []


@pytest.mark.parametrize("name", ["docs/results.html", "commands.html", "reports/tiny/report.html"])
def test_a_wide_table_scrolls_within_its_box(site, open_page, name):
    page = open_page(NARROW)
    page.goto(f"{site}/{name}")
    boxes = page.evaluate("""[...document.querySelectorAll("article table")].filter((t) => t.offsetWidth > 330).map(
      (t) => {
        for (let box = t.parentElement; box; box = box.parentElement)
            if (getComputedStyle(box).overflowX === "auto") return box.clientWidth;
        return 9999;
    })""")
    assert boxes and max(boxes) <= NARROW["width"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(site, open_page, dark):
    page, found = open_page(dark=dark), []
    for name in KINDS:
        page.goto(f"{site}/{name}", wait_until="load")
        for violation in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]:
            node = violation["nodes"][0]
            what = f"{node['html'][:160]} {node['failureSummary'][:300]}"
            found.append(f"{name}: {violation['id']} × {len(violation['nodes'])}: {what}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("size", [{"width": 1280, "height": 800}, {"width": 390, "height": 800}], ids=["desk", "phone"])
def test_the_first_screen_says_what_was_found(site, open_page, size):
    page, low = open_page(size), []
    for name in FOUND:
        page.goto(f"{site}/{name}", wait_until="load")
        box = page.locator("article .finding").first.bounding_box()
        assert page.locator("article .finding").first.inner_text().startswith("Finding.") and box
        if box["y"] > 450 or min(box["y"] + box["height"], box["y"] + 300) > size["height"]:
            low.append(f"{name}: {box}")
    assert low == []


@pytest.mark.parametrize("name", ["questions.html", "explore.html", "figures.html", "course.html"])
def test_cards_have_pictures_and_lead_somewhere(site, open_page, shot, name):
    page = open_page()
    page.goto(f"{site}/{name}")
    cards = page.locator(".cards .sd-card")
    assert cards.count() >= 4
    for card in cards.all():
        picture = card.locator("img")
        picture.scroll_into_view_if_needed()
        page.wait_for_function("(img) => img.complete && img.naturalWidth > 100", arg=picture.element_handle())
        assert card.locator("a").first.get_attribute("href").partition("#")[0].endswith(".html")
    shot(page, f"site-cards-{Path(name).stem}")
    assert page.trouble == []


def test_lessons_and_explorers_show_what_they_compute_and_lead_to_the_live_page(site, open_page):
    page = open_page()
    for name in (name for name in PAGES if re.match(r"notebooks/(course|explore)/", name) and "files" not in name):
        page.goto(f"{site}/{name}")
        assert page.locator("article .cell_output").count() >= 1, name
        assert page.locator("article .cell_output").filter(has_text="Traceback").count() == 0, name
        page.locator("article a[href='../../index.html']").first.wait_for()
        assert "shown without outputs" not in page.locator("article").inner_text(), name
    page.locator("article a[href='../../index.html']").first.click()
    page.wait_for_url("**/index.html*")


@pytest.mark.parametrize("name", ["index.html", "contents.html", "notebooks/course/1-task-vectors.html"])
def test_all_pages_have_the_same_sections_in_the_same_order(site, open_page, name):
    page = open_page()
    page.goto(f"{site}/{name}")
    links = page.locator("nav[aria-label=sections]").first.locator("a")
    assert [text.strip() for text in links.all_inner_texts()] == list(SECTIONS)
    current = {"index.html": "Live", "contents.html": "Overview"}.get(name, "Course")
    assert [a.inner_text().strip() for a in links.all() if a.get_attribute("aria-current")] == [current]


@pytest.mark.parametrize("name", ["figures/tiny/long-to-short/figures.html", "notebooks/course/1-task-vectors.html"])
def test_plots_are_dark_on_light_or_light_on_dark_as_the_theme_is(site, open_page, name):
    mean = {}
    for dark in (False, True):
        page = open_page(dark=dark)
        page.goto(f"{site}/{name}")
        plot = page.locator("figure.plot img, .cell_output img").first
        plot.scroll_into_view_if_needed()
        page.wait_for_function("(img) => img.complete", arg=plot.element_handle())
        mean[dark] = ImageStat.Stat(Image.open(io.BytesIO(plot.screenshot())).convert("L")).mean[0]
    assert mean[False] > 200 and mean[True] < 60


def test_a_page_fetches_little_before_its_reader_does_anything(serve, open_page):
    class Compressed(SimpleHTTPRequestHandler):
        """As the usual hosts of such pages: text is compressed."""

        def log_message(self, *_):
            pass

        def do_GET(self):
            path = Path(self.translate_path(self.path))
            if path.suffix not in (".html", ".js", ".css", ".svg") or not path.is_file():
                return super().do_GET()
            text = gzip.compress(path.read_bytes())
            self.send_response(200)
            headers = {"Content-Type": self.guess_type(path), "Content-Encoding": "gzip", "Content-Length": len(text)}
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(text)

    address, large = serve(SITE, Compressed), []
    for name, limit in LIMITS.items():
        page, fetched = open_page({"width": 1280, "height": 800}), []
        watch = page.context.new_cdp_session(page)
        watch.send("Network.enable")
        watch.on("Network.loadingFinished", lambda event, into=fetched: into.append(event["encodedDataLength"]))
        page.goto(f"{address}/{name}")
        page.wait_for_load_state("networkidle")
        total = sum(fetched) / 1000
        print(f"{name}: {total:.0f} kB")
        large += [f"{name}: {total:.0f} kB"] * (total > limit or total < 50)
        page.close()
    assert large == []


def test_every_page_has_a_title_in_the_search():
    script = (SITE / "searchindex.js").read_text()
    index = json.loads(script[script.index("(") + 1 : script.rindex(")")])
    assert [name for name, title in zip(index["docnames"], index["titles"], strict=True) if "no title" in title] == []


def test_every_picture_has_alternative_text_and_every_figure_its_sources():
    for name in PAGES:
        soup = BeautifulSoup((SITE / name).read_text(), "html.parser")
        assert all(len(image.get("alt", "")) > 10 for image in soup.select("article img")), name
        for figure in soup.select("figure.plot"):
            links = [a["href"] for a in figure.select("a[href]")]
            assert figure.img["src"].endswith(".svg"), name
            assert any(link.endswith((".html", "#")) for link in links) and any(
                link.endswith(".json") for link in links
            ), name
            assert re.search(r"Source hash [0-9a-f]{8,}", figure.get_text()), name


def test_links_and_parts_of_all_pages_are_there():
    for name in PAGES:
        soup = BeautifulSoup((SITE / name).read_text(), "html.parser")
        for target in {tag.get("href") or tag.get("src") for tag in soup.select("a[href], link[href], [src]")}:
            place = unquote(target.partition("#")[0].partition("?")[0])
            if place and not re.match(r"[a-z]+:", place):
                assert ((SITE / name).parent / place).exists(), f"{name}: {target}"


def test_dark_and_light_differ_and_can_be_chosen(site, open_page, shot):
    page = open_page(dark=False)
    page.goto(f"{site}/contents.html")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    shot(page, "site-light")
    page.locator("button[aria-label='Color mode']:visible").click()
    page.locator("button.theme-change-button[data-mode=dark]:visible").click()
    assert page.evaluate(background) != light
    shot(page, "site-dark")


@pytest.mark.parametrize("from_disk", [False, True], ids=["served", "from disk"])
def test_search_finds_a_page(site, open_page, shot, from_disk):
    page = open_page()
    page.goto(f"{SITE.as_uri() if from_disk else site}/search.html?q=frontier")
    results = page.locator("#search-results ul.search li")
    results.first.wait_for()
    page.wait_for_function("document.querySelectorAll('#search-results ul.search li').length > 3")
    shot(page, "site-search")
    assert page.trouble == []


def test_formulas_are_typeset_without_the_network(site, open_page):
    page = open_page()
    page.goto(f"{site}/notebooks/course/3-information.html")
    page.locator("mjx-container svg").first.wait_for()
    assert page.locator("article .math:not(:has(mjx-container))").count() == 0
    assert page.trouble == []


def test_a_phone_reaches_every_section_by_the_menu(site, open_page, shot):
    page = open_page(PHONE)
    page.goto(f"{site}/reports/tiny/report.html")
    shot(page, "site-phone")
    page.locator("button.primary-toggle:visible, label.primary-toggle:visible").first.click()
    page.get_by_role("link", name="Figures").first.click()
    page.wait_for_url("**/figures.html")
    assert page.locator(".cards img").count() >= 10
