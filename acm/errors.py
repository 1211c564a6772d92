"""UserError, the exception for a user's mistake. Its message names the file or value, the fault and the remedy.

Names in a message come from files that are not trusted. Characters that could steer a terminal, or forge a line, are
shown by their codes. Long names and lists are cut.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:  # its import takes a tenth of a second
    import pydantic

POSIX = ("fcntl", "resource")  # modules of Python that Windows lacks
MOST = 12  # names of a list that a message shows
LONGEST = 200  # characters of a name that a message shows
TEXT = 4000  # characters of a message
# Control characters, lone surrogates, and marks that hide text or turn its direction.
UNSEEN = "\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
STEERING = re.compile(f"[{UNSEEN}]|\n(?!  )")  # a message's own lists have an indent after each new line
REASONS = {
    errno.EACCES: "you lack the permission",
    errno.EPERM: "you lack the permission",
    errno.ENOSPC: "the disk is full; free some space and give the same command again",
    errno.EDQUOT: "your quota of disk space is used up; free some space and give the same command again",
    errno.EROFS: "the disk can only be read; choose another folder",
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.EEXIST: "something of that name exists already",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "it is a link that leads back to itself",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n 4096`)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "there is not enough memory",
    errno.EIO: "the disk failed to read or write",
    errno.EFBIG: "the file system takes no file of that size",
    errno.ECONNREFUSED: "nothing answers there",
}
# Type of pydantic's finding → what a value must be. Braces take the bound.
WANTED = {
    "string_type": "text", "bool_type": "true or false", "bool_parsing": "true or false", "none_required": "empty",
    "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number", "float_type": "a number", "float_parsing": "a number",
    "finite_number": "a finite number", "list_type": "a list", "tuple_type": "a list", "dict_type": "a mapping",
    "mapping_type": "a mapping", "model_type": "a mapping", "model_attributes_type": "a mapping",
    "greater_than": "above {gt}", "greater_than_equal": "at least {ge}", "less_than": "below {lt}",
    "less_than_equal": "at most {le}", "literal_error": "{expected}",
}  # fmt: skip
OTHERWISE = {
    "missing": "is missing", "too_short": "must hold at least {min_length}, not {actual_length}",
    "too_long": "must hold at most {max_length}, not {actual_length}",
    "string_unicode": "holds text that is no valid Unicode",
}  # fmt: skip
# What pydantic adds to a place for each branch that a value may take.
BRANCH = re.compile(
    r"(str|int|float|bool|none|\[key\]|(function|constrained|literal|list|dict|tuple|finite|nullable)\W.*)"
)


class UserError(ValueError):
    """Bad input. The command line prints its message alone, without a traceback.

    Control characters in the message are escaped. A new line stays where an indent follows, as in a list.
    """

    def __init__(self, text: object) -> None:
        super().__init__(printable(str(text)))


def printable(text: str) -> str:
    """A message without characters that steer a terminal, and cut in its middle where it is long."""
    if len(text) > TEXT:
        text = f"{text[: TEXT // 2]} … {text[-TEXT // 4 :]}"
    return STEERING.sub(coded, text)


def shown(name: object) -> str:
    """A name from a file as a message shows it: on one line, cut where it is long."""
    text = str(name)
    return re.sub(f"[{UNSEEN}\n]", coded, text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def coded(match: re.Match[str]) -> str:
    r"""A character by its code, such as ``\x1b``."""
    return match.group().encode("unicode_escape").decode()


def listed(names: Iterable[object], more: str = "") -> str:
    """A dozen names at most, then how many more there are. more: where the others can be seen."""
    names = list(names)
    rest = f" and {len(names) - MOST:,} more" + (f" ({more})" if more else "") if len(names) > MOST else ""
    return (", ".join(map(shown, names[:MOST])) or "none") + rest


def unknown(what: str, name: str, known: Iterable[str], more: str = "") -> UserError:
    """An error for a name that is not among the known ones, with the nearest as a hint. more: as in :func:`listed`."""
    known = sorted(map(str, known))
    near = get_close_matches(name[:LONGEST], known, n=MOST)
    hint = f" Did you mean '{shown(near[0])}'?" if near else ""
    if len(known) > MOST:
        known = near + [other for other in known if other not in near]
    return UserError(f"unknown {shown(what)} '{shown(name)}'.{hint} Known: {listed(known, more)}.")


def check_distinct(names: Iterable[str], what: str) -> None:
    """UserError if a name comes twice."""
    names = list(names)
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"'{shown(twice[0])}' names two {what}; names tell them apart, so rename one.")


def os_reason(error: OSError) -> str:
    """Why the operating system refused, in plain words."""
    return REASONS.get(error.errno or 0) or (error.strerror or str(error) or type(error).__name__).splitlines()[0]


def os_refusal(error: OSError) -> UserError:
    """One sentence for an error of the operating system that no other place has explained."""
    if "temporary directory" in str(error):
        return UserError("there is no folder for temporary files that can be written; set TMPDIR to one.")
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # a folder was copied: the first refusal
        _, target, why = error.args[0][0]
        number = re.search(r"\[Errno (\d+)\]", str(why))
        error = OSError(int(number[1]) if number else None, str(why), str(target))
    place = error.filename2 or error.filename
    return UserError(f"{shown(place)} cannot be used: {os_reason(error)}." if place else f"{os_reason(error)}.")


def explain(error: pydantic.ValidationError, source: str, model: Any = None) -> UserError:
    """What is wrong with a user's file, each finding with its place: on one line, or as a list.

    source: the file. model: the pydantic model, whose keys are hints for a misspelt one.
    """
    wanted: dict[str, list[str]] = {}  # of values that may be of several kinds
    said: dict[str, str] = {}
    for finding in error.errors(include_url=False):
        *outer, last = finding["loc"] or ("",)
        loc = [part for part in outer if not (isinstance(part, str) and BRANCH.fullmatch(part))]
        if finding["type"] == "extra_forbidden" or not BRANCH.fullmatch(str(last)):
            loc.append(last)
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in loc).lstrip(".")
        kind, bounds = finding["type"], finding.get("ctx", {})
        if kind in WANTED:
            wanted.setdefault(place, []).append(WANTED[kind].format(**bounds))
            said[place] = f"must be {' or '.join(dict.fromkeys(wanted[place]))}, not {brief(finding['input'])}"
        elif kind == "extra_forbidden":
            near = get_close_matches(str(last)[:LONGEST], keys_at(model, loc[:-1]), n=1)
            said[place] = "unknown key; " + (f"did you mean '{near[0]}'?" if near else "remove it or mend its spelling")
        elif kind == "value_error":
            said[place] = str(bounds["error"])
        else:
            said[place] = OTHERWISE[kind].format(**bounds) if kind in OTHERWISE else finding["msg"]
    inner = [place for place in said if not any(other.startswith((f"{place}.", f"{place}[")) for other in said)]
    lines = [f"{place}: {said[place]}" if place else said[place] for place in inner]
    if len(lines) == 1:
        return UserError(f"{source} is not valid: {lines[0].rstrip('.')}{'' if lines[0].endswith('?') else '.'}")
    more = [f"and {len(lines) - MOST:,} more"] if len(lines) > MOST else []
    return UserError(f"{source} is not valid:\n  " + "\n  ".join([*lines[:MOST], *more]))


def brief(value: object) -> str:
    """A value of a file, as a message shows it."""
    if isinstance(value, (dict, list, tuple)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    return f"'{shown(value)}'" if isinstance(value, str) else shown(value)


def keys_at(model: Any, place: list[int | str]) -> list[str]:
    """The keys that a pydantic model takes at a place within it."""
    for step in place:
        field = model and model.model_fields.get(step)
        model = (field and model_in(field.annotation)) or model
    return list(model.model_fields) if model else []


def model_in(annotation: Any) -> Any:
    """The pydantic model that an annotation speaks of, such as ``list[Model]``; None where it has none."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next((model for part in get_args(annotation) if (model := model_in(part))), None)


def absent(error: ModuleNotFoundError) -> UserError | None:
    """One sentence for a package that an extra brings, and for a module that Windows lacks.

    None for any other module.
    """
    from importlib.metadata import PackageNotFoundError, requires

    module = (error.name or "").partition(".")[0]
    if module in POSIX:
        return UserError(f"this needs Python's module {module}, which Windows lacks: run it in WSL (docs/windows.md).")
    try:
        lines = requires("acm-companion") or []
    except PackageNotFoundError:  # run from a folder, never installed
        return None
    package = module.replace("_", "-").lower()
    found = [re.fullmatch(r"([\w-]+).*extra == ['\"](\w+)['\"].*", line) for line in lines]
    extras = {match[2] for match in found if match and match[1] == package} - {"all"}
    if not extras:
        return None
    return UserError(
        f"this needs the package {package}, which is not installed: "
        f'pip install "acm-companion[{min(extras)}]" brings it (in a clone, `make` does).'
    )
