"""The key ``questions`` of a profile: which questions are asked of it, each with parameters of its notebook."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from acm.schema import one_of

# in the order of their notebooks
QUESTIONS = ("estimate", "coefficients", "stability", "layers", "rule", "rivals", "scores")


def complete(asked: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What was given. ValueError where a question lacks one that it reads the results of."""
    if "coefficients" in asked and "stability" not in asked:
        raise ValueError("coefficients takes its calibration texts from stability; add `stability: {}`")
    return asked


Asked = Annotated[dict[Annotated[str, one_of("question", QUESTIONS)], dict[str, Any]], AfterValidator(complete)]
