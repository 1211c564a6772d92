"""The table from a merge method's name to its functions. The modules of `methods/` register their functions here.

Every method has a function that merges a chunk of a tensor. Some methods have a second function that prepares. It sees
the whole tensor first, chunk by chunk. It returns what the merging function must know of the whole tensor, such as a
threshold or an angle. A few methods have a function that surveys the whole model before any tensor is merged. It
returns what they must know of all tensors together, such as a norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from acm.merging.settings import Settings

    Merge = Callable[[Tensor, list[Tensor], Settings], Tensor]
    # Each call walks through a tensor from its start. A step gives the chunk of the base and of each fine-tuned model.
    Chunks = Callable[[], Iterable[tuple[Tensor, list[Tensor]]]]
    # The steps of a method that reads statistics have a third part, the statistics of the chunk.
    Measured = Callable[[], Iterable[tuple[Tensor, list[Tensor], list[Tensor | None]]]]
    Prepare = Callable[[Any, Settings], Any]  # of Chunks or Measured
    # A measure finds numbers in one tensor, (…) int64 or float64. `Every` adds up what it finds in all of them.
    Measure = Callable[[Chunks, Settings], np.ndarray]
    Every = Callable[[Measure], np.ndarray]
    Survey = Callable[[Every, Settings], Any]

FUNCTIONS: dict[str, Merge] = {}
PREPARE: dict[str, Prepare] = {}
SURVEY: dict[str, Survey] = {}


def implements(name: str) -> Callable[[Merge], Merge]:
    """Decorates the function of a registered method: (θ_0, [θ_i], settings) → the merged chunk, float32."""

    def bind(function: Merge) -> Merge:
        FUNCTIONS[name] = function
        return function

    return bind


def prepares(*names: str) -> Callable[[Prepare], Prepare]:
    """Decorates what these methods find out of a whole tensor before its chunks are merged.

    ``Settings.prepared`` holds it.
    """

    def bind(function: Prepare) -> Prepare:
        PREPARE.update(dict.fromkeys(names, function))
        return function

    return bind


def surveys(*names: str) -> Callable[[Survey], Survey]:
    """Decorates what these methods find out of all tensors before one is merged.

    ``Settings.surveyed`` holds it. The survey's own settings are those of the first tensor.
    """

    def bind(function: Survey) -> Survey:
        SURVEY.update(dict.fromkeys(names, function))
        return function

    return bind
