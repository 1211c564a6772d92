"""The rows of the methods of `methods/measured.py`, which read statistics of a calibration."""

from acm.merging.registry.row import (
    ALPHA,
    DENSITY,
    EACH,
    OMEGA,
    SENSITIVITY,
    STATISTICS,
    TEMPERATURE,
    MergeMethod,
    Parameter,
    fraction,
)

POWER = Parameter("power", "above 0", lambda v: v > 0, 0.5, slider=(0.01, 1.0))
EPS = Parameter("eps", "at least 0", lambda v: v >= 0, 1e-26)
RATE = fraction("rate", "the fraction of most important entries", per_model=True)
BASE_STATISTICS = Parameter("base_statistics", kind="statistics", per_model=True)  # of the base, on each model's texts
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
        (ALPHA.defaulting(0.9), STEPS, STATISTICS), chunks="bands", whole_if="iterations", statistics="gram",
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
    MergeMethod(
        "ota", "OTA with Fast Fisher Grafting", "arXiv:2509.11167",
        "θ_0 + Σ λ_i P_i δ_i / Σ P_i, P_i = F_i^power + eps where F_i δ_i² is among the `density` largest, else 0",
        "a trim of each tensor's entries of least F δ²", "3 passes",
        (EACH, DENSITY.defaulting(0.4), POWER, EPS, STATISTICS), statistics="entries",
        reading="F_i, the Fisher information, stands for Adam's second moments; the mask keeps a density, where the "
        "paper tunes a threshold for each model",
    ),
    MergeMethod(
        "obim", "OBIM-like saliency trim", "arXiv:2502.12217",
        "θ_0 + Σ λ_i m_i δ_i, m_i the `density` largest δ_i² Σ x² among the entries that no model before has taken, "
        "Σ x² of the entry's input",
        "a trim of each matrix's smallest |δ| times the root mean square of the input", "3 passes",
        (EACH, DENSITY.defaulting(None), STATISTICS), {"density": 0.2}, chunks="rows", statistics="diagonal",
        reading="saliency, density and order are guesses: the paper's code is not public; models come by name, and "
        "each is trimmed before it yields to those before",
    ),
    MergeMethod(
        "led", "LED-Merging", "arXiv:2502.16770",
        "θ_0 + Σ λ_i e_i δ_i, e_i where the scores of base and model are both among the `rate` largest, and for no "
        "other model",
        "δ where base and model both have large scores", "3 passes",
        (EACH, RATE, BASE_STATISTICS, STATISTICS), {"rate": 0.4}, statistics="entries",
    ),
)  # fmt: skip
