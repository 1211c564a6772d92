"""What the user says of a log that the log does not say itself, and the rules by which the two are put together.

A setting that decides a result comes from the log or from the user. It is never assumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from acm.errors import UserError, listed, shown

OWN_PROMPT = "own"  # a task's own prompt as it stands: no chat template around it, no system instruction before it


@dataclass(frozen=True)
class Given:
    """Settings by option of the command line. None, or empty: the log states it.

    max_tokens: token cap of a response. temperature, top_p, top_k: of sampling.
    prompt: a name of ``acm.evaluation.prompts``, or ``own``. items: task → how many items it has.
    metrics, filters: which count, where a log has several. recompute: replace what differs when it is recomputed.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    prompt: str | None = None
    items: Mapping[str, int] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    recompute: bool = False

    def stated(self) -> dict[str, Any]:
        """What was said, as the setting of the records notes it."""
        values = {name: value for name, value in vars(self).items() if name in SETTINGS and value is not None}
        return values | ({"items": dict(self.items)} if self.items else {})


SETTINGS = ("max_tokens", "temperature", "top_p", "top_k", "prompt")


def settled(name: str, stated: Any, given: Any, place: str, why: str = "") -> Any:
    """The value of a setting from the log or the user. UserError where neither says it, and where the two differ.

    name: as the option has it, such as max-tokens. why: what the log has instead.
    """
    what = name.replace("-", " ")
    if stated is None and given is None:
        raise UserError(f"{place} does not state its {what}{why}; say what it was by --{name}.")
    if stated is not None and given is not None and stated != given:
        raise UserError(f"{place} states {what} {shown(stated)}, and --{name} says {shown(given)}; leave --{name} out.")
    return given if stated is None else stated


def chosen(kind: str, names: Iterable[str], given: tuple[str, ...], place: str) -> str:
    """The metric or filter that counts: the only one, or the one of these that the user named. UserError otherwise."""
    names = list(dict.fromkeys(names))
    named = [name for name in names if name in given]
    if len(named) == 1 or (len(names) == 1 and not given):
        return (named or names)[0]
    has = f"{place} has the {kind}s {listed(names)}"
    if given and not named:
        raise UserError(f"{has}, none of which --{kind} names; name one of them.")
    raise UserError(f"{has}; choose the one that counts by --{kind}.")
