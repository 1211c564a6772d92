"""A model that stays loaded: it is asked, takes the weights of the next, and is asked again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acm.errors import UserError
from acm.evaluation.backends import Recording
from acm.evaluation.settings import Engine, Sampling, Server
from acm.evaluation.tensors import Source
from acm.identity import decisive_files
from acm.kept import text
from acm.reading import read_json

WEIGHTS = (".safetensors", ".safetensors.index.json")
RECIPE_ONLY = "coefficients.json"  # lies beside a merge, and no engine reads it
INCIDENTAL = ("transformers_version", "dtype", "torch_dtype", "_name_or_path")  # an engine is told its dtype


@dataclass
class Loaded:
    """A model behind an engine, which :func:`acm.evaluate` takes in place of a folder, as long as the engine holds it.

    folder: where it was loaded from; may be gone. engine, max_tokens: as it was loaded. identity: of the model that it
    is now, as its folder has it; empty: of none. name: of that model. frame: see :func:`frame_of`. turn: the engine's
    count of models when it held this one; -1: as it is.
    """

    lm: Recording
    folder: Path
    engine: Engine | Server
    max_tokens: int
    identity: str
    name: str = ""
    frame: dict[str, str] = field(default_factory=dict)
    turn: int = -1

    def __post_init__(self) -> None:
        self.name = self.name or self.folder.name
        self.turn = self.lm.turn if self.turn < 0 else self.turn

    def misfit(self, source: Source) -> str:
        """What keeps the engine from taking a model's weights, in words; empty if nothing does."""
        if odd := other_file(self.frame, frame_of(source.folder)):
            return f"{source.folder.name} has another {odd} than the loaded {self.name}"
        return self.lm.misfit(source.shapes)

    def take(self, source: Source) -> None:
        """Take the weights of a model. UserError where it does not fit, or has numbers that the dtype cannot hold."""
        self.identity, self.name = "", source.folder.name
        self.lm.turn += 1
        self.turn = self.lm.turn
        self.lm.take(source.tensors(), self.name)
        self.identity = source.identity

    def close(self) -> None:
        """End the engine. No handle of it can be asked any more."""
        self.lm.turn += 1
        self.lm.close()

    def asked(self, engine: Engine | Server, max_tokens: int, sampling: Sampling) -> Recording:
        """The backend, ready for a call of :func:`acm.evaluate`. UserError for a call that it was not loaded for."""
        if self.turn != self.lm.turn:
            raise UserError(f"the engine holds another model than {self.name} now; ask model_of for it again.")
        if engine != self.engine or max_tokens > self.max_tokens:
            raise UserError(
                f"model {self.name} is loaded with {self.engine} and a cap of {self.max_tokens} tokens; ask with the "
                "same engine and no higher cap, or give the model's folder."
            )
        if not self.identity:
            raise UserError(f"model {self.name} has not taken all weights; take a whole model, or give its folder.")
        self.lm.seed, self.lm.repeat, self.lm.keep, self.lm.key = sampling.seed, sampling.repeat, None, {}
        self.lm.responses.clear()
        return self.lm


def frame_of(folder: Path) -> dict[str, str]:
    """Each file beside the weights that an engine reads, and its hash: models with the same can share an engine."""
    found = {path.relative_to(folder).as_posix(): path for path in decisive_files(folder)}
    return {
        name: hashlib.sha256(content_of(path)).hexdigest()
        for name, path in found.items()
        if not name.endswith(WEIGHTS) and name != RECIPE_ONLY
    }


def other_file(one: dict[str, str], two: dict[str, str]) -> str:
    """The first file that two frames have otherwise; empty for equal ones."""
    return min((name for name, _ in one.items() ^ two.items()), default="")


def content_of(path: Path) -> bytes:
    """A file's bytes; of a config what it says, without what an engine does not go by."""
    if path.name not in ("config.json", "generation_config.json"):
        return path.read_bytes()
    said: dict[str, Any] = read_json(path)
    return text({key: value for key, value in said.items() if key not in INCIDENTAL}).encode()
