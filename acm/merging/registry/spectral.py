"""The rows of the methods of `methods/spectral.py`, which work on singular values and directions."""

from acm.merging.registry.row import EACH, EMBEDDINGS, LAMBDA, RANK, MergeMethod, Parameter, closed, fraction

COMMON = closed("common", default=0.8)
LOSSLESS = Parameter("lossless", default=False, kind="flag")
AMPLIFICATION = Parameter("amplification", "at least 0", lambda v: v >= 0, 0.1, slider=(0.0, 2.0))
TIME = Parameter("time", "above 0", lambda v: v > 0, 300.0, slider=(1.0, 2000.0))
RATIO = fraction("ratio", "the fraction of eigenvalues used", default=0.65)
FROM_MEAN = Parameter("from_mean", default=False, kind="flag")
WEIGHED = (EACH, LAMBDA, EMBEDDINGS)

ROWS = (
    MergeMethod(
        "iso_c", "Iso-C", "arXiv:2502.04959",
        "θ_0 + α mean(σ) U Vᵀ, of the SVD Σ λ_i δ_i = U diag(σ) Vᵀ; other tensors: mean",
        "δ with a flat spectrum: each singular value becomes their mean", "1 eigendecomposition per matrix",
        WEIGHED,
        chunks="whole",
    ),
    MergeMethod(
        "iso_cts", "Iso-CTS", "arXiv:2502.04959",
        "the same, of a fraction `common` of the directions of Σ λ_i δ_i, and of each λ_i δ_i outside them; other "
        "tensors: mean",
        "as in `iso_c`", "N + 3 eigendecompositions per matrix",
        (*WEIGHED, COMMON),
        chunks="whole",
    ),
    MergeMethod(
        "tsvm", "TSV-Merge", "arXiv:2412.00081",
        "θ_0 + α polar(Û) diag(σ̂) polar(V̂)ᵀ, of the largest 1/N of the singular triples of each λ_i δ_i "
        "(all if lossless); other tensors: mean",
        "plain interpolation", "N + 2 eigendecompositions per matrix",
        (*WEIGHED, LOSSLESS),
        chunks="whole", copies="base or model",
    ),
    MergeMethod(
        "cart", "CART", "arXiv:2412.12153",
        "θ_0 + α (a + amplification · Σ (λ_i δ_i − a) truncated to a fraction of its singular values), "
        "a = mean λ_i δ_i; other tensors: a",
        "plain interpolation; two task vectors give their mean", "N eigendecompositions per matrix",
        (*WEIGHED, RANK.defaulting(0.04), AMPLIFICATION),
        chunks="whole", copies="base or model",
    ),
    MergeMethod(
        "wudi", "WUDI (closed form, filtered)", "arXiv:2503.08099",
        "θ_0 + α (M_0 − M_0 V h Vᵀ + D V (h/μ) Vᵀ), h = 1 − exp(−μ time), of C = Σ C_i = V diag(μ) Vᵀ, "
        "C_i = δ_iᵀ δ_i / ‖δ_i‖², D = Σ λ_i δ_i C_i, M_0 = Σ λ_i δ_i (their mean if from_mean); other tensors: mean",
        "plain interpolation", "1 eigendecomposition per matrix, of inputs or N · outputs rows",
        (*WEIGHED, TIME, RATIO, FROM_MEAN),
        chunks="whole", copies="base or model",
    ),
)  # fmt: skip
