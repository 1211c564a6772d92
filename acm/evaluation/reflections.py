"""Reflections: words such as "wait" and "double-check", by which a response shows that it reviews itself."""

from __future__ import annotations

import re
from functools import cache

from acm.evaluation.task_files import read_task

# The words that the paper counts in its Tables 6 and 7, in upper or lower case.
REFLECTION = re.compile(r"wait|re-examine|recap|double-check|let me (?:just )?(?:check|verify)", re.IGNORECASE)


@cache
def pattern_of(task: str) -> re.Pattern[str]:
    """What counts as a reflection in a response to a task: the paper's words, and the task's own word if it has one.

    A task of ours names its own word in its YAML file: ``metadata: {reflection: …}``.
    """
    own = (read_task(task).get("metadata") or {}).get("reflection")
    return re.compile(f"{REFLECTION.pattern}|{own}", re.IGNORECASE) if own else REFLECTION
