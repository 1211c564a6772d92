"""The rows of the methods of `methods/measured.py`, which read statistics of a calibration."""

from acm.merging.registry.row import (
    ALPHA,
    EACH,
    OMEGA,
    SENSITIVITY,
    STATISTICS,
    TEMPERATURE,
    MergeMethod,
    Parameter,
)

STEPS = Parameter("iterations", "a whole number from 0 to 999", lambda v: 0 <= v < 1000 and v == int(v), 0,
                  slider=(0, 100))  # fmt: skip

ROWS = (
    MergeMethod(
        "fisher", "Fisher", "arXiv:2111.09832", "θ_0 + Σ λ_i F_i δ_i / Σ F_i, F_i the diagonal Fisher information",
        "θ_0 + λ δ", "1 pass",
        (EACH, STATISTICS), statistics="entries",
    ),
    MergeMethod(
        "regmean", "RegMean", "arXiv:2212.09849",
        "(Σ G_i)⁻¹ Σ G_i W_i, G_i the Gram matrix of the inputs, off-diagonals × α; `iterations` above 0: that many "
        "steps of conjugate gradients towards it, from the mean (MaTS, arXiv:2312.04339)",
        "θ_0 + λ δ, up to 1e-9", "1 factorisation of a Gram matrix, or 1 product with it per iteration",
        (ALPHA.defaulting(0.9), STEPS, STATISTICS), chunks="whole", statistics="gram",
    ),
    MergeMethod(
        "aim", "AIM", "arXiv:2502.02421",
        "θ_0 + Σ λ_i δ_i ⊙ (1 − s (1 − ω)), s the base's input importance per channel",
        "δ, smaller at the inputs that the base uses", "1 pass",
        (EACH, OMEGA, STATISTICS), chunks="rows", statistics="inputs", base_statistics=True,
    ),
    MergeMethod(
        "sens", "Sens-Merging", "arXiv:2502.12420",
        "c_0 θ_0 + c_1 α λ δ, (c_0, c_1) = 2 softmax(((1 − α) s_0, α s_1) / T) per layer",
        "another weight for each layer", "1 pass",
        (EACH, ALPHA, TEMPERATURE, SENSITIVITY), {"alpha": 0.7, "temperature": 2.0},
        models=(1, 1), copies="nothing",
    ),
)  # fmt: skip
