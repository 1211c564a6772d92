"""Merges and evaluates several small models in one process: notebooks 3 and 4 of each, all in one Jupyter kernel.

To import torch, transformers and lm-evaluation-harness takes longer than to merge a small model, and about as long as
to evaluate it. Here they are imported once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client import AsyncKernelClient, AsyncKernelManager
from jupyter_client.utils import run_sync

from acm.errors import unknown
from acm.paths import ROOT
from acm.profiles import Profile
from acm.running.jobs import logged
from acm.running.notebooks import KERNEL, run_notebook

STAGES = ("3-merge", "4-evaluate")
EMPTY = "get_ipython().reset(); __import__('gc').collect()"
PATIENCE = 60  # seconds that the kernel may take to empty its namespace


class SharedKernel(AsyncKernelManager):
    """A kernel that notebooks run in one after the other. It knows the client of the newest."""

    newest: AsyncKernelClient

    def client(self, **given: Any) -> AsyncKernelClient:  # type: ignore[override]
        """A new client, which nbclient asks for once for each notebook."""
        self.newest = super().client(**given)
        return self.newest

    async def empty(self) -> None:
        """Forget all names and counts of cells, so that the next notebook finds what a new kernel has; modules stay."""
        await self.newest.execute_interactive(EMPTY, silent=True, timeout=PATIENCE)
        self.newest.stop_channels()


@contextmanager
def shared_kernel() -> Iterator[SharedKernel]:
    """A kernel that starts with the first notebook and ends with the block."""
    kernel = SharedKernel(kernel_name=KERNEL)
    try:
        yield kernel
    finally:
        if kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=True)


def steps_of(profile: Profile, records: list[Path]) -> list[tuple[str, str, str]]:
    """Experiment, stage and model of each notebook, in turn. UserError for a file that no notebook of the run makes."""
    known = {profile.folder / name / "records" / f"{model}.parquet": (name, model)
             for name, e in profile.experiments.items() for model in e.models}  # fmt: skip
    if odd := [path for path in records if path.absolute() not in known]:
        raise unknown(f"file of records of profile {profile.name}", str(odd[0]), map(str, known))
    wanted = [known[path.absolute()] for path in records]
    return [(name, stage, model) for name, model in wanted for stage in STAGES
            if stage != "3-merge" or model in profile.experiments[name].method_names]  # fmt: skip


def make_records(name: str, profile: Profile, records: list[Path]) -> None:
    """Make files of records, ``runs/<profile>/<experiment>/records/<model>.parquet``, one after the other.

    name: the profile's, as the notebooks are given it. Each notebook has its executed copy and its log where a job of
    its own would leave them. The first error ends all, with SystemExit.
    """
    with shared_kernel() as kernel:
        for experiment, stage, model in steps_of(profile, records):
            with logged(profile.folder / "logs" / experiment / stage / f"{model}.log"):
                given = {"profile": name, "experiment": experiment, "method": model, "merges": profile.merges}
                made = profile.folder / "notebooks" / experiment / stage / f"{model}.ipynb"
                run_notebook(ROOT / "notebooks" / f"{stage}.ipynb", made, given, kernel=kernel)
                run_sync(kernel.empty)()
