"""Building blocks of the pydantic models that check a user's YAML files: profiles and their parts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from acm.errors import unknown


class Strict(BaseModel):
    """Refuses unknown keys and numbers that are not finite, and cannot be changed once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def optional(default: Any, **bounds: Any) -> Any:
    """A field that is left out of a dump while it holds its default.

    So a profile that does not use the field keeps its hash. bounds: of :func:`pydantic.Field`, such as ``ge=1``.
    """
    return Field(default, exclude_if=lambda value: value == default, **bounds)


def one_of(what: str, names: Collection[str]) -> AfterValidator:
    """A validator that refuses a name which is not among ``names``. The message hints at the nearest one."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(str(unknown(what, name, names)))
        return name

    return AfterValidator(check)
