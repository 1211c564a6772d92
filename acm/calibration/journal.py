"""The journal of a calibration: files from which an interrupted run continues.

The journal keeps the table's rows of every finished layer. It keeps the hidden states of all texts behind the last
finished layer. For block 0, which is layer number 1, its folder holds:

    001-0.parquet        the rows of the layer
    001-0.safetensors    the hidden states behind the layer; the file of the layer before is then removed
    001-0.json           digests of the two files above and of the layer's statistics

The digests are written last: when they are there, the other files are complete. A file that does not match its digest
is ignored, and the run continues from the last layer whose files are all sound.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from itertools import takewhile
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from acm.files import digest
from acm.identity import identity
from acm.kept import check_writable, keeping, read_kept, write_kept
from acm.records import versions
from acm.sources import source_hash

OWN = ("parquet", "safetensors")  # endings of the files of a layer
States = dict[str, list[Tensor]]  # model → hidden state of each text


class Journal:
    """The finished layers, in their order. Without a folder everything stays in memory.

    models: of each, the folders that it is read from. settings: what else the results depend on. With another model or
    setting, or with other sources, nothing is taken up.
    all_states: the hidden states behind every layer are kept, not only those behind the last one.
    """

    def __init__(
        self,
        folder: Path | None,
        layers: list[str],
        models: dict[str, list[Path]],
        settings: list[object],
        all_states: bool,
    ) -> None:
        self.layers, self.all_states = layers, all_states
        self.rows: dict[str, pd.DataFrame] = {}
        self.folder: Path | None = None
        if folder:
            content = {name: list(map(identity, folders)) for name, folders in models.items()}
            key = json.dumps([settings, content, source_hash("calibration"), versions()], sort_keys=True)
            self.key = {"calibration": hashlib.sha256(key.encode()).hexdigest()}
            self.folder = Path(folder) / f"calibration-{self.key['calibration'][:16]}"
            check_writable(self.folder)

    @property
    def done(self) -> list[str]:
        return list(self.rows)

    def resume(self) -> States | None:
        """Take up the layers that are whole, up to the last one whose hidden states are whole too.

        Returns these states, None where there is no such layer.
        """
        kinds = OWN if self.all_states else ("parquet",)
        found = list(takewhile(lambda layer: self.sound(layer, *kinds), self.layers)) if self.folder else []
        while found and not self.sound(found[-1], *OWN):
            found.pop()
        self.rows = {layer: pd.read_parquet(self.path(layer, "parquet")) for layer in found}
        return self.states(found[-1]) if found else None

    def sound(self, layer: str, *kinds: str) -> bool:
        """Whether these files of a layer, and its statistics, are what was written."""
        noted = dict(read_kept(self.path(layer, "json"), self.key | {"layer": layer}, bool) or [])
        statistics = noted.keys() - OWN
        try:
            same = all(digest(Path(name)) == noted[name] for name in statistics)
            return bool(noted) and same and all(digest(self.path(layer, kind)) == noted[kind] for kind in kinds)
        except OSError:
            return False

    def states(self, layer: str, model: str | None = None) -> States:
        """Hidden states behind a layer, of one model or of all, mapped from the file."""
        found: States = {}
        with safe_open(self.path(layer, "safetensors"), framework="pt") as file:
            keys = [name.rsplit("|", 1) for name in file.keys()]  # noqa: SIM118 (the file is no dictionary)
            for name, text in sorted(keys, key=lambda key: int(key[1])):
                if model in (None, name):
                    found.setdefault(name, []).append(file.get_tensor(f"{name}|{text}"))
        return found

    def add(self, layer: str, rows: pd.DataFrame, states: States, files: list[Path]) -> None:
        """Note that a layer is finished. files: the statistics that were written for it."""
        self.rows[layer] = rows
        if not self.folder:
            return
        tensors = {f"{name}|{s}": state.contiguous() for name, each in states.items() for s, state in enumerate(each)}
        with keeping(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.path(layer, "json").unlink(missing_ok=True)
            try:
                save_file(tensors, self.path(layer, "safetensors"))
            except SafetensorError as error:  # it names the system's reason by number
                number = re.search(r"os error (\d+)", str(error))
                raise OSError(int(number[1]) if number else None, str(error)) from None
            rows.to_parquet(self.path(layer, "parquet"), index=False)
        noted = [(kind, digest(self.path(layer, kind))) for kind in OWN] + [(str(file), digest(file)) for file in files]
        write_kept(self.path(layer, "json"), self.key | {"layer": layer}, noted)
        before = self.layers.index(layer) - 1
        if before >= 0 and not self.all_states:
            self.path(self.layers[before], "safetensors").unlink(missing_ok=True)

    def finish(self) -> pd.DataFrame:
        """The rows of all layers. The folder is removed."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # it holds what another run left
                self.folder.parent.rmdir()
        return pd.concat(self.rows.values(), ignore_index=True)

    def path(self, layer: str, kind: str) -> Path:
        """A file of a layer; the journal must have a folder."""
        assert self.folder is not None
        return self.folder / f"{self.layers.index(layer):03d}-{layer}.{kind}"
