"""Devices by name: what ``cpu``, ``cuda``, ``cuda:1`` and ``auto`` stand for on this machine."""

from __future__ import annotations

import re
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
