"""Checks what a profile gives to the engine that runs its models."""

from __future__ import annotations

from acm.evaluation.vllm_arguments import VllmArguments


def check_arguments(backend: str, arguments: VllmArguments, cap: int) -> None:
    """ValueError for arguments of vLLM where it does not run, and for no room beside the largest token cap."""
    given = arguments.model_dump()
    if given and backend != "vllm":
        raise ValueError(
            f"model_args: {', '.join(given)} are of vLLM's engine, and backend is {backend}; set `backend: vllm`"
        )
    if (room := given.get("max_model_len", cap + 1)) <= cap:
        raise ValueError(
            f"model_args: max_model_len {room} leaves no room for a prompt beside max_tokens {cap}; raise it"
        )
