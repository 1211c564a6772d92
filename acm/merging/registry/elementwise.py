"""The rows of the methods of `methods/elementwise.py`, one entry at a time."""

from acm.merging.registry.row import (
    ARITHMETIC,
    DENSITY,
    EACH,
    EPSILON,
    GAMMA,
    LAMBDA,
    NORMALIZE,
    RESCALE,
    SPARSE,
    WEIGHT,
    MergeMethod,
    Parameter,
    T,
)

ALPHA = Parameter("alpha", default="1 over the number of models", slider=(0.0, 1.5))  # of the first block
BETA = Parameter("beta", default="1 − alpha", slider=(-1.0, 1.5))  # the rise from the first block to the last

ROWS = (
    MergeMethod(
        "linear", "Average", "arXiv:2203.05482", "Σ w_i θ_i, over Σ w_i if normalize",
        "θ_1; with the base listed, plain interpolation", "1 pass",
        (WEIGHT, NORMALIZE.defaulting(True)), {"weight": 0.5},
        needs_base=False, average=True, kernel="average", speed=0.7, mergekit="same",
    ),
    MergeMethod(
        "interpolation", "Interpolation", "arXiv:2510.10977", "(1 − λ) θ_0 + λ θ_1",
        "plain interpolation", "1 pass",
        (WEIGHT,), {"weight": 0.5},
        models=(1, 1), copies="base or model", kernel="deltas", speed=0.5,
    ),
    MergeMethod(
        "slerp", "SLERP", "https://en.wikipedia.org/wiki/Slerp",
        "sin((1 − t) Ω) / sin Ω · θ_0 + sin(t Ω) / sin Ω · θ_1, Ω the angle of the flat tensors",
        "the arc from θ_0 to θ_1", "2 passes",
        (T,), {"t": 0.4},
        models=(1, 1), copies="base or model", kernel="arc", speed=0.27, mergekit="same",
    ),
    MergeMethod(
        "task_arithmetic", "Task Arithmetic", "arXiv:2212.04089", "θ_0 + α Σ λ_i δ_i",
        "plain interpolation", "1 pass",
        ARITHMETIC, {"weight": 0.7},
        copies="base or model", kernel="deltas", speed=0.5, mergekit="same",
    ),
    MergeMethod(
        "lines", "LiNeS", "arXiv:2410.17146",
        "θ_0 + (alpha + beta · l / (L − 1)) Σ λ_i δ_i in block l of L, θ_0 + alpha Σ λ_i δ_i outside the blocks",
        "a ramp of λ along the depth; plain interpolation at the default alpha of 1", "1 pass",
        (EACH, ALPHA, BETA), {"alpha": 0.4, "beta": 0.6},
        reading="beta = 1 − alpha for several task vectors too; there the paper searches it",
    ),
    MergeMethod(
        "ties", "TIES", "arXiv:2306.01708", "θ_0 + α mean over agreeing signs of λ_i trim(δ_i)",
        "a trim of each tensor's smallest entries", "3 passes",
        (WEIGHT, NORMALIZE.defaulting(True), LAMBDA, DENSITY), {"weight": 1.0, "density": 0.2},
        trims=True, elects=True, kernel="deltas", speed=0.27, mergekit="same",
    ),
    MergeMethod(
        "dare_linear", "DARE", "arXiv:2311.03099", "θ_0 + α Σ λ_i m_i δ_i / density, m_i random",
        "a random mask", "1 pass",
        (*SPARSE, RESCALE), {"weight": 0.7, "density": 0.7},
        random=True, kernel="deltas", speed=0.5, mergekit="in distribution",
    ),
    MergeMethod(
        "dare_ties", "DARE-TIES", "arXiv:2311.03099", "the same, with the sign election of TIES",
        "a random mask", "1 pass",
        (*SPARSE, RESCALE), {"weight": 0.7, "density": 0.7},
        elects=True, random=True, kernel="deltas", speed=0.5, mergekit="in distribution",
    ),
    MergeMethod(
        "breadcrumbs", "Model Breadcrumbs", "arXiv:2312.06795",
        "θ_0 + α Σ λ_i δ_i without the largest γ and the smallest 1 − density − γ",
        "a trim of each tensor's smallest and largest entries", "3 passes",
        (*SPARSE, GAMMA), {"weight": 0.7, "density": 0.8},
        trims=True, kernel="deltas", speed=0.3, mergekit="same",
    ),
    MergeMethod(
        "breadcrumbs_ties", "Model Breadcrumbs with TIES", "arXiv:2312.06795",
        "the same, with the sign election of TIES",
        "as without TIES", "3 passes",
        (*SPARSE, GAMMA), {"weight": 0.7, "density": 0.8},
        trims=True, elects=True, kernel="deltas", speed=0.3, mergekit="same",
    ),
    MergeMethod(
        "della", "DELLA", "arXiv:2406.11617",
        "mean over agreeing signs of λ_i m_i δ_i / p_i, p_i from density − ε to density + ε by rank in the row",
        "a random mask that favours large entries", "1 pass, rows sorted",
        (WEIGHT, NORMALIZE.defaulting(True), LAMBDA, DENSITY, RESCALE, EPSILON), {"weight": 0.7, "density": 0.7},
        chunks="rows", elects=True, random=True, speed=0.008, mergekit="in distribution",
    ),
    MergeMethod(
        "della_linear", "DELLA without election", "arXiv:2406.11617", "θ_0 + α Σ λ_i m_i δ_i / p_i",
        "a random mask that favours large entries", "1 pass, rows sorted",
        (*SPARSE, RESCALE, EPSILON), {"weight": 0.7, "density": 0.7},
        chunks="rows", random=True, speed=0.008, mergekit="in distribution",
    ),
    MergeMethod(
        "model_stock", "Model Stock", "arXiv:2403.19522",
        "θ_0 + t mean λ_i δ_i, t = N cos / (1 + (N − 1) cos), cos the mean cosine of task vectors",
        "not defined: it takes two", "2 passes",
        models=(2, None), speed=0.1, mergekit="same",
    ),
)  # fmt: skip
