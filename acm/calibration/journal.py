"""What an interrupted calibration continues from: the rows of each finished layer, and the hidden states after the last.

    001-0.parquet        rows of the layer
    001-0.safetensors    hidden states after it; those of the layer before are then removed
    001-0.json           digests of these and of the layer's statistics; written last: what it vouches for is whole

What does not match its digest is not believed: the run goes on from the last layer that is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from itertools import takewhile
from pathlib import Path

import pandas as pd
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from acm.checkpoints import identity
from acm.files import digest, write_json
from acm.records import versions
from acm.sources import source_hash

States = dict[str, list[Tensor]]  # model → hidden state of each text


class Journal:
    """Layers in their order; without a folder everything stays in memory. all_states: hidden states of all layers are kept, not the last alone.

    models, facts: what the results depend on; with another model or fact, or with other sources, nothing is taken up.
    """

    def __init__(
        self, folder: Path | None, layers: list[str], models: dict[str, Path], facts: list, all_states: bool
    ) -> None:
        self.layers, self.all_states, self.rows = layers, all_states, {}
        self.folder = None
        if folder:
            key = [
                facts,
                {name: [identity(path), changed(path)] for name, path in models.items()},
                source_hash("calibration"),
                versions(),
            ]
            self.folder = (
                Path(folder)
                / f"calibration-{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}"
            )

    @property
    def done(self) -> list[str]:
        return list(self.rows)

    def resume(self) -> States | None:
        """Take up the layers that are whole, up to the last one whose states are; those states, None where there is none."""
        kinds = ("parquet", "safetensors") if self.all_states else ("parquet",)
        found = list(takewhile(lambda layer: self.sound(layer, *kinds), self.layers)) if self.folder else []
        while found and not self.sound(found[-1], "parquet", "safetensors"):
            found.pop()
        self.rows = {layer: pd.read_parquet(self.path(layer, "parquet")) for layer in found}
        return self.states(found[-1]) if found else None

    def sound(self, layer: str, *kinds: str) -> bool:
        """Whether these files of a layer, and its statistics, are what was written."""
        try:
            noted = json.loads(self.path(layer, "json").read_text())
            return all(digest(Path(path)) == noted["files"][path] for path in noted["files"]) and all(
                digest(self.path(layer, kind)) == noted[kind] for kind in kinds
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def states(self, layer: str, model: str | None = None) -> States:
        """Hidden states after a layer, of one model or of all, mapped from the file."""
        found: States = {}
        with safe_open(self.path(layer, "safetensors"), framework="pt") as file:
            for name, text in sorted((name.rsplit("|", 1) for name in file.keys()), key=lambda part: int(part[1])):  # noqa: SIM118
                if model in (None, name):
                    found.setdefault(name, []).append(file.get_tensor(f"{name}|{text}"))
        return found

    def add(self, layer: str, rows: pd.DataFrame, states: States, files: list[Path]) -> None:
        """A layer is finished. files: the statistics that were written for it."""
        self.rows[layer] = rows
        if not self.folder:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path(layer, "json").unlink(missing_ok=True)
        tensors = {
            f"{name}|{s}": t.contiguous() for name, part_states in states.items() for s, t in enumerate(part_states)
        }
        save_file(tensors, self.path(layer, "safetensors"))
        rows.to_parquet(self.path(layer, "parquet"), index=False)
        noted = {kind: digest(self.path(layer, kind)) for kind in ("parquet", "safetensors")}
        write_json(self.path(layer, "json"), noted | {"files": {str(file): digest(file) for file in files}})
        before = self.layers.index(layer) - 1
        if before >= 0 and not self.all_states:
            self.path(self.layers[before], "safetensors").unlink(missing_ok=True)

    def finish(self) -> pd.DataFrame:
        """All rows; the folder is removed."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # it holds what another run left
                self.folder.parent.rmdir()
        return pd.concat(self.rows.values(), ignore_index=True)

    def path(self, layer: str, kind: str) -> Path:
        return self.folder / f"{self.layers.index(layer):03d}-{layer}.{kind}"


def changed(folder: Path) -> list:
    """When the weights were last written: of large files :func:`identity` looks at both ends alone."""
    return [[path.name, path.stat().st_mtime_ns] for path in sorted(folder.glob("*.safetensors"))]
