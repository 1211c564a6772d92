"""The table of all entries, by pair: recomputed from their records, written as `reports/community/README.md`.

Names in it come from strangers: every text is escaped, and nothing is a link that its own pattern has not allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from acm import hub
from acm.errors import UserError, listed
from acm.escaping import markdown, text_table
from acm.files import write_text
from acm.paths import REPORTS
from acm.reading import read_text
from acm.sharing.entry import FIGURE, PROFILE, ROW, check_entry, read_profile, read_row, relative
from acm.sharing.row import cells
from acm.sharing.submission import RECIPE, like_name
from acm.sharing.untrusted import RECORDS, SMALL, plain_file

COMMUNITY = REPORTS / "community"
PAGE = "README.md"
HEAD = """# Results from other hardware

<!-- written by `acm community` from the rows of the entries -->

Each row is computed from the records beside it, by `acm submit`, and computed again by the tests. Accuracy and
truncated responses are in percent, means over tasks, with 95 % intervals. The verdict is against *the bar*: plain
interpolation of the same two models that is no longer. How to add a row: [docs/submit.md](../../docs/submit.md).
"""
EMPTY = "\nNo entry yet.\n"
Rows = dict[Path, dict[str, Any]]


def entries(folder: Path) -> Iterator[Path]:
    """The folders `<pair>/<name>` of a community folder, sorted. UserError for anything else that lies there.

    A page that is a link is refused too: it would be written through.
    """
    for pair in sorted(folder.iterdir()) if folder.is_dir() else ():
        if pair.name == PAGE:
            plain_file(pair, SMALL)
            continue
        for entry in sorted(subfolder(pair).iterdir()):
            yield subfolder(entry)


def subfolder(path: Path) -> Path:
    """A folder whose name is one. UserError for a link, a file, and a name with other characters."""
    if path.is_symlink() or not path.is_dir():
        raise UserError(f"{path} is no folder; reports/community holds <pair>/<name>/ and {PAGE} alone.")
    for name in path.name.split("+"):
        like_name(name, f"{path.parent}: a folder's name")
    return path


def check_all(folder: Path, tokenizers: bool = False, redraw: bool = False) -> tuple[Rows, list[str]]:
    """Entry → its row, all computed anew, and a line on each whose lengths could not be counted.

    UserError with a sentence for each entry that does not hold.
    """
    rows: Rows = {}
    errors, lines = [], list[str]()
    for entry in entries(folder):
        notes: list[str] = []
        try:
            rows[entry] = check_entry(entry, tokenizers, redraw, notes)
            lines += [f"{relative(entry)}: {note}" for note in notes]
        except UserError as error:
            errors.append(str(error).replace("\n", " "))
    if errors:
        raise UserError("\n  ".join(errors))
    return rows, lines


def community(folder: Path = COMMUNITY, check: bool = False, tokenizers: bool = False) -> str:
    """Compute all rows anew and write their table. Returns a line on it, and one on each entry without counted lengths.

    check: write nothing, and refuse a table or a figure that is not up to date.
    """
    rows, notes = check_all(folder, tokenizers, redraw=not check)
    page, text = folder / PAGE, table_text(rows)
    stated = read_text(page, "Markdown") if page.is_file() else None
    if check and stated != text:
        raise UserError(f"{page} is not the table of its entries; write it with `acm community`.")
    if stated != text:
        write_text(page, text)
    what = "1 row follows" if len(rows) == 1 else f"{len(rows)} rows follow"
    return "\n".join([f"{what} from the records; {relative(page)} is their table.", *notes])


def write_table(folder: Path) -> Path:
    """Write the table from the rows as they are stated, without computing them anew; returns its path."""
    write_text(folder / PAGE, table_text({entry: read_row(entry / ROW) for entry in entries(folder)}))
    return folder / PAGE


def table_text(rows: Rows) -> str:
    """The page: for each pair a table, and under it what each row stands on."""
    parts = [HEAD]
    for pair in dict.fromkeys(row["pair"] for row in rows.values()):
        own = {entry: row for entry, row in rows.items() if row["pair"] == pair}
        table = pd.DataFrame([cells(row) for row in own.values()]).set_index("method")
        parts += [f"\n## {markdown(pair.replace('+', ' + '))}\n\n{text_table(table)}\n\n"]
        parts += [below(entry, row) for entry, row in own.items()]
        parts += [picture(entry, row) for entry, row in own.items()]
    return "".join(parts) if rows else HEAD + EMPTY


def below(entry: Path, row: dict[str, Any]) -> str:
    """The line of a row under its table: files, engine, licence, weights, note, and why it has no verdict."""
    place = f"{entry.parent.name}/{entry.name}"
    links = ", ".join(f"[{name}]({place}/{name})" for name in (RECORDS, RECIPE, ROW))
    used = row["evaluated_with"]
    engine = row["engine"] or " ".join(str(used[key]) for key in ("engine", "dtype", "device") if key in used)
    said = [f"by {row['who']}", f"{row['profile']} ({row['profile_hash']}), {row['generated']}, cap {row['cap']}"]
    said += [f"engine {engine}", f"records under {row['licence']}"]
    said += whose(row) + lengths(entry, row)
    said += [text.rstrip(".") for text in (row["note"], row["why_no_verdict"]) if text]
    weights = f" [weights](<{row['weights']}>);" if row["weights"] else ""
    return f"- {markdown(row['method'])}: {links};{weights} {markdown('; '.join(said))}.\n"


def whose(row: dict[str, Any]) -> list[str]:
    """Where the records come from that a row is held against; nothing where there are none."""
    own = [name for name in row["points"] if name not in (row["method"], *row["borrowed"])]
    if own and row["borrowed"]:
        return [f"the submitter's own records of {listed(own)}, the committed ones of the other parents and frontier"]
    of = "the submitter's own" if own else "the committed"
    return [f"parents and frontier are {of} records"] if own or row["borrowed"] else []


def lengths(entry: Path, row: dict[str, Any]) -> list[str]:
    """Whose tokenizer counts the lengths, where the repository has none of the pair."""
    setting = read_profile(entry / PROFILE).experiment(row["experiment"])
    away = [model for model in (setting.base, *setting.finetuned) if hub.is_hub(model) or model.startswith("runs/")]
    return [f"lengths not counted here, but with the tokenizers of {listed(away)}"] if away else []


def picture(entry: Path, row: dict[str, Any]) -> str:
    """The figure of a row."""
    alt = markdown(f"accuracy against length of {row['method']} by {row['who']}").replace("]", r"\]")
    return f"\n![{alt}]({entry.parent.name}/{entry.name}/{FIGURE})\n"
