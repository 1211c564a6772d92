"""How a profile states a method, and the methods of a profile that states none: the paper's, and our controls.

The hyper-parameters are the paper's at 1.5B and 7B (arXiv 2505.14009, experimental setup), for one fine-tuned model.
The paper's k is the fraction that trimming removes, so the density is 1 − k. DARE's weight 0.5 is the mean of two
models. In ACM, λ replaces the weight. TIES also has a scaling α; the paper does not say whether ACM-TIES keeps α.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from acm.calibration.registry import COEFFICIENT_SETS
from acm.schema import Strict, one_of

Control = Annotated[str, one_of("control that gives coefficients", COEFFICIENT_SETS)]


class Method(Strict):
    """How one merge is made.

    coefficients: λ by layer from this control: ``none``, the real pair, is ACM; ``uniform`` is the mean of ACM's λ.
    """

    merge_method: str
    parameters: dict[str, float | bool] = Field({})
    include_base: bool = False
    coefficients: Control | None = None
    seed: int = 0


STANDARD_METHODS: dict[str, dict[str, Any]] = {
    "Average": {"merge_method": "linear", "include_base": True, "parameters": {"weight": 1.0}},
    "TA": {"merge_method": "task_arithmetic", "parameters": {"weight": 0.7}},
    "TIES": {"merge_method": "ties", "parameters": {"weight": 1.0, "density": 0.2}},
    "DARE": {"merge_method": "dare_linear", "parameters": {"weight": 0.5, "density": 0.7}},
    "DARE-TA": {"merge_method": "dare_linear", "parameters": {"weight": 0.7, "density": 0.7}},
    "DARE-TIES": {"merge_method": "dare_ties", "parameters": {"weight": 0.7, "density": 0.7}},
    "ACM-TA": {"merge_method": "task_arithmetic", "coefficients": "none"},
    "ACM-TIES": {"merge_method": "ties", "parameters": {"density": 0.2}, "coefficients": "none"},
    "Null-TA": {"merge_method": "task_arithmetic", "coefficients": "gaussian"},
    "Null-TIES": {"merge_method": "ties", "parameters": {"density": 0.2}, "coefficients": "gaussian"},
    "Uniform-TA": {"merge_method": "task_arithmetic", "coefficients": "uniform"},
    "Uniform-TIES": {"merge_method": "ties", "parameters": {"density": 0.2}, "coefficients": "uniform"},
}
