"""Building blocks of the pydantic models that check a user's YAML files: profiles and their parts."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from acm.errors import brief, unknown


class Strict(BaseModel):
    """Refuses unknown keys, numbers that are not finite and truth values as numbers. Cannot be changed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic reads true as 1, and YAML reads `yes` and `on` as true."""
        kinds = set(re.findall(r"\w+", str(cls.model_fields[str(info.field_name)].annotation)))
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if kinds & {"int", "float"} and "bool" not in kinds and (truth := [v for v in inner if isinstance(v, bool)]):
            raise ValueError(f"must be a number, not {brief(truth[0])}")
        return value


def optional(default: Any, **bounds: Any) -> Any:
    """A field that is left out of a dump while it holds its default.

    So a profile that does not use the field keeps its hash. bounds: of :func:`pydantic.Field`, such as ``ge=1``.
    """
    return Field(default, exclude_if=lambda value: value == default, **bounds)


def like(pattern: str, words: str) -> AfterValidator:
    """A validator that refuses a text which does not match the whole pattern. words: what the text must be."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {words}, not {brief(text)}")
        return text

    return AfterValidator(check)


def one_of(what: str, names: Collection[str]) -> AfterValidator:
    """A validator that refuses a name which is not among ``names``. The message hints at the nearest one."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(str(unknown(what, name, names)))
        return name

    return AfterValidator(check)
