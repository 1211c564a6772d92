"""The merge methods by name: title, paper, formula and parameters. Their functions are in `methods.py` and `matrices.py`.

Nothing heavy is imported here, so that a recipe is checked in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WEIGHTED = {"weight": None}
ARITHMETIC = {"weight": None, "normalize": False, "lambda": 1.0}
SPARSE = ARITHMETIC | {"density": 1.0}
PER_MODEL = {"weight", "density", "gamma", "epsilon", "statistics"}  # may differ between models
FLAGS = {"normalize", "rescale", "int8_mask"}
IGNORED = {"int8_mask"}  # mergekit's way to save memory; changes no result
FILES = {"statistics", "sensitivity"}
RANGES = {  # parameter: (test, what it must be)
    "density": (lambda v: 0 < v <= 1, "the fraction kept, in (0, 1]"),
    "gamma": (lambda v: 0 <= v < 1, "the fraction of largest entries dropped, in [0, 1)"),
    "epsilon": (lambda v: 0 <= v < 1, "half the spread of the keep probability, in [0, 1)"),
    "rank": (lambda v: 0 < v <= 1, "the fraction of singular values kept, in (0, 1]"),
    "mu": (lambda v: v >= 0, "a threshold, at least 0"),
    "iterations": (lambda v: 1 <= v < 1000 and v == int(v), "a whole number from 1 to 999"),
    "temperature": (lambda v: v > 0, "above 0"),
    "alpha": (lambda v: 0 <= v <= 1, "in [0, 1]"),
    "omega": (lambda v: 0 <= v <= 1, "in [0, 1]"),
}


@dataclass(frozen=True)
class MergeMethod:
    """``parameters``: recipe key → default (None: required). ``models``: least and most besides the base.

    chunks: ``flat`` stretches of a tensor, whole ``rows``, or the ``whole`` tensor. takes_coefficients: whether ACM's λ can weigh it.
    mergekit: ``same`` result in float32, equal ``in distribution``, or none of its methods (empty).
    """

    name: str
    title: str
    paper: str
    formula: str
    parameters: dict[str, float | bool | str | None] = field(default_factory=dict)
    models: tuple[int, int | None] = (1, None)
    chunks: str = "flat"
    takes_coefficients: bool = True
    needs_base: bool = True
    mergekit: str = ""

    @property
    def url(self) -> str:
        return (
            self.paper
            if self.paper.startswith("http")
            else f"https://arxiv.org/abs/{self.paper.removeprefix('arXiv:')}"
        )


METHODS = {
    method.name: method
    for method in (
        MergeMethod("linear", "Average", "arXiv:2203.05482", "Σ w_i θ_i, over Σ w_i if normalize", WEIGHTED | {"normalize": True},
                    takes_coefficients=False, needs_base=False, mergekit="same"),
        MergeMethod("interpolation", "Interpolation", "arXiv:2510.10977", "(1 − λ) θ_0 + λ θ_1", WEIGHTED, models=(1, 1)),
        MergeMethod("slerp", "SLERP", "https://en.wikipedia.org/wiki/Slerp",
                    "sin((1 − t) Ω) / sin Ω · θ_0 + sin(t Ω) / sin Ω · θ_1, Ω the angle of the flat tensors", {"t": None},
                    models=(1, 1), mergekit="same"),
        MergeMethod("task_arithmetic", "Task Arithmetic", "arXiv:2212.04089", "θ_0 + α Σ λ_i δ_i", ARITHMETIC, mergekit="same"),
        MergeMethod("ties", "TIES", "arXiv:2306.01708", "θ_0 + α mean over agreeing signs of λ_i trim(δ_i)",
                    SPARSE | {"normalize": True}, mergekit="same"),
        MergeMethod("dare_linear", "DARE", "arXiv:2311.03099", "θ_0 + α Σ λ_i m_i δ_i / density, m_i random",
                    SPARSE | {"rescale": True}, mergekit="in distribution"),
        MergeMethod("dare_ties", "DARE-TIES", "arXiv:2311.03099", "the same, with the sign election of TIES",
                    SPARSE | {"rescale": True}, mergekit="in distribution"),
        MergeMethod("breadcrumbs", "Model Breadcrumbs", "arXiv:2312.06795",
                    "θ_0 + α Σ λ_i δ_i without the largest γ and the smallest 1 − density − γ", SPARSE | {"gamma": 0.01},
                    mergekit="same"),
        MergeMethod("breadcrumbs_ties", "Model Breadcrumbs with TIES", "arXiv:2312.06795", "the same, with the sign election of TIES",
                    SPARSE | {"gamma": 0.01}, mergekit="same"),
        MergeMethod("della", "DELLA", "arXiv:2406.11617",
                    "mean over agreeing signs of λ_i m_i δ_i / p_i, p_i from density − ε to density + ε by rank in the row",
                    SPARSE | {"normalize": True, "rescale": True, "epsilon": 0.15}, chunks="rows", mergekit="in distribution"),
        MergeMethod("della_linear", "DELLA without election", "arXiv:2406.11617", "θ_0 + α Σ λ_i m_i δ_i / p_i",
                    SPARSE | {"rescale": True, "epsilon": 0.15}, chunks="rows", mergekit="in distribution"),
        MergeMethod("model_stock", "Model Stock", "arXiv:2403.19522",
                    "θ_0 + t mean λ_i δ_i, t = N cos / (1 + (N − 1) cos), cos the mean cosine of task vectors", models=(2, None), mergekit="same"),
        MergeMethod("fisher", "Fisher", "arXiv:2111.09832", "θ_0 + Σ λ_i F_i δ_i / Σ F_i, F_i the diagonal Fisher information",
                    {"weight": 1.0, "statistics": None}),
        MergeMethod("regmean", "RegMean", "arXiv:2212.09849", "(Σ G_i)⁻¹ Σ G_i W_i, G_i the Gram matrix of the inputs, off-diagonals × α",
                    {"alpha": 0.9, "statistics": None}, chunks="whole"),
        MergeMethod("twin", "Twin-Merging (SVD part)", "arXiv:2406.15479", "θ_0 + α Σ λ_i δ_i truncated to a fraction of its singular values",
                    ARITHMETIC | {"rank": None}, chunks="whole"),
        MergeMethod("lore", "LoRE-Merging", "arXiv:2502.10749",
                    "argmin Σ ‖θ_0 + δ_i − θ_i‖² + μ ‖δ_i‖_*, then θ_0 + α mean λ_i δ_i", ARITHMETIC | {"normalize": True, "weight": 1.0, "mu": None, "iterations": 10},
                    models=(2, None), chunks="whole", needs_base=False),
        MergeMethod("aim", "AIM", "arXiv:2502.02421", "θ_0 + Σ λ_i δ_i ⊙ (1 − s (1 − ω)), s the base's input importance per channel",
                    {"weight": 1.0, "omega": 0.4, "statistics": None}, chunks="rows"),
        MergeMethod("sens", "Sens-Merging", "arXiv:2502.12420",
                    "c_0 θ_0 + c_1 α λ δ, (c_0, c_1) = 2 softmax(((1 − α) s_0, α s_1) / T) per layer", {"weight": 1.0, "alpha": None, "temperature": None, "sensitivity": None},
                    models=(1, 1)),
    )
}  # fmt: skip


def table() -> str:
    """The methods as a Markdown table."""
    lines = [
        "| method | recipe name | formula | parameters (default) | paper | mergekit |",
        "|---|---|---|---|---|---|",
    ]
    for m in METHODS.values():
        keys = ", ".join(f"`{k}`" + ("" if d is None else f" ({str(d).lower()})") for k, d in m.parameters.items())
        lines.append(
            f"| {m.title} | `{m.name}` | {m.formula.replace('|', chr(92) + '|')} | {keys} | [{m.paper}]({m.url}) | {m.mergekit or '–'} |"
        )
    return "\n".join(lines)
