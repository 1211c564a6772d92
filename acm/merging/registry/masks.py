"""The rows of the methods of `methods/masks.py`, which mask entries by what all models together say of them."""

from acm.merging.registry.row import EACH, LAMBDA, MergeMethod, Parameter, fraction

RATIO = fraction("ratio", "the fraction of entries that weigh", default=0.1, everywhere=True)
CLIP = Parameter("clip", "the fraction of entries clipped at either end, in [0, 0.5)", lambda v: 0 <= v < 0.5, 1e-4,
                 everywhere=True, slider=(0.0, 0.1))  # fmt: skip
SIGNED = Parameter("signed", default=False, kind="flag", everywhere=True)
AGREEMENT = Parameter("agreement", "a whole number from 0 to 999", lambda v: 0 <= v < 1000 and v == int(v), 2,
                      slider=(0.0, 10.0))  # fmt: skip
THRESHOLD = Parameter("threshold", "at least 0", lambda v: v >= 0, 0.4)
TIES = Parameter("ties", default=False, kind="flag", everywhere=True)
KEPT = fraction("density", "the fraction kept", default=0.2, everywhere=True)
ABOVE = Parameter("above_average", "at least 0", lambda v: v >= 0, 1.0, slider=(0.0, 2.0))
CALIBRATION = Parameter("calibration", "at least 0", lambda v: v >= 0, 1.0, slider=(0.0, 2.0))

ROWS = (
    MergeMethod(
        "pcb", "PCB-Merging", "arXiv:2410.02396",
        "θ_0 + α Σ λ_i w_i clip(δ_i) / Σ w_i, w_i the largest `ratio` of exp(N â_i²) tanh(δ_i Σ δ_j) over the whole "
        "model, stretched to [0, 1], as â_i is from |clip(δ_i)|; Σ sign(δ_j) â_j for Σ δ_j if signed",
        "a trim of the whole model's smallest entries, with a cap on the largest", "5 passes",
        (EACH, LAMBDA, RATIO, CLIP, SIGNED),
    ),
    MergeMethod(
        "consensus", "Consensus Merging (TALL masks)", "arXiv:2405.07813",
        "θ_0 + α M where at least `agreement` models have |λ_i δ_i| > threshold · |M − λ_i δ_i|, "
        "M = Σ λ_i δ_i or that of TIES",
        "θ_0 + α λ δ at agreement 0 or 1 (with ties trimmed over the whole model), else the base",
        "1 pass, 3 with ties",
        (EACH, LAMBDA, AGREEMENT, THRESHOLD, TIES, KEPT),
        reading="one threshold for all models; the paper takes the best of five for each by validation accuracy",
    ),
    MergeMethod(
        "widen", "WIDEN", "arXiv:2408.03092",
        "θ_0 + Σ λ_i s_i δ_i, s_i of an input column the mean of two softmaxes over the models, of the ranks of its "
        "change in norm and in direction; `calibration` in place of a softmax where the rank is above average; of an "
        "embedding each token, of a vector the sizes |λ_i δ_i| without ranks",
        "θ_0 + λ δ at calibration 1", "2 passes",
        (EACH, ABOVE, CALIBRATION), chunks="rows",
    ),
)  # fmt: skip
