"""Processes that work on a search side by side, each with one loaded model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Protocol

import torch

from acm.searching.resident import Resident

Each = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]


class Asking(Protocol):
    """What a process must know of a search."""

    @property
    def key(self) -> dict[str, Any]: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    def model(self) -> Resident: ...


MODELS: dict[int, Resident] = {}  # of this process: one, which takes the weights of every merge


def own_model(search: Asking) -> Resident:
    """The loaded model of this process."""
    key = hash(str(search.key) + str(search.settings))
    if key not in MODELS:
        MODELS.clear()
        MODELS[key] = search.model()
    return MODELS[key]


@contextlib.contextmanager
def workers(jobs: int) -> Iterator[Each]:
    """Processes that share work: what is yielded returns a function's results for some arguments, in their order."""
    if jobs == 1:
        yield lambda function, arguments: [function(*given) for given in arguments]
        return
    threads = max(1, torch.get_num_threads() // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        try:
            yield lambda function, arguments: [
                future.result() for future in [pool.submit(function, *given) for given in arguments]
            ]
        except BaseException:  # the first error ends all
            pool.shutdown(cancel_futures=True)
            raise
