"""Makes the HTML of the explorers: marked text, cards of responses, messages, and the style sheet.

Text that a model wrote is not trusted (:mod:`acm.hypertext`). This module does not depend on widgets.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from acm.hypertext import NO_MATHS, shown

LONGEST = 20_000  # how many characters of a text are shown
FOLDED, PREVIEW = 400, 300  # a text of more characters is folded, and so many are shown
WORD = re.compile(r"\s*\S*")
CSS = """
.acm-explorer {max-width: 1180px; color: var(--jp-ui-font-color1, #111)}
.acm-explorer .widget-label {font-weight: 600; white-space: nowrap}
.acm-explorer .acm-message {min-height: 38px; margin: 0} .acm-message [role] {line-height: 1.35}
.acm-explorer [aria-busy="true"] {opacity: 0.5}
.acm-explorer .acm-row {display: flex; flex-flow: row wrap; gap: 2px 14px; align-items: flex-end; overflow: visible}
.acm-row > .widget-inline-hbox {flex-wrap: wrap; height: auto; margin: 0}
.acm-row > .widget-inline-hbox > .widget-label {flex: 0 0 100%; width: auto; height: 20px; line-height: 20px;
  margin: 0; text-align: left; font-size: 12px}
.acm-row select {height: 28px; width: 100%} .acm-row .slider-container {flex: 1 1 80px}
.acm-row .widget-readout {flex: 0 0 auto; width: 44px; min-width: 0}
.acm-row > .acm-chart {margin: 3px 0}
.acm-explorer .acm-side-by-side {display: flex; flex-flow: row wrap; gap: 4px 12px; margin-top: 4px; overflow: visible}
.acm-explorer .acm-caption {margin: 0; font-size: 12px; line-height: 1.35}
.acm-explorer .acm-panel {max-height: 400px; overflow: auto; font-size: 13px; line-height: 1.4}
.acm-panel .acm-cards {grid-template-columns: 1fr} .acm-panel .widget-html-content {line-height: 1.4}
.acm-panel p {margin: 0 0 6px}
@media (max-width: 900px) {.acm-side-by-side > * {flex-basis: 100% !important}}
.acm-explorer .acm-table table {border-collapse: collapse} .acm-table .widget-html-content {line-height: 1.4}
.acm-explorer .acm-table :is(td, th) {padding: 2px 10px; text-align: right; line-height: 1.4}
.acm-cards {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 12px;
  line-height: 1.4}
.acm-card {border: 1px solid var(--jp-border-color1, #bbb); border-left: 6px solid #888; padding: 6px 10px;
  min-width: 0}
.acm-card.acm-right {border-left-color: #0072b2} .acm-card.acm-wrong {border-left-color: #d55e00}
.acm-card h4 {margin: 0; overflow-wrap: anywhere} .acm-card p {margin: 2px 0 6px}
.acm-text {margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; max-height: 17em;
  overflow: auto; font-family: var(--jp-code-font-family, monospace); font-size: 13px; background: transparent}
.acm-text mark {background: #f0e442; color: #111; padding: 0 2px}
.acm-shared {opacity: 0.72}
.acm-parting {background: #ffd6cc; color: #111; outline: 1px solid #c04d00}
.acm-cards details[open] > summary > .acm-preview {display: none}
.acm-text.acm-preview {display: inline}
.acm-explorer .acm-answers {max-height: 330px; overflow: auto} .acm-answers p {margin: 2px 0 6px; line-height: 1.4}
.acm-explorer .acm-asked {max-height: 84px; overflow: auto} .acm-asked .widget-html-content {line-height: 1.4}
.acm-unseen {opacity: 0.7; border: 1px dotted; font-size: 85%}
.acm-error {border-left: 6px solid #d55e00; padding: 4px 10px; white-space: pre-wrap; overflow-wrap: anywhere;
  line-height: 1.4}
"""


def marked(text: str, pattern: re.Pattern | None = None, limit: int = LONGEST, parting: int | None = None) -> str:
    """Escaped text, in which what matches the pattern is in ``<mark>``.

    parting: where the text parts from another; what is before is shown as shared, and the word there stands out. Of a
    text of more than ``limit`` characters these are shown, and how many more there are.
    """
    whole, text = len(text), text[:limit]
    spans = [match.span() for match in pattern.finditer(text)] if pattern else []
    word = WORD.match(text, parting) if parting is not None else None
    edges = {0, len(text), *(end for span in spans for end in span), *(word.span() if word else ())}
    parts, places = [], sorted(edges)
    for start, end in itertools.pairwise(places):
        piece = shown(text[start:end])
        if any(first <= start < last for first, last in spans):
            piece = f"<mark>{piece}</mark>"
        if parting is not None and start < parting:
            piece = f'<span class="acm-shared">{piece}</span>'
        if word and word.start() <= start < word.end():
            piece = f'<strong class="acm-parting">{piece}</strong>'
        parts.append(piece)
    more = f'\n<em class="acm-unseen">… {whole - limit:,} more characters</em>' if whole > limit else ""
    return "".join(parts) + more


def block(text: str, pattern: re.Pattern | None = None, parting: int | None = None) -> str:
    """A text of any length in a box that scrolls, which the keyboard reaches. A long one is folded."""
    made = f'<div class="acm-text {NO_MATHS}" dir="auto" tabindex="0">{marked(text, pattern, LONGEST, parting)}</div>'
    if len(text) <= FOLDED:
        return made
    start = max(0, (parting or 0) - PREVIEW // 3)
    beginning = marked(text[start : start + PREVIEW], pattern, PREVIEW, None if parting is None else parting - start)
    preview = f'<span class="acm-text acm-preview {NO_MATHS}">{"… " if start else ""}{beginning} …</span>'
    return f"<details><summary>{preview} <em>{len(text):,} characters</em></summary>{made}</details>"


def card(
    title: str,
    row: Mapping[str, Any],
    pattern: re.Pattern | None = None,
    question: bool = False,
    parting: int | None = None,
) -> str:
    """One response: who, right or wrong, length in tokens, answer and text.

    row: a record, or what it has of one. pattern: what to mark in the text. question: whether to show it too.
    parting: where the text parts from another (:func:`marked`).
    """
    correct = row.get("correct")
    state = "acm-unknown" if correct is None else "acm-right" if correct else "acm-wrong"
    name, asked, text = (
        f'<h4 class="{NO_MATHS}"><bdi>{shown(title)}</bdi></h4>',
        "",
        "<em>these records keep no text</em>",
    )
    if question and "question" in row:
        asked = f"<details><summary>question</summary>{block(str(row['question']))}</details>"
    if row.get("response") is not None:
        text = block(str(row["response"]), pattern, parting)
    return f'<section class="acm-card {state}">{name}<p class="{NO_MATHS}">{facts(row)}</p>{asked}{text}</section>'


def facts(row: Mapping[str, Any]) -> str:
    """One line on a response, escaped."""
    correct, length = row.get("correct"), row["length"]
    parts = []
    if correct is not None:
        parts.append("✓ right" if correct == 1 else "✗ wrong" if correct == 0 else f"{correct:.0%} right")
    cut = ", cut by the cap" if row.get("truncated") else ""
    parts.append(f"{length:,.0f} token{'' if length == 1 else 's'}{cut}")
    if (count := row.get("reflections")) is not None:
        parts.append(f"{count} reflection{'' if count == 1 else 's'}")
    if row.get("answer") is not None:
        gold = f" (right: {shown(brief(row['gold']))})" if row.get("gold") is not None and not correct else ""
        parts.append(f"answer <bdi>{shown(brief(row['answer']))}</bdi>{gold}")
    return " · ".join(parts)


def brief(text: object, limit: int = 80) -> str:
    """The first ``limit`` characters of a text."""
    text = str(text)
    return text if len(text) <= limit else text[:limit] + "…"


def cards(parts: list[str]) -> str:
    """Cards side by side, as many as fit."""
    return f'<div class="acm-cards">{"".join(parts)}</div>'


def note(text: str) -> str:
    """A message that screen readers tell when it changes."""
    return f'<div role="status" class="{NO_MATHS}">{shown(text)}</div>' if text else ""


def busy(content: str) -> str:
    """What is computed anew keeps its place, dimmed, and says so to screen readers."""
    return f'<div aria-busy="true">{content}</div>'


def alert(text: str, details: str = "") -> str:
    """An error's message; ``details``, folded."""
    more = f"<details><summary>details</summary><pre>{shown(details)}</pre></details>" if details else ""
    return f'<div role="alert" class="acm-error {NO_MATHS}"><strong>Error.</strong> {shown(text)}{more}</div>'
