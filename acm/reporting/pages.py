"""Fills pages with results. A page says by marks which results it shows; this module holds no list of pages.

A page is a Markdown file with pairs of marks, such as::

    <!-- acm: headline tiny -->
    …
    <!-- end -->

The first mark names a part, a key of :data:`PARTS`, and a profile. The text between the marks is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from acm.errors import UserError, unknown
from acm.files import write_text
from acm.paths import FIGURES, REPORTS
from acm.profiles import Profile, load_profile
from acm.reading import read_text
from acm.reporting.comparison import as_text, compare
from acm.reporting.report import dominance_text, headline, short_table, verdict_list
from acm.reporting.results import Results

ASKED = re.compile(r"(<!-- acm: (\S+) (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
FIRST_MARK = "<!-- acm: "


def first_headline(profile: Profile, page: Path) -> str:
    """The headline table of a profile's first experiment."""
    return headline(Results(profile, next(iter(profile.experiments)), "reports"), markdown=True)


def short(profile: Profile, page: Path) -> str:
    """Four rows of the headline table, of a profile's first experiment."""
    return short_table(Results(profile, next(iter(profile.experiments)), "reports"))


def verdicts(profile: Profile, page: Path) -> str:
    """The verdicts of a profile's questions."""
    return verdict_list(REPORTS / profile.name, FIGURES / profile.name, page)


def comparison(profile: Profile, page: Path) -> str:
    """ACM on Task Arithmetic and its null control against Task Arithmetic, in a profile's first experiment."""
    results, labels = Results(profile, next(iter(profile.experiments)), "reports"), ["TA", "ACM-TA", "Null-TA"]
    return f"{as_text(compare(results.records, labels[0], labels[1:]), labels, [], markdown=True)}\n"


def dominates(profile: Profile, page: Path) -> str:
    """ACM beside other ways to the same end, in a profile's first experiment."""
    return f"{dominance_text(Results(profile, next(iter(profile.experiments)), 'reports'))}\n"


# Part → its text from the committed results. A function takes the profile and the folder of the page.
PARTS: dict[str, Callable[[Profile, Path], str]] = {
    "headline": first_headline,
    "short": short,
    "verdicts": verdicts,
    "comparison": comparison,
    "dominance": dominates,
}


def filled(text: str, page: Path) -> str:
    """The text of a page with every part that it asks for. page: its folder, where links start.

    Raises UserError as :func:`check_marks`, and for results that are not there.
    """

    def part(match: re.Match[str]) -> str:
        begin, name, profile, _, end = match.groups()
        return f"{begin}{PARTS[name](load_profile(profile), page)}{end}"

    check_marks(text)
    return ASKED.sub(part, text)


def check_marks(text: str) -> None:
    """UserError for an unknown part or profile, and for a mark without its end."""
    asked = ASKED.findall(text)
    if len(asked) != text.count(FIRST_MARK):
        raise UserError(
            f"a mark `{FIRST_MARK}PART PROFILE -->` stands on a line of its own and needs a `<!-- end -->`."
        )
    for _, name, profile, *_ in asked:
        if name not in PARTS:
            raise unknown("part of a page", name, PARTS)
        load_profile(profile)


def page_text(page: Path) -> str:
    """The text of a page. UserError where there is none, and as :func:`check_marks`."""
    if not page.is_file():
        raise UserError(f"there is no page {page} to fill.")
    text = read_text(page, "Markdown").replace("\r\n", "\n")
    try:
        check_marks(text)
    except UserError as error:
        raise UserError(f"{page}: {error}") from None
    return text


def fill_page(page: Path) -> bool:
    """Fill a page in place; whether it changed. Raises UserError as :func:`page_text` and :func:`filled`."""
    text = page_text(page)
    new = filled(text, page.parent)
    if new != text:
        write_text(page, new)
    return new != text
