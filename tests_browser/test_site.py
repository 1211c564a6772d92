"""The built site: nothing missing, nothing from elsewhere, legible to all, on a desk and on a phone, and searchable."""

import re
from urllib.parse import unquote

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from conftest import DESK, PHONE, SITE

PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html") if "_static" not in p.parts)
KINDS = [
    "contents.html",
    "results.html",
    "reports/tiny/report.html",
    "reports/tiny/questions/estimate/1-estimate.html",
    "reports/tiny/long-to-short/notebooks/5-tables.html",
    "figures.html",
    "docs/merging.html",
    "explore.html",
    "course.html",
    "notebooks/explore/2-merge-playground.html",
    "notebooks/course/3-information.html",
    "notebooks/paper/table-1.html",
]
KINDS = [page for page in KINDS if page in PAGES]


def test_every_page_opens_without_errors_and_fits_a_phone(site, open_page):
    page, wide = open_page(), []
    for name in (name for name in PAGES if not name.endswith("/files.html")):
        page.set_viewport_size(DESK)
        page.goto(f"{site}/{name}", wait_until="load")
        page.set_viewport_size(PHONE)
        width = page.evaluate("document.documentElement.scrollWidth")
        wide += [f"{name}: {width} pixels"] * (width > PHONE["width"])
    assert len(PAGES) > 40
    assert page.trouble == []
    assert wide == []


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
    assert page.locator("figure.plot img").count() >= 10
