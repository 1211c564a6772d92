"""What an interrupted calibration continues from: the rows of each finished layer, and the hidden states after the last."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file
from torch import Tensor

from acm.checkpoints import identity
from acm.records import source_hash

States = dict[str, list[Tensor]]  # model → hidden state of each text


class Journal:
    """Layers in their order; without a folder everything stays in memory. all_states: hidden states of all layers are kept, not the last alone."""

    def __init__(self, folder: Path | None, layers: list[str], models: dict[str, Path], facts: list, all_states: bool) -> None:
        self.layers, self.all_states, self.rows = layers, all_states, {}
        self.folder = None
        if folder:
            key = json.dumps([facts, {name: identity(path) for name, path in models.items()}, source_hash()], sort_keys=True)
            self.folder = folder / f"calibration-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def done(self) -> list[str]:
        return list(self.rows)

    def resume(self) -> States | None:
        """Take up the finished layers; hidden states after the last of them, None where nothing is finished."""
        for layer in self.layers if self.folder else []:
            if not self.path(layer, "parquet").is_file() or not self.path(layer, "safetensors").is_file() and self.all_states:
                break
            self.rows[layer] = pd.read_parquet(self.path(layer, "parquet"))
        if not self.rows:
            return None
        if not self.path(self.done[-1], "safetensors").is_file():
            self.rows = {}  # its states are gone: start anew
            return None
        return self.states(self.done[-1])

    def states(self, layer: str) -> States:
        """Hidden states after a layer."""
        found: States = {}
        for name, tensor in sorted(load_file(self.path(layer, "safetensors")).items(), key=lambda item: int(item[0].rpartition("|")[2])):
            found.setdefault(name.rpartition("|")[0], []).append(tensor)
        return found

    def add(self, layer: str, rows: pd.DataFrame, states: States) -> None:
        """A layer is finished. Its states are on disk before its rows, so what says that it is finished comes last."""
        self.rows[layer] = rows
        if not self.folder:
            return
        part = self.folder / "part"
        save_file({f"{name}|{s}": t.contiguous() for name, part_states in states.items() for s, t in enumerate(part_states)}, part)
        part.replace(self.path(layer, "safetensors"))
        rows.to_parquet(part, index=False)
        part.replace(self.path(layer, "parquet"))
        before = self.layers.index(layer) - 1
        if before >= 0 and not self.all_states:
            self.path(self.layers[before], "safetensors").unlink(missing_ok=True)

    def finish(self) -> pd.DataFrame:
        """All rows; the folder is removed."""
        if self.folder:
            shutil.rmtree(self.folder)
        return pd.concat(self.rows.values(), ignore_index=True)

    def path(self, layer: str, kind: str) -> Path:
        return self.folder / f"{self.layers.index(layer):03d}-{layer}.{kind}"
