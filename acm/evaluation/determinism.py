"""What an engine offers against chance: torch's deterministic algorithms, and vLLM's batch-invariant mode.

torch: the same call on the same machine gives the same bits. Another batch size still rounds otherwise.
vLLM: a response does not depend on what is generated beside it either. The mode needs a recent GPU, and vLLM says so.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from acm.errors import UserError
from acm.evaluation.settings import Engine, Server

INVARIANT = "VLLM_BATCH_INVARIANT"
CUBLAS, WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"  # one of the two values with which cuBLAS repeats its bits
SET: set[str] = set()  # the variables that this process has set itself
NONE = "does not have a deterministic implementation"  # in what torch raises


def prepare(engine: Engine | Server) -> None:
    """Set what must be set before the engine's package touches the GPU. UserError where it is too late."""
    if engine.backend == "vllm":
        prepare_vllm(engine)
    elif engine.deterministic and os.environ.get(CUBLAS) not in (WORKSPACE, ":16:8"):
        import torch

        if torch.cuda.is_initialized():
            raise UserError(
                f"deterministic: this process has used the GPU without {CUBLAS}={WORKSPACE}; set the variable before "
                "Python starts, or restart the kernel."
            )
        os.environ[CUBLAS] = WORKSPACE


def prepare_vllm(engine: Engine | Server) -> None:
    """vLLM reads its mode when it is imported, and keeps it as long as the process lives."""
    on = os.environ.get(INVARIANT, "0") == "1"
    if engine.deterministic == on:
        return
    if on and INVARIANT in SET:
        raise UserError(f"this process has started vLLM with deterministic: true ({INVARIANT}=1); restart the kernel.")
    if on:
        raise UserError(f"{INVARIANT} is set: set `deterministic: true` too, so that the records say it, or unset it.")
    if "vllm" in sys.modules:
        raise UserError(f"deterministic: this process has started vLLM without {INVARIANT}=1; restart the kernel.")
    os.environ[INVARIANT] = "1"
    SET.add(INVARIANT)


@contextlib.contextmanager
def algorithms(engine: Engine | Server) -> Iterator[None]:
    """Within the block torch takes deterministic algorithms alone, if the engine says so.

    UserError for an operation that has none.
    """
    if engine.backend != "transformers" or not engine.deterministic:
        yield
        return
    import torch

    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if NONE not in str(error):
            raise
        raise UserError(
            f"deterministic: torch has no deterministic form of what this call needs ({str(error).split(NONE)[0]}); "
            "leave top_p out, or set deterministic to false."
        ) from None
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
