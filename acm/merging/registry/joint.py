"""The rows of the methods of `methods/joint.py`, which decompose several task vectors together."""

from acm.merging.registry.row import DENSITY, EACH, EMBEDDINGS, LAMBDA, MergeMethod, Parameter, closed

DROP_RATE = Parameter("drop_rate", "the fraction dropped, in [0, 1)", lambda v: 0 <= v < 1, 0.8, slider=(0.0, 0.99))
VERTICAL = Parameter("vertical", default=True, kind="flag")  # whether matrices are stacked by rows, not side by side
SHARE = closed("share", default=0.5)  # of the singular values' sum, whose directions later models leave alone

ROWS = (
    MergeMethod(
        "knots", "KnOTS with TIES", "arXiv:2410.19735",
        "θ_0 + α U Σ V, where [λ_1 δ_1 … λ_N δ_N] = U Σ [V_1 … V_N] and V is the TIES mean of the trimmed V_i; "
        "other tensors: mean",
        "a trim of δ's smallest entries in its singular basis", "1 eigendecomposition per matrix",
        (EACH, LAMBDA, DENSITY, EMBEDDINGS), {"density": 0.2},
        chunks="whole",
        reading="the V_i are trimmed before Σ scales them, each tensor by itself; the authors' code trims the Σ V_i, "
        "over the whole model",
    ),
    MergeMethod(
        "drm", "Decom-Renorm-Merge", "arXiv:2505.23117",
        "the same with rows of each V_i scaled to length 1 (their lengths go into Σ), and one trim over all V_i; "
        "vertical: of the stacked rows, with U_i in the place of V_i; other tensors: TIES mean",
        "the same, without singular values up to 1 % of the largest", "1 eigendecomposition per matrix",
        (EACH, LAMBDA, DROP_RATE, VERTICAL, EMBEDDINGS),
        chunks="whole",
    ),
    MergeMethod(
        "opcm", "OPCM", "arXiv:2501.09522",
        "θ_0 + α f S_N, S_i = S_(i−1) + λ_i δ_i less its diagonal and its main block in the singular basis of S_(i−1), "
        "in the order of the models' names; f gives the whole model the mean norm of the λ_i δ_i; other tensors: sum",
        "θ_0 + α λ δ", "2 passes, 2 eigendecompositions per matrix and model after the first",
        (EACH, LAMBDA, SHARE, EMBEDDINGS),
        chunks="whole",
    ),
)  # fmt: skip
