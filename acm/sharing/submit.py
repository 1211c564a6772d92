"""Makes an entry of a submission: checks it, computes its row, and writes the entry and the text of a pull request."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote
from typing import Any

import pandas as pd

from acm.escaping import literal, markdown, text_table
from acm.files import write_text
from acm.paths import RUNS, require_clone
from acm.profiles import Profile
from acm.running.imported import counter
from acm.sharing.community import COMMUNITY, write_table
from acm.sharing.entry import relative, write_entry
from acm.sharing.row import cells, compute_row, sample_of
from acm.sharing.submission import Submitted, like_name, read_submission

BODY = """# {title}

{table}

{verdict}

- Pair {pair}; profile {profile} ({hash}), experiment {experiment}.
- Hardware: {hardware}{hours}.
- Records: {rows:,} responses, under {licence}. The entry: `{entry}`.

Commands that made and checked it:

```sh
acm fetch --profile {profile_typed}
make reproduce PROFILE={profile_typed}
acm submit FOLDER --profile {profile_typed} --experiment {experiment_typed}
acm community --check
```

- [ ] The records are mine to give, under the licence above.
- [ ] Nothing in the responses was edited.
- [ ] `acm community --check` passes here.
"""


def submit(
    folder: Path, profile: Profile, experiment: str, name: str | None = None, out: Path | None = None,
    tokenizer: Path | None = None, dry_run: bool = False,
) -> str:  # fmt: skip
    """Check a folder, and write its entry, the table and the text of the pull request. Returns what to print.

    name: of the entry; by default from the method and who submits. out: write the entry and the text there, not into
    reports/community. tokenizer: of the model that answered; the profile's own folders are taken where they are here.
    dry_run: check and compute, write nothing. UserError for the first thing that does not fit; then nothing is written.
    """
    if not (out or dry_run):
        require_clone("acm submit without --out")
    submitted = read_submission(folder, profile, experiment, lambda one: counter(profile, experiment, one, tokenizer))
    name = like_name(name or slug(f"{submitted.stated.method}-{submitted.stated.who}"), "--name")
    target = (out or COMMUNITY) / submitted.pair / name
    if dry_run:
        row = compute_row(submitted, sample_of(submitted))
        return "\n\n".join([shown(row), f"{folder} holds; nothing was written. It would become {relative(target)}."])
    row = write_entry(submitted, target)
    text = (out or RUNS / "submissions") / f"{submitted.pair}-{name}.md"
    write_text(text, pull_request(submitted, row, relative(target)))
    wrote = [target, text] if out else [target, text, write_table(COMMUNITY)]
    return "\n".join(
        [shown(row), "", *(f"wrote {relative(path)}" for path in wrote), *([] if out else [steps(row, name, text)])]
    )


def slug(text: str) -> str:
    """A text as the name of a folder: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "entry"


def shown(row: dict[str, Any]) -> str:
    """The row as a plain table, and its verdict in a sentence."""
    texts = cells(row)
    wide = pd.DataFrame({"value": list(texts.values())}, index=list(texts))
    return f"{text_table(wide, 'plain', headers=())}\n\n{literal(in_words(row))}"


def in_words(row: dict[str, Any]) -> str:
    """The verdict in a sentence."""
    if row["why_no_verdict"]:
        return f"No verdict. {row['why_no_verdict']}"
    if row["verdict"] == "outside":
        return f"No verdict: {row['method']} is longer or shorter than every plain interpolation."
    points = cells(row)["points above the bar"]
    return f"{row['method']} against plain interpolation that is no longer: {row['verdict']} ({points} points)."


def pull_request(submitted: Submitted, row: dict[str, Any], entry: str) -> str:
    """The text of the pull request: its first line is the title."""
    wide = pd.DataFrame([cells(row)]).set_index("method")
    return BODY.format(
        title=markdown(title(row)), table=text_table(wide), verdict=markdown(in_words(row)), entry=entry,
        pair=markdown(row["pair"]), profile=markdown(row["profile"]), hash=row["profile_hash"],
        experiment=markdown(row["experiment"]), hardware=markdown(row["hardware"]), licence=row["licence"],
        hours=f", {row['hours']:g} hours" if row["hours"] else "",
        rows=sum(map(len, submitted.records.values())),
        profile_typed=row["profile"], experiment_typed=row["experiment"],
    )  # fmt: skip


def title(row: dict[str, Any]) -> str:
    """The title of the pull request."""
    return f"Records: {row['method']} of {row['pair']}, by {row['who']}"


def steps(row: dict[str, Any], name: str, text: Path) -> str:
    """The commands that open the pull request."""
    return (
        f"To open a pull request:\n  git switch -c records-{name}\n  git add reports/community\n"
        f"  git commit -m {quote(title(row))}\n  git push -u origin records-{name}\n"
        f"  gh pr create --fill --body-file {relative(text)}"
    )
