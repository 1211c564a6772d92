"""The explorers: what they show, against the committed results and the engine; their wiring, without a browser."""

import html.parser
import re
import time

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib.figure import Figure
from safetensors.torch import load_file

import acm
from acm.calibration.coefficients import coefficients_from_table
from acm.calibration.registry import CONTROLS
from acm.errors import UserError
from acm.paths import REPORTS
from acm.profiles import load_profile
from acm.reporting.results import Results
from acm.reporting.statistics import average, share
from acm.widgets import coefficients, markup, parts, playground, responses, sources, trade_off
from acm.widgets.coefficients_explorer import CoefficientsExplorer
from acm.widgets.merge_playground import MergePlayground
from acm.widgets.response_browser import ResponseBrowser
from acm.widgets.trade_off_explorer import TradeOffExplorer

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>&lt;b&gt; &amp; \" ' `x` **bold** [a](javascript:alert(3)) $\\href{x}{y}$ \\(x\\) "
    "\x1b[31mred\x1b[0m \x00 \u202etxet\u202c \u2066x \u200b \ud800 </div></section><style>*{display:none}</style> wait"
)


class Reader(html.parser.HTMLParser):
    """Tags, attributes and text as a browser would find them."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module", autouse=True)
def committed(tmp_path_factory):
    """Only the committed results, whatever was run here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.KINDS, "runs", (tmp_path_factory.mktemp("runs"), "your run"))
        yield


@pytest.fixture(scope="module")
def results():
    return Results(load_profile("tiny"), "long-to-short", "reports")


@pytest.fixture(scope="module")
def records(results):
    return trade_off.Records(results)


@pytest.fixture(scope="module")
def trio(results):
    return playground.Trio(*results.experiment.parents.values())


# --- text of models as HTML


def test_hostile_text_becomes_text():
    row = {
        "response": HOSTILE,
        "question": HOSTILE,
        "answer": HOSTILE,
        "gold": HOSTILE,
        "correct": 0.0,
        "length": 3,
        "truncated": True,
        "reflections": 1,
    }
    made = markup.card(HOSTILE, row, re.compile("wait"), question=True)
    read = Reader(made)
    assert set(read.tags) <= {"section", "h4", "bdi", "p", "div", "span", "mark", "details", "summary"}
    assert set(read.attributes) <= {"class", "dir", "tabindex"}
    assert "<script>alert(1)</script>" in read.text and "**bold**" in read.text and "&lt;b&gt;" in read.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\u200b\ud800]", made)
    assert "␛" in read.text and "U+202E" in read.text and "U+D800" in read.text
    made.encode("utf-8")
    assert all("mathjax_ignore" in tag for tag in re.findall("<(?:h4|p|div)[^>]*>", made)), (
        "MathJax leaves all of it alone"
    )


def test_plain_text_is_not_changed():
    assert Reader(markup.marked("3 + 4 = 7,\n\tx < y & z – “ä” 数 ¬")).text == "3 + 4 = 7,\n\tx < y & z – “ä” 数 ¬"


def test_long_text_is_cut_and_says_so():
    text = Reader(markup.marked("x" * 1_000_000)).text
    assert len(text) < 21_000 and "980,000 more characters" in text


def test_facts_say_in_words_what_colours_say():
    assert markup.facts({"correct": 1.0, "length": 1}) == "✓ right · 1 token"
    assert markup.facts({"correct": 0.0, "length": 320, "truncated": True, "answer": "7", "gold": "8"}).startswith(
        "✗ wrong · 320 tokens, cut by the cap"
    )


def test_messages_are_told_by_screen_readers():
    assert (
        'role="alert"' in markup.alert("<b>")
        and "&lt;b&gt;" in markup.alert("<b>")
        and 'role="status"' in markup.note("done")
    )


# --- coefficients


def test_curves_are_the_projects_coefficients(results):
    tables = coefficients.Tables(results)
    found = coefficients.curves(tables.mi("abacus-slow", "plug-in", coefficients.OWN), 0.7, "layer")
    assert set(found) == set(CONTROLS)
    for control in ("none", "shuffled", "gaussian"):
        assert found[control].to_dict() == pytest.approx(results.coefficients[control]["abacus-slow"], abs=1e-12)
    table = pd.read_parquet(REPORTS / "tiny/questions/estimate/information.parquet")
    other = coefficients.curves(tables.mi("abacus-slow", "shuffle-corrected", coefficients.OWN), -1.3, "global")
    expected = coefficients_from_table(table, -1.3, "global", "none", "shuffle-corrected")["abacus-slow"]
    assert other["none"].to_dict() == pytest.approx(expected)


def test_draws_take_the_same_texts_for_all_controls_and_stay_in_the_band(results):
    tables = coefficients.Tables(results)
    assert len(tables.draws("plug-in")) == 1 + coefficients.DRAWS and tables.draws("miller-madow") == [coefficients.OWN]
    one, two = (tables.mi("abacus-slow", "plug-in", f"random draw {k}") for k in (1, 2))
    assert set(one) == {"none", "gaussian"} and all(wide.shape == (9, 100) for wide in one.values())
    assert list(one["none"].columns) == list(one["gaussian"].columns) and set(one["none"].columns) != set(
        two["none"].columns
    )
    band = coefficients.band(tables.pool, 0.7, "layer")
    inside = [coefficients.curves(tables.mi("abacus-slow", "plug-in", f"random draw {k}"), 0.7, "layer")["none"].between(band["low"], band["high"]).mean()
              for k in range(1, 11)]  # fmt: skip
    assert np.mean(inside) > 0.8


def test_wrong_settings_are_named(results):
    tables = coefficients.Tables(results)
    for arguments in (
        ("abacus-words", "plug-in", coefficients.OWN),
        ("abacus-slow", "plugin", coefficients.OWN),
        ("abacus-slow", "miller-madow", "random draw 1"),
    ):
        with pytest.raises(UserError, match="unknown"):
            tables.mi(*arguments)
    with pytest.raises(UserError, match="t must be"):
        coefficients.curves({"none": pd.DataFrame([[1.0]])}, float("nan"), "layer")


def test_mapping_is_drawn_where_the_coefficients_are():
    mi = pd.DataFrame([[1.0, 3.0], [2.0, 2.0]], index=["0", "1"])
    left, right = coefficients.draw({"none": mi}, 1.0, "none", ()).axes
    sigmoid = 1 / (1 + np.exp(np.array([1.0, 3.0])))  # 1 − σ(x)
    assert right.lines[0].get_ydata() == pytest.approx(sigmoid) and right.lines[1].get_ydata() == pytest.approx(
        [sigmoid.mean()]
    )
    assert left.lines[0].get_ydata()[0] == pytest.approx(sigmoid.mean())


def test_coefficients_explorer_redraws_and_reports_errors():
    explorer = CoefficientsExplorer()
    assert not explorer.message.value and "0.512 (embed)" in explorer.summary.value
    before = explorer.picture.image.value
    explorer.t.value = 2.0
    assert explorer.picture.image.value != before and "<img alt=" in before
    explorer.drawn.value = "random draw 3"
    explorer.estimator.value = "miller-madow"
    assert explorer.drawn.value == coefficients.OWN and not explorer.message.value
    explorer.source.value = "tiny / general (committed)"
    assert (
        explorer.t.value == -1.8
        and explorer.model.options == ("abacus-sums", "abacus-words")
        and not explorer.message.value
    )
    explorer.tables.own.drop(explorer.tables.own.index, inplace=True)
    explorer.shift.value = "none"
    assert 'role="alert"' in explorer.message.value


def test_a_profile_without_results_is_told_in_the_widget():
    for kind in (CoefficientsExplorer, TradeOffExplorer, ResponseBrowser, MergePlayground):
        explorer = kind(profile="qwen-7b")
        assert "no results of profile qwen-7b" in explorer.message.value and "Traceback" not in explorer.message.value


# --- trade-off


def test_points_are_the_tables_numbers(records):
    found = records.points(records.methods, records.tasks)
    main = pd.read_csv(REPORTS / "tiny/long-to-short/tables/main.csv").query("task == 'average'").set_index("method")
    assert found.table["y"].to_dict() == pytest.approx(main["accuracy"].to_dict(), abs=1e-3)
    tokens = records.points(["ACM-TA", "TIES"], ["abacus_hard"], reduction=False)
    sample = records.results.sample
    task = sample.tasks.index("abacus_hard")
    assert tokens.table.loc["TIES", "x"] == pytest.approx(sample.length[sample.row("TIES"), task, 0])
    assert tokens.table.loc["ACM-TA", "y_low"] == pytest.approx(share(sample, "ACM-TA", sample.tasks[task])["low"])
    assert (tokens.table["n"] == 250).all() and not tokens.frontier
    hint = tokens.hint("TIES")
    assert "n = 250" in hint and "tokens" in hint and hint.count("[") == 2


def test_places_point_at_the_markers(records):
    figure, places = trade_off.draw(records.points(["abacus-fast", "abacus-slow", "TIES"], records.tasks))
    axes = figure.axes[0]
    marker = next(line for line in axes.lines if line.get_gid() == "TIES")
    x, y = axes.transData.transform(marker.get_xydata()[0])
    assert places["TIES"] == pytest.approx((x / figure.bbox.width, 1 - y / figure.bbox.height))
    assert places["abacus-fast"][0] > places["abacus-slow"][0] and places["abacus-fast"][1] > places["abacus-slow"][1]


def test_names_are_never_taken_for_maths():
    table = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0], "n": 3.0}, index=["$\\frac{$", "b$x^$"]).reindex(
        columns=[*trade_off.ENDS, "n"]
    )
    figure, places = trade_off.draw(trade_off.Points(table, "length, tokens $\\x$"))
    assert set(places) == set(table.index) and "<img" in markup.image(figure, 'a"b')


def test_a_lower_cap_cuts_lengths_and_what_it_cuts_is_wrong(records):
    cut = trade_off.capped(records.rows, 100)
    longer = records.rows["length"] > 100
    assert (
        (cut["length"] <= 100).all() and (cut.loc[longer, "correct"] == 0).all() and cut.loc[longer, "truncated"].all()
    )
    pd.testing.assert_frame_equal(cut[~longer], records.rows[~longer])
    with pytest.raises(UserError, match="cap"):
        trade_off.capped(records.rows, 0)


def test_responses_behind_a_point_are_its_extremes(records):
    rows = records.rows.query("method == 'TIES' and task == 'abacus_hard'")
    made = Reader(records.behind("TIES", ["abacus_hard"])).text
    for wanted in (rows.query("correct == 1")["length"].min(), rows.query("correct == 0")["length"].max()):
        assert f"{wanted} tokens" in made
    assert [word in made for word in ("shortest right", "longest right", "shortest wrong", "longest wrong")] == [
        True
    ] * 4
    one = pd.DataFrame({"correct": [1.0, 0.0, 0.0], "length": [5, 7, 9]})
    assert [title for title, _ in trade_off.extremes(one)] == ["the only right", "shortest wrong", "longest wrong"]


def test_printed_numbers_have_no_intervals_and_leave_out_what_was_not_printed():
    printed = trade_off.printed()["printed / acm-v1 / 7b"]
    found = printed.points(printed.methods, ["gsm8k", "math500"], reduction=False)
    row = found.table.loc["DeepSeek-R1-7B"]
    scores = printed.scores.query("method == 'DeepSeek-R1-7B' and task in ['gsm8k', 'math500']")
    assert (row["y"], row["x"], row["n"]) == pytest.approx(
        (scores["accuracy"].mean(), scores["length"].mean(), 1319 + 500)
    )
    assert np.isnan(row["y_low"]) and "without interval" in found.hint("DeepSeek-R1-7B")
    assert "not published" in printed.behind("TA", ["gsm8k"])
    partial = trade_off.Printed("l2s-sister", "7b")
    partial.scores = printed.scores[~((printed.scores["method"] == "TA") & (printed.scores["task"] == "aime24"))]
    assert partial.points(partial.methods, partial.tasks).left_out == ["TA"]


def test_choosing_nothing_is_told(records):
    for arguments in (([], ["abacus_easy"]), (["TA"], []), (["TB"], ["abacus_easy"])):
        with pytest.raises(UserError):
            records.points(*arguments)


def test_trade_off_explorer_click_leads_to_responses():
    explorer = TradeOffExplorer()
    assert not explorer.message.value and set(explorer.picture.points) == set(explorer.methods.options)
    point = explorer.picture.points["ACM-TA"]
    assert "n = 750" in point.tooltip and point.description == "ACM-TA" and point.layout.left.endswith("%")
    point.click()
    assert (
        explorer.chosen.value == "ACM-TA"
        and "longest right" in explorer.responses.value
        and "acm-chosen" in point._dom_classes
    )
    near = explorer.picture.points["Null-TA"]
    assert "press again for" in near.tooltip and explorer.picture.pile("Null-TA") == ["ACM-TA", "Null-TA"]
    near.click()
    assert explorer.chosen.value == "Null-TA", "a second press on a pile goes to the next of it"
    near.click()
    assert explorer.chosen.value == "ACM-TA"
    explorer.chosen.value = "TIES"
    assert "TIES" in explorer.responses.value and "acm-chosen" not in point._dom_classes
    explorer.cap.value = 60
    assert "cap 60" in explorer.message.value
    explorer.methods.value = ()
    assert "at least one method" in explorer.message.value and 'role="alert"' in explorer.message.value
    explorer.source.value = "printed / acm-v1 / 32b"
    assert "32B" in "".join(explorer.picture.points) and explorer.cap.disabled and not explorer.message.value


# --- responses


def test_reflections_are_marked_as_the_evaluation_counts_them(records):
    for task, rows in records.rows.groupby("task"):
        pattern = responses.pattern_of(task)
        rows = rows.drop_duplicates("response")
        assert (
            rows["response"].map(lambda text, p=pattern: markup.marked(text, p).count("<mark>")) == rows["reflections"]
        ).all()


def test_questions_on_which_models_differ_come_first(records):
    listed = responses.questions(records.rows)
    assert listed["answers"].is_monotonic_decreasing and len(listed) == 750
    first = listed.iloc[0]
    rows = records.rows.query("task == @first.task and item == @first['item']")
    assert first["answers"] == rows["answer"].nunique()
    shared = responses.ordered(rows)["answer"].map(rows["answer"].value_counts())
    assert shared.is_monotonic_increasing and len(shared) == len(rows)
    assert len(responses.matching(listed, "KITES", "abacus_easy")) == records.rows.query(
        "task == 'abacus_easy' and question.str.contains('kites') and method == 'TA'").shape[0]  # fmt: skip


def test_records_without_texts_are_refused(records):
    with pytest.raises(UserError, match="no column 'answer'"):
        responses.questions(pd.read_parquet(REPORTS / "tiny/questions/layers/records.parquet"))
    with pytest.raises(UserError, match="no response"):
        responses.page(records.rows, "abacus_easy", 10**6)


def test_response_browser_steps_searches_and_escapes(records):
    browser = ResponseBrowser()
    first = browser.question.value
    assert Reader(browser.responses.value).tags.count("section") == len(browser.models.options)
    browser.next.click()
    assert browser.question.value != first
    browser.previous.click()
    assert browser.question.value == first
    browser.search.value = "zebra"
    assert "no question contains" in browser.message.value and browser.responses.value == ""
    browser.next.click()
    assert 'role="alert"' in browser.message.value
    browser.search.value = ""
    browser.models.value = ("TA", "TIES")
    assert Reader(browser.responses.value).tags.count("section") == 2
    text = HOSTILE.replace("\ud800", "")  # which no table of records can hold
    browser.records = records.rows.assign(response=text, question=text, answer=text, gold=text)
    browser.task.value = "abacus_hard"
    assert not {"script", "img", "style"} & set(Reader(browser.responses.value + browser.asked.value).tags)


# --- playground


def test_merges_are_the_engines(trio, tmp_path):
    chosen = [
        ("task_arithmetic", {"lambda": 0.9}),
        ("ties", {"density": 0.3}),
        ("slerp", {}),
        ("dare_linear", {"density": 0.5}),
    ]
    for name, parameters in chosen:
        choice = playground.Choice(
            name, dict(zip(trio.layers, np.linspace(0.1, 0.9, 9).tolist(), strict=True)), parameters, 3
        )
        trio.merge(choice)
        folder = acm.merge(yaml.safe_load(trio.export(choice)), tmp_path / name)
        expected = load_file(folder / "model.safetensors")
        found = trio.models["merge"].state_dict()
        assert all(torch.equal(found[key], tensor.float()) for key, tensor in expected.items()), name
    assert trio.layers == ["embed", *"012345", "norm", "lm_head"]


def test_every_offered_method_merges_at_its_defaults(trio):
    assert {"task_arithmetic", "ties", "dare_ties", "della", "twin", "slerp"} <= set(playground.offered_methods())
    for method in set(playground.offered_methods()) - {"della", "della_linear"}:
        trio.merge(playground.Choice(method, dict.fromkeys(trio.layers, 0.5), playground.parameters_of(method)))
    trio.merge(
        playground.Choice(
            "della", dict.fromkeys(trio.layers, 0.5), playground.parameters_of("della") | {"density": 0.5}
        )
    )


def test_export_to_mergekit_refuses_by_name(trio):
    choice = playground.Choice("task_arithmetic", dict.fromkeys(trio.layers, 0.5))
    content = yaml.safe_load(trio.export(choice, "mergekit"))
    assert (
        content["merge_method"] == "task_arithmetic"
        and content["models"][0]["parameters"]["weight"][-1]["value"] == [0.5] * 6
    )
    with pytest.raises(UserError, match="dare_linear"):
        trio.export(playground.Choice("dare_linear", choice.coefficients, {"density": 0.5}), "mergekit")


def test_answers_are_those_of_the_evaluation(trio, results):
    """The committed records hold what the evaluation got from these models and items."""
    items = playground.benchmark_items(9)
    assert items["task"].value_counts().eq(3).all() and items["item"].max() == 2
    for name in ("abacus-fast", "abacus-slow"):
        trio.models["merge"].load_state_dict(trio.models[name].state_dict())
        found = trio.evaluate(items, lambda done: None)
        expected = items[["task", "item"]].merge(results.records.query("method == @name"), on=["task", "item"])
        for column in ("response", "length", "truncated", "answer", "correct", "reflections"):
            assert found[column].tolist() == expected[column].tolist(), column


def test_grading_is_the_evaluations(results):
    for row in results.records.groupby(["task", "correct", "truncated"]).head(40).to_dict("records"):
        item = {key: row[key] for key in ("task", "item", "gold")}
        found = playground.graded(item, playground.Answer(row["response"], row["length"], row["truncated"]))
        assert (found["correct"], found["answer"]) == (row["correct"], row["answer"])


def test_prompts_are_checked(trio):
    assert playground.as_prompt("  tom has 3\n eggs. ") == "question: tom has 3 eggs. answer:"
    assert playground.as_prompt("question: x answer:") == "question: x answer:"
    for text, words in (("  ", "type a problem"), ("x" * 2000, "2000 characters")):
        with pytest.raises(UserError, match=words):
            playground.as_prompt(text)
    with pytest.raises(UserError, match="room"):
        trio.ask("abacus-fast", "question: " + "7 " * 700 + "answer:")
    problem = playground.draw_problem(4, 5)
    assert (
        len(problem.steps) == 4 and playground.problems.held_out(problem) and problem == playground.draw_problem(4, 5)
    )


def test_too_large_models_are_refused(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr(playground, "LARGEST", 10)
    folder = make_model(tmp_path / "model")
    with pytest.raises(UserError, match="at most"):
        playground.Trio(folder, folder)


def test_a_merge_is_compared_on_its_own_items(results):
    items = playground.benchmark_items(100)
    twin = results.records.query("method == 'TA'").merge(items[["task", "item"]])
    sample = playground.beside(results.records, {"mine": twin}, [*results.frontier, "TA"], items)
    assert sum(sample.items.values()) == 100 and np.array_equal(average(sample, "mine"), average(sample, "TA"))
    table = playground.comparison(sample, {"mine": "<b>"}, "TA", results.frontier)
    assert table.loc["mine", "accuracy less TA's"] == "+0.0 [+0.0, +0.0]" and "&lt;b&gt;" in table.to_html()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A playground on few items that the tests below use one after the other."""
    explorer = MergePlayground(items=6, saved=tmp_path_factory.mktemp("saved"))
    assert not explorer.message.value or "merged in" in explorer.message.value, explorer.message.value
    explorer.worker.wait()
    return explorer


def test_sliders_merge_and_ask(shared):
    assert Reader(shared.answers.value).tags.count("section") == 3 and "✓ right" in shared.answers.value, (
        "a drawn problem is graded"
    )
    shared.every.value = 0.0
    assert shared.worker.wait(60) and {control.value for control in shared.layers.values()} == {0.0}
    texts = re.findall('<div class="acm-text[^>]*>([^<]*)', shared.answers.value)
    assert texts[2] == texts[0] != texts[1], "a merge with λ = 0 answers as the base"
    shared.every.value = 1.0
    assert shared.worker.wait(60)
    assert (
        "merged in" in shared.message.value
        and re.findall(r"(\d+) tokens", shared.answers.value)[1:]
        == [re.findall(r"(\d+) tokens", shared.answers.value)[1]] * 2
    )


def test_measure_undo_compare_and_export(shared):
    shared.measure_button.click()
    assert shared.worker.wait(120) and "merge 1" in shared.picture.points and shared.progress.value == 6
    assert (
        "task_arithmetic, λ 1" in shared.picture.points["merge 1"].tooltip
        and "n = 6" in shared.picture.points["merge 1"].tooltip
    )
    assert "+0.0 [+0.0, +0.0]" in shared.table.value, "λ = 1 is the fine-tuned model"
    first = shared.current
    shared.method.value = "ties"
    shared.parameters["density"].value = 0.2
    shared.layers["3"].value = 0.25
    shared.worker.wait()
    assert shared.current.parameters["density"] == 0.2 and shared.current.coefficients["3"] == 0.25
    shared.undo_button.click()
    assert shared.layers["3"].value == 1.0 and shared.parameters["density"].value == 0.2
    shared.picture.points["merge 1"].click()
    shared.worker.wait()
    assert shared.current == first and shared.method.value == "task_arithmetic" and shared.merged == first
    shared.other.value = "merge 1"
    assert "less merge 1" in shared.table.value
    shared.style_of_recipe.value = "mergekit"
    assert yaml.safe_load(shared.recipe.value)["merge_method"] == "task_arithmetic"
    shared.save_button.click()
    assert [p.name for p in shared.saved.iterdir()] == ["recipe-1.yml"] and "recipe-1.yml" in shared.message.value
    shared.method.value = "dare_ties"
    assert "mergekit cannot" in shared.message.value and shared.save_button.disabled and shared.recipe.value == ""
    shared.style_of_recipe.value = "ours"
    assert yaml.safe_load(shared.recipe.value)["coefficients"]["abacus-slow"]["3"] == 1.0 and shared.worker.wait(60)


def test_the_presets_are_the_committed_coefficients(shared, results):
    buttons = {name: b for b in shared.children[1].children[0].children[-1].children for name in b._dom_classes}
    buttons["acm-preset-gaussian"].click()
    shared.worker.wait()
    assert shared.current.coefficients == results.coefficients["gaussian"]["abacus-slow"]


def test_errors_and_stops_of_the_thread_show(shared, monkeypatch):
    shared.problem.value = " "
    assert shared.worker.wait(60) and "type a problem" in shared.message.value
    shared.problem.value = "tom has 3 eggs. he buys 2 more. how many eggs are left?"
    assert shared.worker.wait(60) and "type a problem" not in shared.message.value
    shared.problem.value = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    assert (
        shared.worker.wait(60)
        and not {"script", "img"} & set(Reader(shared.answers.value).tags)
        and "merged" not in shared.message.value
    )
    assert Reader(shared.answers.value).tags.count("section") == 3
    points = set(shared.picture.points)

    def evaluate(items, report, stop):
        report(2)
        while not stop():
            time.sleep(0.01)
        raise playground.Stopped

    monkeypatch.setattr(shared.trio, "evaluate", evaluate)
    shared.measure_button.click()
    assert any(shared.progress.value == 2 or time.sleep(0.02) for _ in range(2000))
    assert not shared.stop_button.disabled, "measuring does not block"
    shared.stop_button.click()
    assert (
        shared.worker.wait(60)
        and "Stopped after 2 of 6" in shared.message.value
        and set(shared.picture.points) == points
    )
    monkeypatch.setattr(shared.trio, "evaluate", lambda *_: 1 / 0)
    shared.measure_button.click()
    assert shared.worker.wait(60) and "ZeroDivisionError" in shared.message.value and shared.stop_button.disabled


def test_a_newer_job_takes_the_place_of_the_one_under_way():
    seen = []
    worker = parts.Worker(seen.append)

    def job(name):
        def run(stop):
            while name == "old" and not stop():
                time.sleep(0.01)
            seen.append(name)

        return run

    worker.start(job("old"))
    worker.start(job("new"))
    assert worker.wait(20) and seen[-1] == "new"
    worker.start(lambda stop: 1 / 0)
    assert worker.wait(20) and isinstance(seen[-1], ZeroDivisionError)


def test_generation_ends_when_it_is_stopped(trio):
    with pytest.raises(playground.Stopped):
        trio.generate("abacus-slow", ["question: tom has 3 eggs. answer:"], lambda: True)


# --- sources


def test_own_runs_come_first_and_foreign_folders_are_left_out(tmp_path, monkeypatch):
    for path in ("tiny/long-to-short", "nobody/long-to-short", "tiny/nothing"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "records.parquet").write_bytes(b"")
    monkeypatch.setitem(sources.KINDS, "runs", (tmp_path, "your run"))
    found = list(sources.results_with("records.parquet"))
    assert found[0] == "tiny / long-to-short (your run)" and all(name.endswith("(committed)") for name in found[1:])
    assert {"tiny / general (committed)", "tiny / long-to-short (committed)"} < set(found)
    assert sources.preferred(found, "tiny", "long-to-short") == found[0]


def test_pictures_have_a_text_for_those_who_do_not_see_them():
    picture = parts.Picture()
    picture.draw(Figure(), 'a "quoted" <text>', {"p": (0.9, 0.1)}, {"p": "<hint>"})
    read = Reader(picture.image.value)
    assert read.tags == ["img"] and "alt" in read.attributes
    assert {"acm-point", "acm-low", "acm-right-side"} <= set(picture.points["p"]._dom_classes)
