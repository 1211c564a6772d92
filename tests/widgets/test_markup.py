"""Text of models as HTML: it can be read, and can do nothing."""

import re

from widgets.reading import HOSTILE, Reader

from acm.widgets import markup


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


def test_a_folded_text_shows_where_it_parts():
    text = "word " * 200 + "other " + "word " * 50
    made = markup.block(text, None, 1000)
    summary, whole = made.split("</summary>")
    assert "<details>" in summary and "acm-parting" in summary and Reader(whole).text == text
    assert len(Reader(summary).text) < 400 and "1,256 characters" in Reader(summary).text
    assert "<details>" not in markup.block("short")


def test_what_parts_is_marked_beside_what_matches():
    made = markup.marked("wait now wait", re.compile("wait"), parting=5)
    assert made == (
        '<span class="acm-shared"><mark>wait</mark></span><span class="acm-shared"> </span>'
        '<strong class="acm-parting">now</strong> <mark>wait</mark>'
    )


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
