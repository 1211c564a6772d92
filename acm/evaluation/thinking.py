"""Separates the thinking of a response, between ``<think>`` and ``</think>``, from the answer that follows it."""

from __future__ import annotations

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


def opened(prompt: str) -> str:
    """``<think>`` where a prompt ends with it, else nothing.

    The chat templates of models that reason end so. The response then only closes its thinking.
    """
    return THINK_OPEN if prompt.rstrip().endswith(THINK_OPEN) else ""


def after_thinking(response: str) -> tuple[str, bool | None]:
    """The part of a response that counts, and whether its thinking closed. None: there was no thinking."""
    text = response.rpartition(THINK_CLOSE)[2]
    if THINK_OPEN in text:
        return text, False
    return text, True if THINK_CLOSE in response else None
