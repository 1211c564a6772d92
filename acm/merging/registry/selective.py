"""The rows of the methods of `methods/selective.py`, which choose entries."""

from acm.merging.registry.row import MergeMethod, Parameter, closed

LIMIT = Parameter("t", "the most that an entry moves, at least 0", lambda v: v >= 0, slider=(0.0, 0.1))
CHANGE = Parameter("epsilon", "the change that counts as none, at least 0", lambda v: v >= 0, 1e-5, slider=(0.0, 0.1))
BOOST = Parameter("r", default=0.1)
MOST = Parameter("alpha", "the largest ratio that counts, at least 0", lambda v: v >= 0, 0.2)
SELECT_TOPK = closed("select_topk", default=1.0)
WEIGHTS_ONLY = Parameter("weights_only", default=False, kind="flag")

ROWS = (
    MergeMethod(
        "nearswap", "NearSwap", "https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
        "θ_0 + min(1, t / |λ δ|) λ δ",
        "a clip of each entry to ±t", "1 pass",
        (LIMIT,), {"t": 0.01},
        models=(1, 1), mergekit="same",
    ),
    MergeMethod(
        "arcee_fusion", "Arcee Fusion", "https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md",
        "θ_0 + λ δ where |λ δ| · KL(softmax of the row, after and before) ≥ median + 1.5 (Q_3 − Q_1) of the tensor",
        "a trim to large changes in rows whose softmax changes", "3 passes",
        models=(1, 1), chunks="rows", mergekit="same",
        reading="quantiles are exact; of tensors above 1,000,000 entries mergekit draws a sample for them, and differs",
    ),
    MergeMethod(
        "ram", "RAM", "arXiv:2601.13572",
        "θ_0 + mean of those λ_i δ_i that are beyond ±ε",
        "plain interpolation, but changes up to ε are dropped", "1 pass",
        (CHANGE,), mergekit="same",
    ),
    MergeMethod(
        "ramplus_tl", "RAM+ (by tensor)", "arXiv:2601.13572",
        "the same, where only one is beyond ±ε times 1 + r min(α, shared_i / alone_i), the numbers of such entries",
        "as `ram`", "2 passes",
        (BOOST, MOST, CHANGE), mergekit="same",
    ),
    MergeMethod(
        "sce", "SCE", "arXiv:2408.07990",
        "θ_0 + Σ w_i λ_i δ_i / Σ w_i over agreeing signs, for the select_topk entries of largest variance over the "
        "models; w_i their mean squares, equal where these sum to less than 1e-6. weights_only: for all entries, w_i "
        "equal only where all are 0",
        "plain interpolation; with select_topk below 1 the base, but for weights_only",
        "2 passes, 5 with select_topk",
        (SELECT_TOPK, WEIGHTS_ONLY), {"select_topk": 0.5}, mergekit="same",
    ),
)  # fmt: skip
