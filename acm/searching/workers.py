"""Processes that work on a search side by side, each with one loaded model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Protocol

import torch
from tqdm import tqdm

from acm.searching.resident import Resident


class Each(Protocol):
    """Calls a function for each of some arguments; the results are in their order.

    title: of a progress bar; empty: none.
    """

    def __call__(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], title: str = ""
    ) -> list[Any]: ...


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
    """Processes that share work; with one job it is this process."""
    if jobs == 1:
        yield lambda function, arguments, title="": listed((function(*given) for given in arguments), arguments, title)
        return
    threads = max(1, torch.get_num_threads() // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:

        def each(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], title: str = "") -> list[Any]:
            futures = [pool.submit(function, *given) for given in arguments]
            return listed((future.result() for future in futures), arguments, title)

        try:
            yield each
        except BaseException:  # the first error ends all
            pool.shutdown(cancel_futures=True)
            raise


def listed(results: Iterator[Any], arguments: Sequence[Any], title: str) -> list[Any]:
    """The results as they come, with a bar."""
    return list(tqdm(results, title, len(arguments), unit="merge", disable=not title, mininterval=5))
