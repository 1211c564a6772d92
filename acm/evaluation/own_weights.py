"""Whether the backends in this process would read a model folder's own numbers, and all of them.

transformers invents the tensors that it does not find, and leaves out those that it does not know, with a warning.
vLLM goes by the index where there is one, and ties a head that the config ties, whatever is stored.
"""

from __future__ import annotations

from pathlib import Path

from acm.architectures import EMBEDDING, HEAD, tensor_shapes, ties_head
from acm.checkpoints import Checkpoint
from acm.errors import UserError, listed
from acm.weight_files import INDEX, SINGLE


def check_weights_are_read(folder: Path, backend: str) -> None:
    """UserError where a backend, ``transformers`` or ``vllm``, would go on with other numbers than the folder's.

    Only headers are read, and both heads where two are stored. Quantised models pass, and architectures whose tensors
    are not known.
    """
    model = Checkpoint(folder)
    try:
        expected = tensor_shapes(model.config)
    except ValueError:  # transformers will say so
        return
    if expected is None or model.config.get("quantization_config"):
        return
    weights, heads = model.weights, {EMBEDDING, HEAD}
    if weights.wrapper:
        raise UserError(
            f"the names of the tensors in {folder} begin with '{weights.wrapper}': {backend} would not find them, and "
            "take random numbers; a merge of this model alone (linear, weight 1) writes the usual names."
        )
    missing = expected.keys() - weights.tensors.keys()
    if ties_head(model.config) and not heads <= missing:
        missing -= heads
    if missing:
        raise UserError(
            f"{folder} lacks tensors, for which {backend} would take random numbers: {listed(sorted(missing))}; "
            "fetch it again."
        )
    rows = {name: weights.tensors[name].shape for name in sorted(heads & weights.tensors.keys())}
    odd = [f"{name}: {rows[name]}, by its config {expected[name]}" for name in rows if rows[name] != expected[name]]
    if odd := model.problems() + odd:
        raise UserError(
            f"{folder} does not hold the tensors that its config.json asks for, so {backend} would run another model: "
            f"{listed(odd)}; mend its config, or fetch it again."
        )
    if backend == "vllm" and INDEX in weights.beside:
        raise UserError(f"{folder} holds {SINGLE}, and vLLM would read the older shards of {INDEX}; remove these.")
    if backend == "vllm" and ties_head(model.config) and heads <= model.tensors.keys():
        raise UserError(
            f"{folder} holds a head of its own, and vLLM would take the embedding, as its config says: set "
            "tie_word_embeddings to false in config.json, or use the backend transformers."
        )
