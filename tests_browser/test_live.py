"""The live page in Chromium: two models merged in the tab by mouse, finger and keyboard, served and from disk."""

import json
import re
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import DESK, PHONE, ROOT, SITE

DATA = json.loads((ROOT / "reports/tiny/long-to-short/live.json").read_text())
QUESTION = "nora has 17 shells. she finds 4 more. she sells 6. how many shells are left?"
SPY = "window.refused = []; addEventListener('securitypolicyviolation', (e) => refused.push(e.violatedDirective));"
READY = "document.querySelector('.status').dataset.kind === 'ready'"
NARROW, TABLET = {"width": 330, "height": 700}, {"width": 820, "height": 1000}
MIDDLE = {"width": 768, "height": 1000}


def until(page, expression: str, seconds: float = 12) -> None:
    """Waits for an expression; the page's policy forbids Playwright's own way, which evaluates text."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression} did not come true; {status(page)}"
        page.wait_for_timeout(15)


def status(page) -> str:
    return page.locator(".status").inner_text()


def rest(page) -> None:
    """Waits until nothing is under way."""
    page.wait_for_timeout(60)
    until(page, READY)


def answer(page, who: str = "merged") -> str:
    return page.locator(f".stream.{who} .answer").inner_text().replace(" ✗ wrong step", "").replace(" ✗", "")


def ask(page, question: str) -> None:
    """Type a problem and press Enter."""
    page.locator("textarea").fill(question)
    page.locator("textarea").press("Enter")


def turn(page, value: float) -> None:
    page.locator(".dial input[type=range]").fill(str(value))
    rest(page)


def preset(page, name: str):
    return page.locator(".presets").get_by_text(name, exact=True)


def numbers(page) -> list[float]:
    return [float(cell.get_attribute("aria-valuenow")) for cell in page.locator(".cell").all()]


@pytest.fixture
def live(site, open_page):
    """Opens the page with this part after #, ready to be used."""

    def start(hash: str = f"l=0.5&q={QUESTION}", viewport=DESK, dark=False, address=None):
        page = open_page(viewport, dark)
        page.add_init_script(SPY)
        page.goto(f"{address or site}/index.html#{hash}")
        rest(page)
        return page

    return start


def clean(page) -> bool:
    return page.trouble == [] and page.evaluate("refused") == []


def test_the_first_paint_needs_no_model_and_a_move_brings_them(site, open_page):
    page, bodies = open_page(), []
    page.on("response", lambda response: bodies.append((response.url, len(response.body()))))
    page.add_init_script("window.requestIdleCallback = () => 0;")
    page.goto(f"{site}/index.html", wait_until="networkidle")
    assert "at your first move" in status(page)
    assert 20_000 < sum(size for _, size in bodies) < 300_000 and not [url for url, _ in bodies if "abacus" in url]
    page.locator(".dial input[type=range]").press("ArrowRight")
    rest(page)
    assert sum("safetensors" in url for url, _ in bodies) == 2
    assert re.search(r"merged in \d+ ms · [\d.]+ ms a token", status(page)) and "answer is" in answer(page)


def test_the_dial_leads_from_fast_to_slow(live):
    page = live()
    fast, slow = answer(page, "fast"), answer(page, "slow")
    assert "the answer is" in fast and len(slow) > 2 * len(fast)
    turn(page, 0)
    assert answer(page) == fast
    turn(page, 1)
    assert answer(page) == slow and "✓ 15 right" in page.locator(".stream.slow .verdict").inner_text()
    turn(page, 0.3)
    assert answer(page) not in (fast, slow)
    assert page.locator(".stream.merged .tag").inner_text() == "λ 0.30"
    assert clean(page)


def test_while_the_dial_is_dragged_the_newest_wish_wins(live):
    page = live()
    slow = answer(page, "slow")
    box = page.locator(".dial input[type=range]").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    page.mouse.down()
    for k in range(30):
        page.mouse.move(box["x"] + 20 + k * 25, box["y"] + box["height"] / 2)
    page.mouse.up()
    turn(page, 1)
    page.wait_for_timeout(300)
    assert answer(page) == slow and clean(page)


def test_wrong_steps_are_marked_by_more_than_colour(live):
    page = live("l=0&q=tom has 59 apples. he loses 22. he loses 11. he doubles them. how many apples are left?")
    wrong = page.locator(".stream.fast .step.wrong")
    assert wrong.count() == 1 and "✗" in wrong.inner_text() and "wrong step" in wrong.inner_text()
    assert page.locator(".stream.fast .verdict").inner_text() == "✗ 54 wrong, it is 52"
    assert page.locator(".stream.slow .step.wrong").count() == 0


def test_layers_are_painted_by_mouse(live):
    page = live()
    before = answer(page)
    page.get_by_role("button", name="brush −0.50").click()
    cells = page.locator(".cell")
    cells.nth(8).scroll_into_view_if_needed()
    first, third = cells.nth(1).bounding_box(), cells.nth(3).bounding_box()
    page.mouse.move(first["x"] + 8, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(third["x"] + 8, third["y"] + 20, steps=8)
    page.mouse.up()
    rest(page)
    assert numbers(page) == [0.5, -0.5, -0.5, -0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert answer(page) != before and page.locator(".dial .value").inner_text() == "mean 0.17"
    assert "were not measured" in page.locator(".tradeoff .hint").inner_text()
    assert page.locator(".acm-chart-point.acm-chart-hollow").count() == 1
    assert page.locator(".acm-chart-legend .acm-chart-hollow").count() == 1
    page.locator(".acm-chart-point[data-name='λ 0.2']").click()
    rest(page)
    assert numbers(page) == [0.2] * 9 and page.locator(".tradeoff .hint").inner_text() == "λ 0.20: measured."
    page.get_by_text("each part").click()
    rest(page)
    assert len(numbers(page)) == 15
    assert clean(page)


def test_a_finger_paints_and_the_page_stays_in_place(browser, site):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{site}/index.html#l=0.5&q={QUESTION}")
    rest(page)
    page.locator(".cells").scroll_into_view_if_needed()
    place = page.locator(".cell").nth(4).bounding_box()
    session = context.new_cdp_session(page)
    x, y = place["x"] + 5, place["y"] + 20
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for k in range(1, 5):
        point = {"x": x + 20 * k, "y": y - 8 * k}
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    rest(page)
    assert numbers(page)[:4] == [0.5] * 4 and numbers(page)[4:6] == [1, 1]
    assert abs(page.locator(".cell").nth(4).bounding_box()["y"] - place["y"]) < 2
    context.close()


def test_presets_undo_reset_and_the_trail(live):
    page = live()
    preset(page, "ACM").click()
    rest(page)
    assert numbers(page) == [round(value, 4) for value in DATA["presets"]["acm"]["coefficients"].values()]
    preset(page, "ramp").click()
    rest(page)
    ramp = answer(page)
    assert preset(page, "ramp").get_attribute("aria-pressed") == "true"
    assert numbers(page) == [k / 8 for k in range(9)]
    page.locator(".trail button").nth(1).click()  # the newest comes first
    rest(page)
    assert preset(page, "ACM").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Control+z")
    rest(page)
    assert answer(page) == ramp and page.locator(".stream.merged .tag").inner_text() == "ramp"
    page.get_by_role("button", name="Reset").click()
    rest(page)
    assert preset(page, "ACM").get_attribute("aria-pressed") == "true"
    assert "tokens" in page.locator(".trail button").last.inner_text()
    assert clean(page)


def test_play_shows_answers_from_fast_to_slow(live):
    page = live("l=0.8&q=" + QUESTION)
    page.get_by_role("button", name="play").click()
    until(page, "document.querySelector('.dial .value').textContent === '1.00'", 90)
    page.get_by_role("button", name="play").wait_for()
    rest(page)
    assert answer(page) == answer(page, "slow")


def test_play_begins_at_0_where_the_layers_differ_and_ends_at_1(live):
    page = live("q=" + QUESTION)
    page.get_by_role("button", name="play").click()
    assert page.locator(".dial .value").inner_text() == "0.00"
    page.get_by_role("button", name="pause").click()
    turn(page, 0.93)
    page.get_by_role("button", name="play").click()
    until(page, "document.querySelector('.dial .value').textContent === '1.00'", 30)
    page.get_by_role("button", name="play").wait_for()


def test_painting_stops_the_motion(live):
    page = live("l=0&q=" + QUESTION)
    page.get_by_role("button", name="play").click()
    until(page, "Number(document.querySelector('.dial .value').textContent) >= 0.1")
    page.locator(".cell").first.press("End")
    page.wait_for_timeout(1500)
    rest(page)
    assert numbers(page)[0] == 1.5 and page.get_by_role("button", name="play").is_visible()


def test_ties_has_a_density_and_task_arithmetic_changes_nothing(live):
    page = live("l=0.3&q=" + QUESTION)
    before = answer(page)
    page.get_by_text("task arithmetic", exact=True).click()
    rest(page)
    assert answer(page) == before and "nothing changes" in page.locator(".method .hint").inner_text()
    assert not page.locator(".density input").is_visible()
    page.get_by_text("TIES", exact=True).click()
    page.locator(".density input").fill("0.05")
    rest(page)
    assert answer(page) != before and "TIES has no measured line" in page.locator(".tradeoff .hint").inner_text()
    page.locator(".density input").fill("1")
    rest(page)
    assert answer(page) == before, "what keeps all is plain interpolation"


def test_the_challenge_gives_the_recorded_grades_of_acm(live, shot):
    page = live()
    preset(page, "ACM").click()
    rest(page)
    page.get_by_role("button", name="Measure this merge").click()
    page.locator(".outcome").wait_for(timeout=180_000)
    items = DATA["challenge"]["items"]
    right, length = sum(item["correct"] for item in items), sum(item["length"] for item in items) / len(items)
    result = page.locator(".result").inner_text()
    assert f"{right} of {len(items)} right, {length:.0f} tokens on average" in result
    assert f"ACM-TA: {right} of {len(items)} right, {length:.0f} tokens on average" in result
    assert "This is ACM’s merge itself" in result and "Not told apart" not in result and result.count("0.0 to 0.0") == 2
    assert page.locator("[data-family=own]").count() >= 1
    assert page.locator(".result.past").count() == 0
    turn(page, 0.3)
    assert page.locator(".result.past").inner_text().count("ACM: ") == 1
    assert "measured." in page.locator(".tradeoff p.hint").inner_text()
    own = page.locator(".acm-chart-point[data-name=ACM]")
    assert re.search(r"% right \(.* to .*\), .* tokens \(.*\), .* than slow, n = 50\.", own.get_attribute("aria-label"))
    for name in ("ACM", "ACM-TA"):
        turn(page, 0.3)
        page.locator(f".acm-chart-point[data-name={name}]").press("Enter")
        rest(page)
        assert preset(page, "ACM").get_attribute("aria-pressed") == "true" and page.locator(".past").count() == 0
        assert page.locator(".tradeoff p.hint").inner_text() == "The star is ACM, measured here on 50 problems."
    shot(page, "live-challenge")
    assert clean(page)


@pytest.mark.parametrize("name", ["average", "a search's best"])
def test_the_presets_that_are_said_to_win_do_and_what_that_shows(live, name):
    page = live()
    assert "average and a search's best win" in page.locator(".challenge .lead").inner_text()
    preset(page, name).click()
    rest(page)
    page.get_by_role("button", name="Measure this merge").click()
    assert re.fullmatch(r"\d+ of 50", page.locator(".running .count").inner_text())
    page.locator(".outcome").wait_for(timeout=180_000)
    result = page.locator(".result").inner_text()
    assert result.startswith("Won.") and "against ACM alone" in result and "grey line" in result, result


def test_the_challenge_can_be_stopped_and_a_change_stops_it(live):
    page = live()
    page.get_by_role("button", name="Measure this merge").click()
    page.get_by_role("button", name="Stop").click()
    assert page.locator(".result").inner_text() == "Stopped."
    page.get_by_role("button", name="Measure this merge").click()
    turn(page, 0.2)
    assert page.locator(".result").inner_text() == "Stopped: the merge changed."
    assert "the answer is" in answer(page) and clean(page)


def test_the_keyboard_alone_is_enough(live):
    page, reached = live(), []
    page.evaluate("document.body.focus()")
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"))
        if page.evaluate("document.activeElement.matches('.dial input')"):
            page.keyboard.press("End")
            rest(page)
            assert page.locator(".dial .value").inner_text() == "1.20"
        if page.evaluate("document.activeElement.matches('.cell')"):
            break
    assert page.evaluate("document.activeElement.dataset.key") == "embed"
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "PageDown"):
        page.keyboard.press(key)
    rest(page)
    assert page.evaluate("document.activeElement.dataset.key") == "1" and numbers(page)[1:4] == [1.2, 0.85, 1.2]
    assert page.locator(".cell[data-key='1']").get_attribute("aria-valuetext") == "0.85"
    page.keyboard.press("Control+z")
    rest(page)
    assert numbers(page)[2] == 1.2, "the keys were one gesture"
    goes_to(page, "textContent === 'What are these layers?'")
    page.keyboard.press("Enter")
    assert "0.attention" in page.locator("details[open]").inner_text()
    goes_to(page, "value === 'interpolation'")
    page.keyboard.press("ArrowRight")
    rest(page)
    assert "nothing changes" in page.locator(".method .hint").inner_text()
    goes_to(page, "matches?.('.tradeoff .acm-chart-point')")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    rest(page)
    assert "measured." in page.locator(".tradeoff p.hint").inner_text() and len(set(numbers(page))) == 1
    goes_to(page, "textContent === 'Measure this merge'")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Stop"


def goes_to(page, test: str) -> None:
    """Presses Tab until the element with the focus passes this test."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.{test}"):
            return
        assert page.evaluate("document.activeElement.getBoundingClientRect().width") > 0
    raise AssertionError(f"Tab never came to {test}")


@pytest.mark.parametrize("viewport", [PHONE, NARROW, TABLET, DESK], ids=lambda v: str(v["width"]))
def test_it_fits_every_screen_in_every_mode(live, viewport, shot):
    page = live(viewport=viewport)
    for part in ("each layer", "each part", "TIES"):
        page.get_by_text(part, exact=True).click()
        rest(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], part
    shot(page, f"live-{viewport['width']}")
    merged, fast = (page.locator(f".stream.{who}").bounding_box()["y"] for who in ("merged", "fast"))
    assert merged < fast if viewport["width"] < 850 else merged == fast


@pytest.mark.parametrize("viewport", [NARROW, PHONE, MIDDLE, DESK], ids=lambda v: str(v["width"]))
def test_names_and_numbers_of_the_layers_fit_their_columns(live, viewport):
    page = live(f"layers={'_'.join(['-0.25', '1.25', '0.5'] * 3)}&q={QUESTION}", viewport)
    for part in ("each layer", "each part"):
        page.get_by_text(part, exact=True).click()
        rest(page)
        wide = "e => e.scrollWidth > e.clientWidth"
        texts = page.locator(".column :is(.name, .number)")
        assert texts.count() > 17
        assert [text.inner_text() for text in texts.all() if text.evaluate(wide)] == []
    tall = [button.bounding_box()["height"] for button in page.locator(".dial .row > *").all()]
    assert max(tall) < 60, "the dial's value stays on one line"


def test_the_first_screen_of_a_desk_has_question_dial_and_answers(live):
    page = live(viewport={"width": 1280, "height": 800})
    for part in ("textarea", ".dial input", ".stream.fast", ".stream.merged", ".stream.slow"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 800, part


def test_it_works_from_a_folder_on_disk(live):
    page = live(address=SITE.as_uri())
    fast = answer(page, "fast")
    turn(page, 0)
    assert answer(page) == fast and "the answer is" in fast and clean(page)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_on_the_live_page(live, dark, shot):
    page, found = live("l=0&q=tom has 59 apples. he loses 22. he loses 11. how many apples are left?", dark=dark), []
    for step in ("start", "ramp", "TIES", "unknown"):
        if step == "ramp":
            preset(page, step).click()
        if step == "TIES":
            page.get_by_text(step, exact=True).click()
        if step == "unknown":
            page.locator("textarea").fill("a banana")
            page.locator("textarea").press("Enter")
        rest(page)
        shot(page, f"live-{step}-{'dark' if dark else 'light'}")
        for violation in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]:
            node = violation["nodes"][0]
            found.append(f"{step}: {violation['id']}: {node['html'][:160]} {node['failureSummary'][:300]}")
    assert not found, "\n".join(found)


def test_a_link_brings_the_same_merge_back(live, browser, site):
    page = live()
    preset(page, "a search's best").click()
    page.get_by_text("TIES", exact=True).click()
    rest(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert "layers=" in link and "method=ties" in link and page.url == link
    other = live(link.partition("#")[2])
    assert (numbers(other), answer(other)) == (numbers(page), answer(page))
    other.goto(f"{site}/index.html#l=0.25&q={QUESTION}")
    until(other, "document.querySelector('.dial .value').textContent === '0.25'")


STRANGE = ["l=1e99&q=<img src=x onerror=alert(1)>", "layers=a_b&method=<script>", "parts=", "q=%00"]


@pytest.mark.parametrize("hash", STRANGE)
def test_a_strangers_link_does_no_harm(live, hash):
    page = live(hash)
    assert page.locator(".acm-live img, .acm-live script").count() == 0
    assert all(-0.5 <= value <= 1.5 for value in numbers(page)) and clean(page)


def test_words_that_the_models_never_saw_are_named_not_answered(live):
    page = live()
    ask(page, "Mia has 3 bananas. she finds 4 more. how many bananas are left?")
    until(page, "document.querySelector('.note').textContent !== ''")
    rest(page)
    assert "“bananas”" in page.locator(".note").inner_text() and answer(page) == "not asked"
    page.locator("textarea").fill("Mia has 3 eggs. she finds 4 more. how many eggs are left?")
    until(page, "document.querySelector('.stream.slow .verdict').textContent.includes('7')")
    assert page.locator(".note").inner_text() == "" and clean(page)


def test_a_form_that_was_never_learnt_is_not_checked_and_the_reason_is_said(live):
    page = live()
    ask(page, "nora has 3 eggs. max has 8 eggs. how many eggs are left?")
    until(page, "document.querySelector('.note').textContent.includes('the models know only those')")
    rest(page)
    assert all("Not checked: see" in said for said in page.locator(".stream .verdict").all_inner_texts())
    page.get_by_role("button", name="Another problem").click()
    rest(page)
    assert page.locator(".note").inner_text() == "" and clean(page)


def test_a_problem_that_is_too_long_is_refused_with_the_reason(live):
    page = live()
    ask(page, "7 " * 190)
    until(page, "document.querySelector('.status').dataset.kind === 'failed'")
    assert re.search(r"has \d+ tokens; the models have room for \d+", status(page)) and answer(page) == "no answer"
    page.get_by_role("button", name="Another problem").click()
    rest(page)
    assert "the answer is" in answer(page) and "the answer is" in answer(page, "slow") and clean(page)


def test_another_problem_has_as_many_steps_as_asked(live):
    page = live()
    page.locator(".question select").select_option("6")
    rest(page)
    drawn = page.locator("textarea").input_value()
    assert drawn != QUESTION and drawn.count(". ") == 7
    page.get_by_role("button", name="Another problem").click()
    rest(page)
    assert page.locator("textarea").input_value() != drawn
    assert "not checked" not in page.locator(".streams").inner_text()


def test_without_scripts_the_page_says_why(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/index.html")
    assert "needs JavaScript" in page.locator("noscript").inner_text()
    context.close()


def test_another_pages_theme_is_taken_over(live, site):
    page = live()
    page.evaluate("localStorage.setItem('mode', 'dark')")
    page.goto(f"{site}/contents.html")
    page.goto(f"{site}/index.html")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 24)"


def test_keys_pressed_in_the_component_run_no_shortcut_of_jupyterlab(live):
    page = live()
    page.get_by_text("each part").click()
    focused = ".acm-live :is(button, input, select, textarea, summary, [tabindex])"
    assert page.locator(focused).count() > 60
    assert page.evaluate(f"[...document.querySelectorAll('{focused}')].every((e) => e.dataset.lmSuppressShortcuts)")


def test_what_is_being_typed_is_kept_and_a_move_takes_it_along(live):
    page, typed = live(), "mia has 3 eggs. she finds 4 more. how many eggs are left"
    page.locator("textarea").fill(typed)
    page.locator(".dial input").press("End")
    assert page.locator("textarea").input_value() == typed
    until(page, "document.querySelector('.stream.slow .tag').textContent && location.hash.includes('mia+has+3')", 3)
    page.locator("textarea").fill("")
    page.get_by_role("button", name="play").evaluate("button => button.click()")
    page.wait_for_timeout(400)
    assert page.locator("textarea").input_value() == "" and clean(page)


def test_a_long_word_is_cut_and_the_page_stays_narrow(live):
    page = live(viewport=PHONE)
    ask(page, "x" * 400)
    until(page, "document.querySelector('.note').textContent !== ''")
    assert f"“{'x' * 30}…”" in page.locator(".note").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_keys_with_ctrl_leave_a_cell_alone(live):
    page = live()
    for keys in ("Control+ArrowUp", "Shift+End", "Alt+PageUp"):
        page.locator(".cell").nth(2).press(keys)
    assert numbers(page) == [0.5] * 9


def test_to_measure_stops_the_motion(live):
    page = live("l=0.1&q=" + QUESTION)
    page.get_by_role("button", name="play").click()
    page.get_by_role("button", name="Measure this merge").click()
    until(page, "parseInt(document.querySelector('.running .count').textContent) >= 1", 20)
    assert page.get_by_role("button", name="play").is_visible() and "measuring" in status(page)
    page.get_by_role("button", name="Stop").click()
    rest(page)
    assert page.locator(".result").inner_text() == "Stopped."


def test_without_a_connection_it_is_said_and_the_next_press_tries_again(live):
    page = live()
    page.add_init_script("const real = fetch; window.fetch = (...a) => window.online ? real(...a) : Promise.reject(1);")
    page.reload()
    until(page, "document.querySelector('.status').dataset.kind === 'failed'")
    page.get_by_role("button", name="Measure this merge").click()
    page.get_by_text("It could not be measured: the models could not be fetched.").wait_for()
    assert "Is there a connection?" in status(page)
    page.evaluate("window.online = true")
    page.get_by_role("button", name="Measure this merge").click()
    until(page, "parseInt(document.querySelector('.running .count').textContent) >= 1", 20)


def swipe(context, page, place, dx, dy):
    """A finger comes down there, moves in eight steps and is lifted."""
    session, (x, y) = context.new_cdp_session(page), place
    for kind, steps in (("touchStart", [0]), ("touchMove", range(1, 9))):
        for k in steps:
            point = {"x": x + dx * k / 8, "y": y + dy * k / 8}
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(300)
    rest(page)


def test_a_finger_that_scrolls_from_dial_or_cell_changes_nothing(browser, site):
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{site}/index.html#l=0.5&q={QUESTION}")
    rest(page)

    def place(part, x, y):
        box = part.bounding_box()
        return box["x"] + x, box["y"] + y

    dial, cell = page.locator(".dial input"), page.locator(".cell").nth(4)
    swipe(context, page, place(dial, 300, 14), 3, -200)
    assert numbers(page) == [0.5] * 9 and dial.input_value() == "0.5" and page.evaluate("scrollY") > 50
    cell.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    swipe(context, page, place(cell, 8, 20), 3, -200)
    assert numbers(page) == [0.5] * 9 and page.evaluate("scrollY") > before + 50
    page.evaluate("scrollTo(0, 0)")
    swipe(context, page, place(dial, 300, 14), -120, 4)
    dragged = numbers(page)[0]
    assert 0.3 < dragged < 0.75 and dragged != 0.5
    page.touchscreen.tap(*place(dial, 13, 14))
    rest(page)
    assert numbers(page) == [0] * 9
    cell.scroll_into_view_if_needed()
    page.touchscreen.tap(*place(cell, 8, 20))
    rest(page)
    assert numbers(page) == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    context.close()


def test_the_skip_link_moves_the_focus_and_leaves_the_address(live):
    page = live()
    before = page.url
    page.locator(".skip").press("Enter")
    assert page.evaluate("document.activeElement.id") == "playground" and page.url == before
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.acm-live') !== null")


def test_a_link_without_a_problem_keeps_the_present_one_and_is_tidied(live):
    page = live()
    page.evaluate("location.hash = 'l=7'")
    until(page, "document.querySelector('.dial .value').textContent === '1.50'")
    assert page.locator("textarea").input_value() == QUESTION and "#l=1.5&q=nora" in page.url


@pytest.mark.parametrize("hash", ["", f"q={QUESTION}", f"l=half&q={QUESTION}"], ids=["none", "problem", "unreadable"])
def test_a_link_without_a_merge_opens_acms(live, hash):
    page = live(hash)
    assert preset(page, "ACM").get_attribute("aria-pressed") == "true"
    assert numbers(page) == [round(value, 4) for value in DATA["presets"]["acm"]["coefficients"].values()]
    assert (page.locator("textarea").input_value() == QUESTION) == bool(hash) and clean(page)


def test_what_was_tried_names_its_problem(live):
    page = live()
    ask(page, "mia has 3 eggs. she finds 4 more. how many eggs are left?")
    turn(page, 1)
    page.wait_for_timeout(900)
    chips = page.locator(".trail button").all_inner_texts()
    assert re.fullmatch(r"λ 1\.00 ✓ \d+ tokens\s+mia: 3 eggs \+4", chips[0]), chips
    assert chips[-1].split("\n")[-1] == "nora: 17 shells +4 −6" and clean(page)


WORDS = {
    "What do λ and token mean?": ("lambda", "weights", "digit"),
    "What are these layers?": ("0.attention", "0.mlp", "embed", "lm_head", "last normalization"),
    "How to read this chart": ("frontier", "95 % interval", "hollow", "40 % fewer tokens"),
    "How this is judged": ("Won", "bootstraps"),
}


def test_each_word_is_explained_where_it_stands_by_key_and_by_touch(browser, site):
    context = browser.new_context(viewport=NARROW, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{site}/index.html#l=0.5&q={QUESTION}")
    rest(page)
    for k, (title, words) in enumerate(WORDS.items()):
        summary = page.locator("summary", has_text=title)
        summary.tap() if k % 2 else summary.press("Enter")
        said = page.locator("details[open]", has=summary).inner_text()
        assert all(word in said for word in words), said
        assert page.evaluate("document.documentElement.scrollWidth") <= 330
    context.close()


def test_the_chart_has_the_report_s_direction_and_a_legend(live):
    page = live("")
    chart = page.locator(".tradeoff")
    assert chart.locator(".acm-chart-better").all_text_contents() == ["↑ better", "better →"]
    assert "fewer tokens than slow" in chart.locator(".acm-chart-title").nth(1).text_content()
    place = {name: chart.locator(f"[data-name='{name}']").bounding_box()["x"] for name in ("λ 0.0", "λ 0.4", "λ 1.0")}
    assert place["λ 1.0"] < place["λ 0.4"] < place["λ 0.0"]
    keys = chart.locator(".acm-chart-legend > span").all_inner_texts()
    assert keys == ["one λ for all layers", "95 % interval", "this merge", "ACM-TA"]
    assert "the orange point, ACM-TA" in chart.locator("p.hint").inner_text()
    chart.locator("[data-name='λ 0.4']").focus()
    assert "81 tokens" in chart.locator(".acm-chart-hint").inner_text() and clean(page)


def test_keys_on_the_dial_are_one_gesture(live):
    page = live()
    for _ in range(6):
        page.locator(".dial input").press("ArrowRight")
    page.wait_for_timeout(900)
    assert page.locator(".trail button").count() == 2 and numbers(page) == [0.56] * 9
    page.keyboard.press("Control+z")
    rest(page)
    assert numbers(page) == [0.5] * 9


def test_the_focus_goes_to_stop_and_back(live):
    page = live()
    page.get_by_role("button", name="Measure this merge").press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Stop"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Measure this merge"


def test_in_forced_colours_what_is_chosen_is_seen(live, shot):
    page = live("l=0.5&q=" + QUESTION)
    page.emulate_media(forced_colors="active")
    colour = "(s) => getComputedStyle(document.querySelector(s)).backgroundColor"
    chosen, other = (page.evaluate(colour, f".presets [aria-pressed={state}]") for state in ("true", "false"))
    assert chosen != other
    checked, free = ".choice input:checked + span", ".choice input:not(:checked) + span"
    assert page.evaluate(colour, checked) != page.evaluate(colour, free)
    shot(page, "live-forced-colours")
