"""JupyterLab as a reader meets it: the start page, and each explorer, worked by mouse and keyboard.

What changes on the screen decides. How long the first change took is printed and kept beside the screenshots.
"""

import json
import urllib.request

import pytest
from conftest import ROOT, SHOTS
from playwright.sync_api import expect

SLOW = 120_000  # milliseconds that a kernel may take to start and to import everything
STEP = 40_000  # and for one change
TALL = {"width": 1280, "height": 1500}  # a whole explorer fits
SCREEN, NARROW = {"width": 1280, "height": 800}, {"width": 640, "height": 900}
TIME = """name => {
  const timing = (window.timing = {began: null, took: null});
  for (const kind of ["keydown", "pointerdown"])
    document.addEventListener(kind, () => (timing.began ??= performance.now()), true);
  new MutationObserver(() => (timing.took ??= timing.began && performance.now() - timing.began)).observe(
    document.querySelector(name), {subtree: true, childList: true, attributes: true, characterData: true});
}"""  # from the first key or press until the part of this name has changed
EXPLORERS = {p.stem: f"explore/{p.name}" for p in sorted((ROOT / "notebooks/explore").glob("*.ipynb"))}


@pytest.fixture
def run_all(lab, open_page):
    """Opens a notebook in JupyterLab and runs all its cells; gives the page once the last cell has its number."""
    address, token = lab

    def run(path, viewport=TALL, place="doc"):
        page = open_page(viewport)
        page.goto(f"{address}/{place}/tree/notebooks/{path}?token={token}&reset", wait_until="domcontentloaded")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=SLOW)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=SLOW)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        code = sum(c["cell_type"] == "code" for c in json.loads((ROOT / "notebooks" / path).read_text())["cells"])
        error = ".jp-OutputArea-output[data-mime-type*=error]"
        page.wait_for_function(
            """([n, error]) => document.querySelector(error) ||
              [...document.querySelectorAll(".jp-InputPrompt")].some(p => p.textContent.trim() === `[${n}]:`)
              || ([...document.querySelectorAll(".jp-CodeCell")].at(-1).querySelector(".jp-OutputArea-output")
                && document.querySelector("#jp-main-statusbar").textContent.includes("| Idle"))""",
            arg=[code, error],  # a folded cell shows no number: its output tells
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
    assert page.get_by_text("Jupyter news").count() == 0, "JupyterLab asks for no news"
    page.get_by_role("link", name="trade-off").click()
    expect(page.locator(".jp-Notebook:visible h1", has_text="Explore the trade-off")).to_be_visible(timeout=STEP)
    assert quiet(page) == []


@pytest.fixture
def timed(record_property):
    """Times the first change: before a step, tell it what to watch; after the change, ask how many milliseconds."""

    def begin(page, name, watched):
        page.evaluate(TIME, watched)

        def end():
            took = round(page.wait_for_function("window.timing.took", timeout=STEP).json_value())
            kept = SHOTS / "milliseconds.json"
            kept.parent.mkdir(parents=True, exist_ok=True)
            known = json.loads(kept.read_text()) if kept.is_file() else {}
            kept.write_text(json.dumps(known | {name: took}))
            record_property("milliseconds", took)
            print(f"{name}: {took} ms from the key or press to the changed picture")

        return end

    return begin


def to_top(page, name):
    """Scrolls an explorer to the top of its notebook; whether all of it is seen then."""
    page.locator(f".{name}").evaluate("e => e.scrollIntoView({block: 'start'})")
    explorer, panel = page.locator(f".{name}").bounding_box(), page.locator(".jp-NotebookPanel-notebook").bounding_box()
    print(
        f"{name}: {explorer['width']:.0f} x {explorer['height']:.0f} px in {panel['width']:.0f} x {panel['height']:.0f}"
    )
    return explorer["height"] <= panel["height"]


def ticks(page, name):
    """The numbers on the axes of a chart."""
    return page.locator(f".{name} .acm-chart-tick").all_text_contents()


def outline(page, name, line):
    """The path of a line of a chart."""
    return page.locator(f'.{name} .acm-chart-line[data-name="{line}"]').get_attribute("d")


def chip(page, name, value):
    return page.locator(f'.{name} button[data-name="{value}"]')


@pytest.fixture
def dark(lab):
    """JupyterLab's dark theme, for the pages that are opened from now on."""

    def choose(theme):
        address, token = lab
        url = f"{address}/lab/api/settings/@jupyterlab/apputils-extension:themes"
        data = json.dumps({"raw": json.dumps({"theme": f"JupyterLab {theme}"})}).encode()
        headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, data, headers, method="PUT"), timeout=30).close()

    choose("Dark")
    yield
    choose("Light")


def test_coefficients_follow_temperature_and_shift(run_all, shot, timed):
    page = run_all(EXPLORERS["1-coefficients"], SCREEN, "lab")
    layers = page.locator(".acm-layers svg[role=group]")
    expect(layers).to_be_visible(timeout=STEP)
    assert to_top(page, "acm-coefficients")
    summary, before, line = page.locator(".acm-message"), told(page, "acm-message"), outline(page, "acm-layers", "none")
    took = timed(page, "coefficients, t", ".acm-layers svg[role=group]")
    slide(page, "acm-t", 1)
    took()
    assert outline(page, "acm-layers", "none") != line
    slide(page, "acm-t", 4)
    changed(summary, before)
    expect(page.locator(".acm-t")).to_contain_text("1.20")
    expect(layers).to_have_attribute("aria-label", "λ of each layer at t = 1.2, shift layer", timeout=STEP)
    axes = ticks(page, "acm-layers")
    chip(page, "acm-controls", "shuffled").click()
    expect(chip(page, "acm-controls", "shuffled")).to_have_attribute("aria-pressed", "false")
    expect(page.locator('.acm-layers .acm-chart-line[data-name="shuffled"]')).to_have_count(0, timeout=STEP)
    assert ticks(page, "acm-layers") == axes, "the axes stay when a null is switched off"
    chip(page, "acm-controls", "shuffled").press("Enter")
    expect(page.locator('.acm-layers .acm-chart-line[data-name="shuffled"]')).to_have_count(1, timeout=STEP)
    page.locator('.acm-layers [data-name="3"]').press("Enter")
    expect(page.locator('.acm-mapping .acm-chart-dots[data-name="texts of 3"]')).to_have_count(1, timeout=STEP)
    page.keyboard.press("Escape")
    shot(page.locator(".acm-coefficients"), "1-coefficients")
    before = told(page, "acm-message")
    chip(page, "acm-shift", "layer").press("ArrowRight")
    changed(summary, before)
    expect(chip(page, "acm-shift", "global")).to_have_attribute("aria-checked", "true")
    assert quiet(page) == []


def test_a_point_of_the_trade_off_leads_to_its_responses(run_all, shot, timed):
    page = run_all(EXPLORERS["3-trade-off"], SCREEN, "lab")
    point = page.locator('.acm-first-chart .acm-chart-point[data-name="TIES"]')
    expect(point).to_be_visible(timeout=STEP)
    assert to_top(page, "acm-trade-off")
    point.hover()
    expect(page.locator(".acm-first-chart .acm-chart-hint")).to_contain_text("n = 750")
    took = timed(page, "trade-off, press", ".acm-panel")
    point.click()
    expect(page.locator(".acm-panel .acm-card").first).to_be_visible(timeout=STEP)
    took()
    expect(point).to_have_attribute("aria-pressed", "true")
    shot(page.locator(".acm-trade-off"), "3-trade-off")
    axes, line = ticks(page, "acm-first-chart"), outline(page, "acm-first-chart", "plain interpolation")
    chip(page, "acm-methods", "TIES").click()
    expect(point).to_have_count(0, timeout=STEP)
    chip(page, "acm-tasks", "abacus_hard").click()
    expect(page.locator(".acm-message")).to_contain_text("n = 500", timeout=STEP)
    assert outline(page, "acm-first-chart", "plain interpolation") != line
    assert ticks(page, "acm-first-chart") == axes, "the axes stay when a method or task is switched off"
    page.locator(".acm-cap .noUi-handle").focus()
    for _ in range(30):  # far enough to cut responses
        page.keyboard.press("PageDown")
    expect(page.locator(".acm-message")).to_contain_text("cap 170:", timeout=STEP)
    took = timed(page, "trade-off, cap", ".acm-first-chart svg[role=group]")
    for _ in range(10):
        page.keyboard.press("PageDown")
    took()
    expect(page.locator(".acm-message")).to_contain_text("cap", timeout=STEP)
    page.locator(".acm-compared").click()
    expect(page.locator(".acm-table table")).to_contain_text("less TA's", timeout=SLOW)
    assert quiet(page) == []


def test_the_trade_off_is_zoomed_and_dragged(run_all, shot):
    page = run_all(EXPLORERS["3-trade-off"], SCREEN)
    chart = page.locator(".acm-first-chart svg[role=group]")
    expect(chart).to_be_visible(timeout=STEP)
    to_top(page, "acm-trade-off")
    home = ticks(page, "acm-first-chart")
    box = chart.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + 0.75 * box["height"]
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 120, middle[1] - 60, steps=4)
    page.mouse.up()
    dragged = ticks(page, "acm-first-chart")
    assert dragged != home, "a drag moves the picture"
    page.mouse.wheel(0, -240)
    chart.focus()
    page.keyboard.press("0")
    assert ticks(page, "acm-first-chart") == home
    for key in ("+", "ArrowRight", "-", "ArrowUp"):
        before = chart.text_content() + str(page.locator(".acm-first-chart .acm-chart-line").first.get_attribute("d"))
        page.keyboard.press(key)
        after = chart.text_content() + str(page.locator(".acm-first-chart .acm-chart-line").first.get_attribute("d"))
        assert after != before, key
    page.mouse.wheel(0, -240)  # the chart has the focus
    expect(page.locator(".acm-first-chart").get_by_role("button", name="whole picture")).to_be_visible()
    shot(page, "3-trade-off-zoomed")
    page.locator(".acm-first-chart").get_by_role("button", name="whole picture").click()
    assert ticks(page, "acm-first-chart") == home
    page.locator(".acm-beside-source select").select_option("smol / long-to-short (committed)")
    expect(page.locator('.acm-second-chart [data-name="ACM-TA"]')).to_be_visible(timeout=STEP)
    shot(page, "3-trade-off-beside")
    assert quiet(page) == []


def test_responses_go_on_and_are_searched(run_all, shot, timed):
    page = run_all(EXPLORERS["4-responses"], SCREEN, "lab")
    asked = page.locator(".acm-asked")
    expect(asked).to_contain_text("right answer", timeout=STEP)
    assert to_top(page, "acm-responses")
    before = told(page, "acm-asked")
    took = timed(page, "responses, next", ".acm-asked")
    page.locator(".acm-next").click()
    changed(asked, before)
    took()
    expect(page.locator(".acm-answers .acm-parting").first).to_be_visible()
    shot(page.locator(".acm-responses").first, "4-responses")
    questions = page.locator(".acm-message").inner_text()
    chip(page, "acm-only", "wrong").click()
    changed(page.locator(".acm-message"), questions)
    chip(page, "acm-only", "wrong").click()
    page.locator(".acm-search input").fill("no question says this")
    page.locator(".acm-search input").press("Enter")
    expect(page.locator(".acm-message [role=alert]")).to_contain_text("no question is like that", timeout=STEP)
    page.locator(".acm-search input").fill("apples")
    page.locator(".acm-search input").press("Enter")
    expect(asked).to_contain_text("apples", timeout=STEP)
    assert quiet(page) == []


@pytest.mark.parametrize("name", ["1-coefficients", "3-trade-off", "4-responses"])
def test_explorers_in_the_dark_and_on_a_narrow_page(dark, run_all, shot, name):
    page = run_all(EXPLORERS[name], SCREEN)
    explorer = page.locator(".acm-explorer").first
    expect(explorer).to_be_visible(timeout=STEP)
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    text = explorer.locator(".acm-chips-title").first.evaluate("e => getComputedStyle(e).color")
    assert min(int(part) for part in text[4:-1].split(",")) > 200, "light text on the dark page"
    for width, word in ((SCREEN, "dark"), (NARROW, "narrow")):
        page.set_viewport_size(width)
        page.wait_for_timeout(500)
        explorer.evaluate("e => e.scrollIntoView({block: 'start'})")
        shot(page, f"{name}-{word}")
        for svg in page.locator(".acm-explorer svg[role=group]:visible").all():
            assert svg.bounding_box()["width"] <= explorer.bounding_box()["width"] + 1
        assert explorer.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), "nothing goes past the right edge"
    assert quiet(page) == []
