"""The part of a profile that chooses the calibration texts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from acm.calibration import defaults
from acm.hub import HUB_ID
from acm.paths import ROOT
from acm.schema import Strict, like, optional

Commit = Annotated[str, like("[0-9a-f]{40}", "the 40 hexadecimal digits of a commit")]


class Calibration(Strict):
    """Which calibration texts are used: ``per_cluster`` texts of each of ``clusters`` K-means clusters (paper: 20 × 5).

    texts: a file, or a dataset of the hub such as simplescaling/s1K.
    revision: a commit of that dataset; None: the newest.
    field: of a JSONL file, or several joined by ``+``. seed: of the choice.
    max_tokens: where texts are cut; None: nowhere, as in the paper.
    """

    texts: str
    revision: Commit | None = optional(None)
    field: str = defaults.FIELD
    clusters: int = Field(defaults.CLUSTERS, ge=1)
    per_cluster: int = Field(defaults.PER_CLUSTER, ge=1)
    seed: int = defaults.TEXT_SEED
    max_tokens: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def revision_of_a_dataset(self) -> Calibration:
        if self.revision and not HUB_ID.fullmatch(self.texts):
            raise ValueError(
                f"`revision` pins a dataset of the hub (owner/name), and texts is the file {self.texts}; leave it out"
            )
        return self

    @property
    def source(self) -> str:
        """The path of the file. Where there is no such file, the dataset's name on the hub and ``@commit``."""
        if (ROOT / self.texts).exists() or not HUB_ID.fullmatch(self.texts):
            return str(ROOT / self.texts)
        return f"{self.texts}@{self.revision}" if self.revision else self.texts
