"""The key ``searches`` of a profile: searches of coefficients, by name. See ``docs/search.md``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from acm.schema import Strict

ItemRange = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]
CANDIDATES = 200  # of the sampler, where a block says nothing


class SearchBlock(Strict):
    """A search of the coefficients of one merge, by name in the profile.

    experiment: whose models, tasks and token cap it takes; None: the first. base, finetuned: other models. tasks: other
    tasks that choose; items: which of them, first and end. fresh_tasks, fresh_items: those that judge; no items: none
    are judged. merge_method, parameters: of the merge. The rest: as of :class:`acm.searching.run.Search`; None: its
    default.
    """

    experiment: str | None = None
    base: str | None = None
    finetuned: list[str] | None = None
    merge_method: str = "task_arithmetic"
    parameters: dict[str, float | bool] = Field({"weight": 1.0})
    tasks: list[str] | None = None
    items: ItemRange = (0, 60)
    fresh_tasks: list[str] | None = None
    fresh_items: ItemRange | None = None
    genome: str | None = None
    low: float | None = None
    high: float | None = None
    group: int | None = None
    terms: int | None = None
    also: dict[str, tuple[float, float]] | None = None
    sampler: str | None = None
    candidates: int = Field(CANDIDATES, ge=1)
    targets: list[float] | None = None
    price: float | None = None
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1)
    racing: bool | None = None

    @property
    def asked(self) -> int:
        """Candidates of the sampler and of random search together, at every target and seed."""
        return 2 * self.candidates * len(self.targets or [None]) * len(self.seeds)

    @property
    def how(self) -> dict[str, Any]:
        """What :class:`acm.searching.run.Search` is given by the same name."""
        places = ("experiment", "base", "finetuned", "merge_method", "parameters")
        items = ("tasks", "items", "fresh_tasks", "fresh_items")
        return self.model_dump(exclude={*places, *items}, exclude_none=True)
