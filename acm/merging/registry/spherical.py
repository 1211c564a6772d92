"""The rows of the methods of `methods/spherical.py`, which turn tensors on spheres."""

from acm.merging.registry.row import NORMALIZE, WEIGHT, MergeMethod, Parameter

FLATTEN = Parameter("nuslerp_flatten", default=True, kind="flag")
ROW_WISE = Parameter("nuslerp_row_wise", default=False, kind="flag")
NORMALIZE_WEIGHTS = Parameter("normalize_weights", default=True, kind="flag", setting=NORMALIZE.setting)
EPS = Parameter("eps", "a small number above 0", lambda v: v > 0, 1e-8, slider=(0.0, 0.1))
MAX_ITER = Parameter("max_iter", "a whole number from 0 to 999", lambda v: 0 <= v < 1000 and v == int(v), 10)
TOL = Parameter("tol", "a small number above 0", lambda v: v > 0, 1e-5, slider=(0.0, 0.1))

ROWS = (
    MergeMethod(
        "nuslerp", "NuSLERP", "https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md",
        "θ_0 + sin((1 − t) Ω) / sin Ω · δ_1 + sin(t Ω) / sin Ω · δ_2, t = w_2 / (w_1 + w_2), Ω the angle of δ_1 and "
        "δ_2; without a base the arc from θ_1 to θ_2",
        "not defined: it takes two", "2 passes",
        (WEIGHT, FLATTEN, ROW_WISE), {"weight": 0.5},
        models=(2, 2), chunks="rows", needs_base=False, from_zero=True, mergekit="same",
        reading="λ replaces the weights, so of λ too the ratio alone counts",
    ),
    MergeMethod(
        "multislerp", "Multi-SLERP", "https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
        "θ_0 + L m, m the direction of Σ w_i δ_i / ‖δ_i‖, L = Σ w_i ‖δ_i‖, w_i over Σ w_i if normalize_weights; "
        "without a base of the θ_i",
        "θ_1, whatever its weight; with λ plain interpolation", "2 passes",
        (WEIGHT, NORMALIZE_WEIGHTS, EPS), {"weight": 0.5},
        needs_base=False, from_zero=True, copies="base or model", mergekit="same",
    ),
    MergeMethod(
        "karcher", "Karcher mean", "arXiv:2603.04972",
        "mean ‖θ_i‖ times the Riemannian mean of the directions θ_i / ‖θ_i‖, the base among them",
        "θ_1; with the base named, the middle of the arc from θ_0 to θ_1", "2 passes",
        (MAX_ITER, TOL),
        needs_base=False, average=True, mergekit="same",
    ),
)  # fmt: skip
