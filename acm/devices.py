"""Finds the devices that the names ``cpu``, ``cuda``, ``cuda:1`` and ``auto`` stand for on this machine."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import TYPE_CHECKING

from acm.errors import UserError, unknown

if TYPE_CHECKING:
    import torch


def devices(name: str) -> list[torch.device]:
    """The devices of a name. ``auto``: all GPUs, else the CPU; ``cuda``: all GPUs; ``cuda:1``: that one.

    Raises UserError for another name, and for a GPU that torch does not find here.
    """
    import torch  # takes a second, and most commands need none of it

    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", str(name)):
        raise unknown("device", str(name), ["auto", "cpu", "cuda", "cuda:0"])
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    chosen = [gpu for gpu in gpus if name in {"auto", "cuda", str(gpu)}]
    if str(name).startswith("cuda") and not chosen:
        raise UserError(f"device {name}: torch finds no such GPU here ({len(gpus)} in all); use cpu or auto.")
    return chosen or [torch.device("cpu")]


def is_cpu(name: str) -> bool:
    """Whether a name means the CPU on this machine. UserError as :func:`devices`.

    torch takes a second to import, so it is asked only where a GPU is named, or where ``auto`` might find one.
    """
    if name == "cpu" or (name == "auto" and not has_gpu_driver()):
        return True
    return devices(name)[0].type == "cpu"


def has_gpu_driver() -> bool:
    """Whether a driver that torch could use is installed (CUDA, ROCm). Without one there is no GPU for torch."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return Path("/dev/kfd").exists()
