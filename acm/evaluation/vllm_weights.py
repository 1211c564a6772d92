"""The weights of a running vLLM: what it is handed, and whether it holds that. Nothing here imports vllm.

vLLM keeps some tensors of a checkpoint as one, stacked by rows. It can tell the SHA-256 of each tensor that it holds.
So the sums of what was handed over are compared with the sums of what it holds.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import torch

from acm.architectures import EMBEDDING, HEAD
from acm.evaluation.settings import Engine
from acm.evaluation.tensors import Tensor, as_bytes

OWN_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"  # "0": the engine and its one worker live in this process
STACKS = {  # vLLM's name of a stack → the parts' names in a checkpoint, in their order
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
STACKED = {part: (stack, i) for stack, parts in STACKS.items() for i, part in enumerate(parts)}
APART = "vLLM's workers run in processes of their own, which no iterator reaches"
PADDED = 64  # vLLM fills the rows of an embedding and a head up to a multiple


def apart(engine: Engine) -> str:
    """What keeps an engine with these settings from taking any tensors, in words; empty if nothing does."""
    if engine.backend == "vllm" and lives_apart(engine.model_args.get("tensor_parallel_size") or 1):
        return APART
    return ""


def lives_apart(size: int) -> bool:
    """Whether workers on this many GPUs are processes of their own."""
    return size > 1 or os.environ.get(OWN_PROCESS, "0") != "0"


class Handed:
    """Tensors on their way to vLLM. sums: vLLM's name of each tensor that has passed whole → its SHA-256.

    An embedding or head whose rows are filled up has none. dtype: of vLLM, in which it is handed them.
    """

    def __init__(self, tensors: Iterable[Tensor], dtype: str) -> None:
        self.tensors, self.dtype = tensors, getattr(torch, dtype)
        self.sums: dict[str, str] = {}
        self.parts: dict[str, dict[int, bytes]] = defaultdict(dict)

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for tensor in self.tensors:
            values = tensor.values().to(self.dtype)
            if not (tensor.name in (EMBEDDING, HEAD) and tensor.shape[0] % PADDED):
                self.note(tensor.name, values)
            yield tensor.name, values

    def note(self, name: str, values: torch.Tensor) -> None:
        """Sum up a tensor, or the stack that it completes."""
        module, _, kind = name.rpartition(".")
        above, _, last = module.rpartition(".")
        if last not in STACKED:
            self.sums[name] = hashlib.sha256(as_bytes(values).data).hexdigest()
            return
        stack, place = STACKED[last]
        whole = f"{above}.{stack}.{kind}"
        self.parts[whole][place] = as_bytes(values).tobytes()
        if len(self.parts[whole]) == len(STACKS[stack]):
            parts = self.parts.pop(whole)
            self.sums[whole] = hashlib.sha256(b"".join(parts[i] for i in sorted(parts))).hexdigest()

    def differing(self, held: Mapping[str, str]) -> list[str]:
        """Names whose sums vLLM has otherwise. held: its sums, of :func:`bare`."""
        return sorted(name for name, found in self.sums.items() if held.get(name, found) != found)


def bare(sums: Mapping[str, str]) -> dict[str, str]:
    """vLLM's sums by the tensors' names alone, without the number of a worker before them."""
    return {name.rpartition(":")[2]: found for name, found in sums.items()}
