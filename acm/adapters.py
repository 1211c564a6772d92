"""Opens models by name: a folder, a hub id, an adapter, or ``model+adapter``.

An adapter is read as the model that it makes of its base. Its base is, in this order: the model before the ``+``; the
one that its adapter_config.json names, where that is a folder here or whole in the hub's cache; the base of the merge
or calibration.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from acm import hub
from acm.architectures import EMBEDDING, HEAD
from acm.checkpoints import ADAPTER, Checkpoint, exists, has_tokenizer
from acm.errors import UserError, listed
from acm.headers import TensorInfo
from acm.lora import WEIGHTS, Lora
from acm.reading import read_json
from acm.weight_files import INDEX, SINGLE, Weights

LOG = logging.getLogger(__name__)


class Adapted(Checkpoint):
    """The model that an adapter makes of ``base``. Each changed matrix is computed when it is read.

    why: what made ``base`` its base. given: the adapter, as it was named.
    """

    def __init__(self, adapter: Lora, base: Checkpoint, why: str, given: str) -> None:
        self.folder, self.base, self.given, self.why = adapter.folder, base, given, why
        self.changed, self.lost = adapter.tensors(base), adapter.lost(base)
        self.config = dict(base.config)
        if EMBEDDING in self.changed and "vocab_size" in base.config:
            self.config["vocab_size"] = self.changed[EMBEDDING].shape[0]
        if base.tied and HEAD in self.changed:
            self.config["tie_word_embeddings"] = False

    @cached_property
    def weights(self) -> Weights:
        """What the base's files hold."""
        return self.base.weights

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """Where each tensor lies, or how it is computed."""
        return {**self.base.tensors, **self.changed}

    @property
    def name(self) -> str:
        """The adapter's folder name, or that of its hub id."""
        return Path(self.given).name

    @property
    def home(self) -> Path:
        """The base's."""
        return self.base.home

    @property
    def tokenizer(self) -> Path:
        """The adapter's folder where it has a tokenizer, else the base's."""
        return self.folder if has_tokenizer(self.folder) else self.base.tokenizer

    @property
    def folders(self) -> list[Path]:
        """The base's and the adapter's."""
        return [*self.base.folders, self.folder]

    @property
    def shards(self) -> dict[str, tuple[str, int]]:
        """The base's. A head that the base lacks lies behind all."""
        found = self.base.shards
        end = max(found.values())
        return {name: found.get(name, (end[0], end[1] + 1)) for name in self.tensors}

    @property
    def warning(self) -> str | None:
        """What the adapter's file lacks."""
        if not self.lost:
            return None
        return (
            f"{self.folder / WEIGHTS} lacks {len(self.lost)} modules that its target_modules names, so they stay as "
            f"they are in the base: {listed(self.lost)}. If all were trained, save it again with its shards gathered."
        )

    @property
    def note(self) -> str:
        """What was merged into what, and why."""
        return f"{self.name}: the adapter {self.folder} is merged into {self.base.folder}, {self.why}."


def resolve_model(name: str, folder: Path) -> Path:
    """The folder of a model: a path, else a hub id (with ``@revision``), fetched into the hub's cache.

    UserError for a path that starts from the working folder, as mergekit's do: the hub may have another model so named.
    """
    path = folder / name
    if exists(path):
        return path
    if exists(Path(name)):
        raise UserError(
            f"model {name} lies in the working directory, and paths in a recipe start at the recipe's, {folder}; write "
            f"{Path(name).absolute()}."
        )
    on_hub = hub.with_revision(name)
    return hub.download(*on_hub) if on_hub else path


def name_of(path: str | Path) -> str:
    """The name of a model: its folder's; of ``model+adapter``, the adapter's."""
    _, plus, adapter = str(path).rpartition("+")
    return Path(adapter).name if plus and not exists(Path(path)) else Path(path).name


def open_folders(base: str | Path, finetuned: Mapping[str, str | Path]) -> tuple[Checkpoint, dict[str, Checkpoint]]:
    """A base and fine-tuned models by name, from folders here; any may be an adapter or ``model+adapter``."""
    first = open_model(str(base), Path(), find=lambda name, folder: folder / name)
    others = {
        name: open_model(str(path), Path(), first, lambda name, folder: folder / name)
        for name, path in finetuned.items()
    }
    for model in (first, *others.values()):
        if isinstance(model, Adapted):
            LOG.info("%s", model.note)
            if model.warning:
                LOG.warning("%s", model.warning)
    return first, others


def open_model(
    name: str,
    folder: Path,
    base: Checkpoint | None = None,
    find: Callable[[str, Path], Path] = resolve_model,
) -> Checkpoint:
    """A model by its name: a path that starts from ``folder``, a hub id, or either with ``+`` and an adapter.

    base: what an adapter is merged into whose own base is not here. find: gives the folder of a name.
    UserError for what cannot be read.
    """
    model, plus, adapter = name.rpartition("+")
    both = bool(plus) and not exists(folder / name)
    place = find(adapter if both else name, folder)
    if exists(place / ADAPTER):
        lora = Lora(place)
        if both:
            return Adapted(lora, open_model(model, folder, find=find), "the model before the +", adapter)
        if whole := next((name for name in (SINGLE, INDEX) if exists(place / name)), None):
            raise UserError(
                f"{place} holds an adapter and a whole model ({whole}), and programs differ on which they read; move "
                f"{ADAPTER} away if it is the model, or write `MODEL+{place}` for the adapter."
            )
        return Adapted(lora, *base_of(lora, folder, base), name)
    if both:
        raise UserError(f"'{name}' is read as model+adapter, and {place} holds no adapter ({ADAPTER}).")
    return Checkpoint(place)


def base_of(adapter: Lora, folder: Path, given: Checkpoint | None) -> tuple[Checkpoint, str]:
    """The base of an adapter that is named alone, and why it is that. given: the merge's or calibration's base."""
    named = adapter.config.get("base_model_name_or_path")
    if found := here(named, adapter.config.get("revision"), [adapter.folder, folder]):
        return Checkpoint(found), f"which its {ADAPTER} names"
    if given and not isinstance(given, Adapted):
        return given, f"the base of this recipe or calibration; its {ADAPTER} names {named}, not here or quantized"
    raise UserError(
        f"{adapter.folder} is an adapter of {named}, which is not here or quantized; write it with the model that it "
        f"was trained on, `MODEL+{adapter.folder}`, where MODEL is a folder or, in a recipe, a hub id."
    )


def here(named: object, revision: object, folders: list[Path]) -> Path | None:
    """The model that an adapter's config names, if it is a folder or whole in the hub's cache, and not quantized."""
    if not isinstance(named, str) or not named:
        return None
    found = next(((folder / named).resolve() for folder in folders if exists(folder / named / "config.json")), None)
    if not found and (on_hub := hub.with_revision(named)):
        found = hub.local(on_hub[0], revision if isinstance(revision, str) else on_hub[1])
    return found if found and not read_json(found / "config.json").get("quantization_config") else None
