"""JupyterLab as a reader meets it: the start page, and each explorer, worked by mouse and keyboard.

What changes on the screen decides.
"""

import json
import urllib.request

import pytest
from conftest import ROOT
from playwright.sync_api import expect

SLOW = 120_000  # milliseconds that a kernel may take to start and to import everything
STEP = 40_000  # and for one change
TALL = {"width": 1280, "height": 1500}  # a whole explorer fits
EXPLORERS = {p.stem: f"explore/{p.name}" for p in sorted((ROOT / "notebooks/explore").glob("*.ipynb"))}


@pytest.fixture
def run_all(lab, open_page):
    """Opens a notebook in JupyterLab and runs all its cells; gives the page once the last cell has its number."""
    address, token = lab

    def run(path):
        page = open_page(TALL)
        page.goto(f"{address}/doc/tree/notebooks/{path}?token={token}&reset", wait_until="domcontentloaded")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=SLOW)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=SLOW)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        code = sum(c["cell_type"] == "code" for c in json.loads((ROOT / "notebooks" / path).read_text())["cells"])
        error = ".jp-OutputArea-output[data-mime-type*=error]"
        page.wait_for_function(
            "([n, error]) => document.querySelector(error) || "
            "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
            ".some(p => p.textContent.trim() === `[${n}]:`)",
            arg=[code, error],
            timeout=SLOW,
        )
        assert page.locator(error).all_inner_texts() == []
        return page

    yield run
    for kernel in kernels(address, token):
        kernels(address, token, f"/{kernel['id']}", "DELETE")


def kernels(address, token, path="", method="GET"):
    """JupyterLab's list of kernels, or what else its interface does with one."""
    request = urllib.request.Request(
        f"{address}/api/kernels{path}", method=method, headers={"Authorization": f"token {token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or "null")


def slide(page, name, presses):
    """Moves the slider of this class by so many arrow presses, left if negative."""
    handle = page.locator(f".{name} .noUi-handle")
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(abs(presses)):
        page.keyboard.press("ArrowRight" if presses > 0 else "ArrowLeft")


def told(page, name):
    """The text of the part of this class."""
    return page.locator(f".{name}").first.inner_text()


def changed(locator, before):
    expect(locator).not_to_have_text(before, timeout=STEP, use_inner_text=True)


def quiet(page):
    """No script failed and nothing was asked from elsewhere; what JupyterLab itself logs does not count."""
    return [
        t
        for t in page.trouble
        if t.startswith(("script:", "dialog:", "request to elsewhere")) and "ResizeObserver" not in t
    ]


def test_the_start_page_opens_runs_and_leads_on(run_all, shot):
    page = run_all("start.ipynb")
    expect(page.locator(".jp-OutputArea-output table").first).to_contain_text("ACM-TA")
    assert page.locator(".jp-OutputArea-output img").first.evaluate("i => i.naturalWidth") > 100
    shot(page, "lab-start")
    page.get_by_role("link", name="trade-off").click()
    expect(page.locator(".jp-Notebook:visible h1", has_text="Explore the trade-off")).to_be_visible(timeout=STEP)
    assert quiet(page) == []


def test_coefficients_follow_temperature_and_shift(run_all, shot):
    page = run_all(EXPLORERS["1-coefficients"])
    explorer, summary = page.locator(".acm-coefficients"), page.locator(".acm-summary")
    expect(explorer.locator(".acm-picture img")).to_be_visible(timeout=STEP)
    before, picture = told(page, "acm-summary"), explorer.locator(".acm-picture img").get_attribute("src")
    slide(page, "acm-t", 5)
    changed(summary, before)
    assert told(page, "acm-t").endswith("1.20")
    expect(explorer.locator(".acm-picture img")).not_to_have_attribute("src", picture, timeout=STEP)
    before, picture = told(page, "acm-summary"), explorer.locator(".acm-picture img").get_attribute("src")
    page.locator(".acm-shift select").select_option("global")
    changed(summary, before)
    expect(explorer.locator(".acm-picture img")).not_to_have_attribute("src", picture, timeout=STEP)
    shot(explorer, "1-coefficients")
    assert quiet(page) == []


def test_the_playground_merges_answers_measures_and_undoes(run_all, shot):
    page = run_all(EXPLORERS["2-merge-playground"])
    answers = page.locator(".acm-answers .acm-card")
    expect(answers).to_have_count(3, timeout=STEP)
    slide(page, "acm-all", 3)
    expect(page.locator(".acm-message")).to_contain_text("merged in", timeout=STEP)
    page.locator(".acm-measure").click()
    expect(page.locator(".acm-table table")).to_contain_text("merge 1", timeout=SLOW)
    points = page.locator(".acm-playground .acm-point").count()
    head = page.locator(".acm-layer-lm_head")
    own = head.inner_text()
    page.locator(".acm-preset-none").click()
    changed(head, own)
    preset = head.inner_text()
    page.locator(".acm-measure").click()
    expect(page.locator(".acm-table table")).to_contain_text("merge 2", timeout=SLOW)
    assert page.locator(".acm-playground .acm-point").count() == points + 1
    shot(page.locator(".acm-playground"), "2-merge-playground")
    page.locator(".acm-undo").click()
    changed(head, preset)
    assert head.inner_text() == own
    box = page.locator(".acm-problem textarea")
    box.fill('<img src=x onerror="window.pwned = 1"> anna has 3 apples. she buys 4. how many apples are left?')
    before = page.locator(".acm-answers").inner_text()
    box.blur()
    changed(page.locator(".acm-answers"), before)
    assert page.evaluate("window.pwned") is None and page.locator(".acm-answers img, .acm-message img").count() == 0
    assert quiet(page) == []


def test_a_point_of_the_trade_off_leads_to_its_responses(run_all, shot):
    page = run_all(EXPLORERS["3-trade-off"])
    point = page.locator(".acm-trade-off .acm-point").first
    expect(point).to_be_visible(timeout=STEP)
    point.hover()
    point.click()
    expect(page.locator(".acm-responses .acm-card").first).to_be_visible(timeout=STEP)
    before = page.locator(".acm-picture img").get_attribute("alt")
    page.locator(".acm-cap .noUi-handle").focus()
    for _ in range(12):  # far enough to cut responses
        page.keyboard.press("PageDown")
    expect(page.locator(".acm-message")).to_contain_text("cap", timeout=STEP)
    expect(page.locator(".acm-picture img")).not_to_have_attribute("alt", before, timeout=STEP)
    expect(page.locator(".acm-table table")).to_contain_text("less TA's", timeout=SLOW)
    shot(page.locator(".acm-trade-off"), "3-trade-off")
    assert quiet(page) == []


def test_responses_go_on_and_are_searched(run_all, shot):
    page = run_all(EXPLORERS["4-responses"])
    asked = page.locator(".acm-asked")
    expect(asked).to_contain_text("right answer", timeout=STEP)
    before = told(page, "acm-asked")
    page.locator(".acm-next").click()
    changed(asked, before)
    shot(page.locator(".acm-responses").first, "4-responses")
    page.locator(".acm-search input").fill("no question says this")
    page.locator(".acm-search input").press("Enter")
    expect(page.locator(".acm-message [role=alert]")).to_contain_text("no question contains that", timeout=STEP)
    page.locator(".acm-search input").fill("apples")
    page.locator(".acm-search input").press("Enter")
    expect(asked).to_contain_text("apples", timeout=STEP)
    assert quiet(page) == []
