"""Decides whether a merge runs on the CPU or on a GPU."""

from __future__ import annotations

import logging

from acm.devices import has_gpu_driver, is_cpu
from acm.merging.registry import MergeMethod

LOG = logging.getLogger(__name__)


def place_of(device: str, method: MergeMethod) -> str:
    """``cpu``, or the GPU that merges by a method. UserError for a device that is not there.

    ``auto`` takes the CPU for methods with a fused loop, and a GPU for the others. Beside an H100, 16 cores merged a
    pair of 7B in a third of the GPU's time by task arithmetic. At 15 million parameters, methods of plain torch gained
    2 to 10 times on the GPU; at 7B they were not timed (benchmarks/gpu.md).
    """
    if device == "auto" and has_gpu_driver() and method.kernel:
        LOG.info("%s is merged on the CPU; --device cuda takes the GPU.", method.name)
        return "cpu"
    if is_cpu(device):
        return "cpu"
    if device == "auto":
        LOG.info("%s is merged on the GPU; --device cpu takes the CPU.", method.name)
    return device
