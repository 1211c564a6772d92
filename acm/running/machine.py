"""Describes the machine that a budget is made for. Nothing heavy is imported: the command line reads its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acm.profiles import Profile


@dataclass(frozen=True)
class Machine:
    """What the machine has, and what the budget assumes.

    gpu_memory, disk: GB; None: not checked. tokens: mean length of a response. bandwidth: of memory, GB/s. cores: how
    many jobs run at a time.
    """

    gpu_memory: float | None = None
    disk: float | None = None
    tokens: int = 2500
    bandwidth: float = 864
    cores: int = 1

    def merged_at_once(self, profile: Profile) -> int:
        """The number of merged models that exist together.

        An evaluation on a GPU takes all cores, so with several cores all merges run ahead of the evaluations. A job
        that evaluates a share of the models keeps all that it merged until its end. One that merges into memory keeps
        none, and for an engine on several GPUs one at a time.
        """
        if profile.in_memory:
            return 0 if profile.folderless else 1
        merges = sum(len(e.method_names) for e in profile.experiments.values())
        shares = [len(share) for name in profile.experiments for share in profile.shares(name)]
        if self.cores > 1 and profile.device != "cpu":
            return merges
        return min(self.cores * (max(shares) if profile.jobs == "several" else 1), merges)
