"""The rows of the methods of `methods/matrices.py`, which decompose matrices."""

from acm.merging.registry.row import ARITHMETIC, EACH, EMBEDDINGS, ITERATIONS, LAMBDA, MU, NORMALIZE, RANK, MergeMethod

ROWS = (
    MergeMethod(
        "twin", "Twin-Merging (SVD part)", "arXiv:2406.15479",
        "θ_0 + α Σ λ_i δ_i truncated to a fraction of its singular values",
        "δ without its small singular values", "1 eigendecomposition per matrix and model",
        (*ARITHMETIC, RANK, EMBEDDINGS.defaulting(True)), {"weight": 0.7, "rank": 0.2},
        chunks="bands", speed=0.005,
    ),
    MergeMethod(
        "lore", "LoRE-Merging", "arXiv:2502.10749",
        "argmin Σ ‖θ_0 + δ_i − θ_i‖² + μ ‖δ_i‖_*, then θ_0 + α mean λ_i δ_i",
        "not defined: it takes two", "1 eigendecomposition per matrix, model and iteration",
        (EACH, NORMALIZE.defaulting(True), LAMBDA, MU, ITERATIONS, EMBEDDINGS.defaulting(True)), {"mu": 0.05},
        models=(2, None), chunks="bands", needs_base=False, copies="nothing",
    ),
)  # fmt: skip
