"""The live component in a notebook of JupyterLab: it answers, Python moves it, and Python reads what the reader set."""

import re
import time

import pytest
from playwright.sync_api import expect
from test_lab import EXPLORERS, SLOW, STEP, quiet, run_all  # noqa: F401

NOTEBOOK = EXPLORERS["2-merge-playground"]


def run_cell(page, source):
    """Runs a line of Python in the last cell; gives its output's text."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").last
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(source)
    before = cell.locator(".jp-InputPrompt").inner_text()
    page.keyboard.press("Control+Enter")
    prompt = cell.locator(".jp-InputPrompt")
    expect(prompt).not_to_have_text(before, timeout=STEP)
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=STEP)
    return cell.locator(".jp-OutputArea-output").last.inner_text()


def test_the_live_merge_in_jupyterlab_follows_python_and_is_read_back(run_all, shot):  # noqa: F811
    page = run_all(NOTEBOOK)
    live = page.locator(".acm-live").first
    live.scroll_into_view_if_needed()
    merged = live.locator("[data-who=merged]")
    expect(merged).to_contain_text("the answer is", timeout=SLOW)
    shot(live, "2-merge-playground")
    dial = live.locator("input[type=range]").first
    dial.focus()
    began = time.monotonic()
    page.keyboard.press("Home")
    expect(merged).to_contain_text("λ 0.00", timeout=STEP)
    cells = page.locator(".jp-Cell").count()
    for key in ("x", "a", "b"):
        page.keyboard.press(key)
    assert page.locator(".jp-Cell").count() == cells, "keys edit no notebook"
    print(f"the merge moves {1000 * (time.monotonic() - began):.0f} ms after the key")
    assert run_cell(page, "set(play.coefficients['coefficient'])") == "{0.0}"
    run_cell(page, "play.coefficients = {'0': 1.0, '3.mlp': 0.25}; 'set'")
    expect(live.locator("[data-key='3.mlp']")).to_have_attribute("aria-valuenow", "0.25", timeout=STEP)
    assert quiet(page) == []


def restart(page):
    """Restarts the kernel of the notebook."""
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name="Restart Kernel…").click()
    page.locator(".jp-Dialog .jp-mod-accept").click()


@pytest.mark.parametrize("name", ["2-merge-playground", "3-trade-off"])
def test_a_restart_of_the_kernel_is_told_in_one_sentence(run_all, shot, name):  # noqa: F811
    page = run_all(EXPLORERS[name], place="lab")
    gone = page.locator(".acm-gone")
    assert gone.count() == 0
    restart(page)
    expect(gone).to_have_count(1, timeout=STEP)
    assert "run the cell above this output again" in gone.inner_text() and gone.inner_text().count(".") == 1
    shot(page, f"{name}-gone")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    expect(gone).to_have_count(0, timeout=SLOW)
    expect(page.locator(".acm-live, .acm-first-chart svg").first).to_be_visible(timeout=SLOW)
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=SLOW)
    assert quiet(page) == []
