"""The arguments of vLLM's engine that a user may choose. Profiles and the evaluation share this list."""

from __future__ import annotations

from acm.schema import Strict, optional


class VllmArguments(Strict):
    """The arguments of vLLM's engine that may be chosen (docs/backends.md). None leaves one to vLLM.

    max_model_len: tokens of a prompt and its response together. None: as many as the token cap needs.
    enable_sleep_mode: give back the caches' memory while a merge is taken.
    """

    tensor_parallel_size: int | None = optional(None, ge=1)
    gpu_memory_utilization: float | None = optional(None, gt=0, le=1)
    max_model_len: int | None = optional(None, ge=1)
    max_num_seqs: int | None = optional(None, ge=1)
    quantization: str | None = optional(None)
    enforce_eager: bool | None = optional(None)
    enable_sleep_mode: bool | None = optional(None)
