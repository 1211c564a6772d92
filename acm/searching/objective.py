"""What a search looks for: accuracy at no more than a target length, and when a candidate is stopped early.

accuracy   mean over tasks, percent
tokens     mean length over tasks
target     the length that costs nothing
price      points of accuracy for each token above the target
value      accuracy − price · max(0, tokens − target)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

PRICE = 0.6  # points for a token: about what plain interpolation of the embedded models pays at its steep end
DRAWS = 1000  # of the bootstrap that stops a candidate
SURE = 97.5  # percent of the draws in which a candidate that is stopped lies below the best


@dataclass(frozen=True)
class Objective:
    """Target (tokens; None: both measures count, as in a front) and price (points for a token)."""

    target: float | None
    price: float = PRICE

    def value(self, accuracy: Any, tokens: Any) -> Any:
        """Accuracy (percent) less the price of the tokens above the target; of numbers or of arrays."""
        return accuracy - self.price * np.maximum(0.0, tokens - (self.target or 0.0))

    def of(self, records: pd.DataFrame) -> tuple[float, float, float]:
        """Accuracy (percent), tokens and value of records. Without a target the value is the accuracy."""
        means = records.groupby("task")[["correct", "length"]].mean().mean()
        accuracy, tokens = 100 * float(means["correct"]), float(means["length"])
        return accuracy, tokens, accuracy if self.target is None else float(self.value(accuracy, tokens))

    def hopeless(self, records: pd.DataFrame, best: pd.DataFrame, seed: int = 0) -> bool:
        """Whether a candidate is below the best one on the same items in SURE percent of the bootstrap's draws.

        records: of the candidate, on some items. best: of the best candidate, on these items at least. The draws are of
        items within each task, the same for both.
        """
        rng = np.random.default_rng(seed)
        means = []
        pairs = records.merge(best, on=["task", "item"], suffixes=("", "_best"))
        for _, part in pairs.groupby("task"):
            drawn = rng.integers(len(part), size=(DRAWS, len(part)))
            columns = part[["correct", "length", "correct_best", "length_best"]].to_numpy(float)
            means.append(columns[drawn].mean(axis=1))
        accuracy, tokens, other, longer = np.mean(means, axis=0).T
        below = self.value(100 * accuracy, tokens) < self.value(100 * other, longer)
        return bool(100 * below.mean() >= SURE)
