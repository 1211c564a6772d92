"""A lesson as a student meets it: run whole, unsolved; a hint and the solution opened; the slider moved."""

import re

import pytest
from playwright.sync_api import expect
from test_lab import SCREEN, STEP, quiet, run_all, slide  # noqa: F401  (run_all is a fixture)


@pytest.mark.parametrize(
    ("lesson", "said", "then"),
    [
        ("3-information", "300 throws: ", "1,000 throws: "),
        ("7-search", "Best of 200: ", "Best of 500: "),
    ],
)
def test_a_lesson_runs_from_top_to_bottom_unsolved(run_all, shot, lesson, said, then):  # noqa: F811
    page = run_all(f"course/{lesson}.ipynb", SCREEN)
    number = lesson[0]
    text = page.locator(".jp-OutputArea-output")
    expect(text.get_by_text(re.compile(f"Exercise {number}\\.1 waits for you\\."))).to_be_visible()
    expect(text.get_by_text(re.compile(f"^0 of \\d exercises of lesson {number} solved"))).to_be_visible()
    slider = page.locator(".acm-slider")
    slider.scroll_into_view_if_needed()
    expect(slider.locator("[role=status]")).to_contain_text(said)
    line = slider.locator(".acm-chart svg")
    before = line.inner_html()
    shot(slider, f"lab-course-{number}")
    slide(page, "acm-slider", 1)
    expect(slider.locator("[role=status]")).to_contain_text(then, timeout=STEP)
    page.wait_for_function("before => document.querySelector('.acm-slider .acm-chart svg').innerHTML !== before",
                           arg=before, timeout=STEP)  # fmt: skip
    for title in ("Hint", "Second hint", f"Solution of {number}.1"):
        part = page.locator("details", has=page.get_by_text(title, exact=True)).first
        assert not part.evaluate("d => d.open"), "nothing is given away unasked"
        part.locator("summary").click()
        assert part.evaluate("d => d.open && d.innerText.length > 40")
    shot(
        page.locator("details", has=page.get_by_text(f"Solution of {number}.1", exact=True)).first,
        f"lab-solution-{number}",
    )
    assert quiet(page) == []
    page.get_by_role("link", name=re.compile("^← Lesson")).first.click()
    expect(page.locator(".jp-Notebook:visible h1").first).to_contain_text(f"Lesson {int(number) - 1}", timeout=STEP)
