"""Reads LoRA adapters in peft's format: the tensors that they make of a base model's.

    W         (out, in)            a matrix of the base
    A, B      (r, in), (out, r)    of adapter_model.safetensors; of an embedding (r, out), (in, r)
    scaling   ()                   α / r, or α / √r with use_rslora; α is lora_alpha, or by alpha_pattern
    merged    (out, in)            W + scaling · B A, or W + scaling · (B A)ᵀ of an embedding; with DoRA its rows are
                                   scaled to the norms of lora_magnitude_vector

Adapters are not trusted: their config is checked field by field, and their shapes against the base. ``fan_in_fan_out``
is not read: peft too goes by the class of a layer, and no architecture that can be merged here stores its matrices
transposed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from acm.adapted import AdaptedTensor, Rows, as_stored, merged, shifted, with_rows
from acm.architectures import EMBEDDING, HEAD
from acm.checkpoints import ADAPTER, Checkpoint, adapter_refusal, equal
from acm.errors import UserError
from acm.headers import TensorInfo, read_header
from acm.reading import read_json
from acm.weight_files import WRAPPERS

WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
BY_PEFT = (
    "merge it with peft (PeftModel.from_pretrained(model, 'adapter').merge_and_unload().save_pretrained('merged')) "
    "and name that folder"
)
NO_WEIGHTS = {  # kinds that peft cannot merge either: they add prompts, or choose as they run
    "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT", "CARTRIDGE",
    "XLORA", "POLY", "SHADOW",
}  # fmt: skip
UNMERGEABLE = ("alora_invocation_tokens", "arrow_config", "use_qalora")  # fields of such LoRA adapters
FLAGS = ("use_dora", "use_rslora")
INITS = (True, False, None, "gaussian", "eva", "orthogonal")  # the others change the base's weights too
KNOWN = {  # fields that are read here, or that do not bear on the result; others must be off
    "alpha_pattern", "auto_mapping", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules",
    "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_bias", "lora_ga_config", "modules_to_save", "rank_pattern", "target_modules", "trainable_token_indices",
    "use_dora", "use_rslora", "velora_config",
}  # fmt: skip
# <module>.<part>[.<name of the adapter>][.bias][.weight]
TOKENS = "token_adapter.trainable_tokens_delta"
PARTS = rf"lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|{re.escape(TOKENS)}"
FACTOR = re.compile(rf"(.+)\.({PARTS})(?:\.(?!(?:weight|bias)$)[^.]+)?(\.bias)?(?:\.weight)?")
WRAPPED = re.compile(r"\.modules_to_save(\.[^.]+)?(?=\.(weight|bias)$)|(\.token_adapter)?\.base_layer(?=\.)")
LORA = {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"}
SLOW = re.compile(r"\(\?|\)[*+{]|([*+{].*){3}", re.DOTALL)  # a pattern that could take forever


class Lora:
    """An adapter's folder, its config and headers checked.

    parts: module of the base → its factors, by their names in the file. whole: name of a tensor → what replaces it.
    Raises UserError for what is no LoRA adapter, or one that cannot be merged by the formula above.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / WEIGHTS
        self.config = read_json(folder / ADAPTER, finite=True)
        self.check_config()
        if not self.file.exists() and (folder / PICKLED).exists():
            raise UserError(
                f"{folder / PICKLED} is a pickle, which can run code when it is read, so it is not read. Load the "
                "adapter with peft on a machine you trust it on and save it again: save_pretrained writes safetensors."
            )
        if not self.file.exists() and (folder / "config.json").is_file():
            raise adapter_refusal(folder)
        self.parts: dict[str, dict[str, TensorInfo]] = {}
        self.whole: dict[str, TensorInfo] = {}
        for name, info in read_header(self.file).items():
            self.sort(WRAPPERS.sub("", name).removeprefix("base_model.model."), info)
        if not self.parts and not self.whole:
            raise UserError(f"{self.file} holds no tensors; fetch or save it again.")

    def refuse(self, text: str) -> UserError:
        """An error about the adapter's config."""
        return UserError(f"{self.folder / ADAPTER}: {text}.")

    def check_config(self) -> None:
        """UserError for another kind of adapter, and for a setting by which peft would do more than add B A."""
        kind, init = str(self.config.get("peft_type")), self.config.get("init_lora_weights")
        if "peft_type" not in self.config:
            raise self.refuse("it has no peft_type, so it is no adapter of peft; merge it with the tool that wrote it")
        if kind in NO_WEIGHTS:
            raise self.refuse(f"adapters of the kind {kind} change no weights, so they cannot be merged; leave it out")
        if kind != "LORA":
            raise self.refuse(f"the adapter is of the kind {kind}, and only LORA is merged on the way; {BY_PEFT}")
        if init not in INITS:
            raise self.refuse(f"init_lora_weights is {init}, which changes the base's weights too; {BY_PEFT}")
        if odd := [key for key in FLAGS if self.config.get(key) not in (None, True, False)]:
            raise self.refuse(f"{odd[0]} must be true or false")
        if found := [key for key in UNMERGEABLE if self.config.get(key)]:
            raise self.refuse(f"{found[0]} is set, and peft cannot merge such an adapter either; leave it out")
        for key, value in self.config.items():
            if key not in KNOWN and (value is True or (value and isinstance(value, (dict, list)))):
                raise self.refuse(f"{key} is set, which is not supported; {BY_PEFT}")

    def sort(self, name: str, info: TensorInfo) -> None:
        """Put a tensor of the file to those of its module.

        With resized rows peft stores a module of modules_to_save up to twice, and beside it what the module was.
        """
        if ".original_module." in name:
            return
        if found := FACTOR.fullmatch(name):
            into, key = self.parts.setdefault(found[1], {}), found[2] + (found[3] or "")
        else:
            into, key = self.whole, WRAPPED.sub("", name)
        if key in into and not (into is self.whole and equal(into[key], info)):
            raise UserError(f"{self.file} holds several adapters (two for {name}); save each in a folder of its own.")
        into[key] = info

    def number(self, key: str, value: Any) -> float:
        """A finite number of the config."""
        try:
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
        raise self.refuse(f"{key} must be a finite number, not {value!r:.40}")

    def setting(self, key: str, pattern: str, module: str) -> float:
        """r or lora_alpha of a module. The first pattern that fits the module's name decides, as in peft."""
        patterns = self.config.get(pattern) or {}
        if not isinstance(patterns, dict):
            raise self.refuse(f"{pattern} must map names to numbers")
        for name, value in patterns.items():
            try:
                if SLOW.search(name):
                    raise re.error("")
                fits = re.match(rf"(.*\.)?({name})$", module)
            except (re.error, RecursionError, OverflowError):
                raise self.refuse(f"{pattern} has {name!r:.60}, which is no simple pattern; write out names") from None
            if fits:
                return self.number(pattern, value)
        return self.number(key, self.config.get(key, 8))  # peft's own default

    def tensors(self, base: Checkpoint) -> dict[str, TensorInfo]:
        """The tensors that the adapter makes of those of ``base``, by name; UserError where they do not fit."""
        self.check_modules(base)
        found = self.replaced(base)
        known = {**base.tensors, **found}
        for module, parts in self.parts.items():
            for name, changed in self.changed(module, parts, known, base).items():
                known[name] = found[name] = changed
        return found

    def adapted(self, base: TensorInfo, prepare: Callable[[], Rows]) -> AdaptedTensor:
        """What becomes of one of the base's tensors."""
        return AdaptedTensor(self.file, base.dtype, base.shape, base.start, base.stop, prepare)

    def unlike(self, what: str) -> UserError:
        """An error about weights that are not those of the config."""
        return UserError(f"{self.file} {what} in {ADAPTER}; they are of two adapters: fetch both again.")

    def misfit(self, what: str, base: Checkpoint) -> UserError:
        """An error about a tensor that does not fit the base."""
        return UserError(
            f"{self.file}: {what} in {base.folder}; name the model that the adapter was trained on (`model+adapter`)."
        )

    def check_modules(self, base: Checkpoint) -> None:
        """UserError where the config names a whole module that the file lacks, or the file adapts one not named.

        peft would pass over the latter.
        """
        if base.tied:
            self.check_tied(base)
        saved = self.config.get("modules_to_save") or []
        for module in saved if isinstance(saved, list) else []:
            if not any(f".{module}." in f".{name}" for name in self.whole):
                raise UserError(f"{self.file} lacks {module}, which modules_to_save names; fetch or save it again.")
        named = self.named(base)
        if named is not None and (odd := sorted(self.held - named)):
            if not any(f".{odd[0]}".endswith(f".{target}") for target in self.config["target_modules"]):
                raise self.unlike(f"adapts {odd[0]}, which target_modules does not name")
            raise self.misfit(f"there is no matrix {odd[0]}.weight", base)

    @property
    def held(self) -> set[str]:
        """The modules with factors."""
        return {module for module, parts in self.parts.items() if LORA & parts.keys()}

    def named(self, base: Checkpoint) -> set[str] | None:
        """The modules of the base that target_modules names; None where it is no plain list of names."""
        wanted = self.config.get("target_modules")
        if not isinstance(wanted, list) or any(self.config.get(k) for k in ("exclude_modules", "layers_to_transform")):
            return None
        matrices = [stem(name) for name, info in base.tensors.items() if len(info.shape) == 2]
        return {module for module in matrices for target in wanted if f".{module}".endswith(f".{target}")}

    def lost(self, base: Checkpoint) -> list[str]:
        """The modules that target_modules names and the file lacks. As in peft, they stay as they are in the base."""
        return sorted((self.named(base) or set()) - self.held - {stem(name) for name in self.whole})

    def check_tied(self, base: Checkpoint) -> None:
        """UserError where one of embedding and head changes, and whether the other follows is not known.

        With modules_to_save for the head each has a tensor of its own. Rows of tokens are those of both.
        """
        touched = {name for name in (EMBEDDING, HEAD) if self.parts.get(stem(name), {}).keys() - {TOKENS}}
        if touched or TOKENS in self.parts.get(stem(HEAD), {}) or (EMBEDDING in self.whole and HEAD not in self.whole):
            raise self.refuse(
                f"the adapter changes embedding or head, which are one tensor in {base.folder}, and peft's versions "
                f"differ on whether the other follows; {BY_PEFT}, by the version that it was trained with"
            )

    def replaced(self, base: Checkpoint) -> dict[str, TensorInfo]:
        """The tensors that the adapter holds whole. Embedding and head may have other rows than the base's."""
        found: dict[str, TensorInfo] = {}
        for name, info in self.whole.items():
            old = base.tensors.get(name) or (base.tensors.get(EMBEDDING) if name == HEAD else None)
            if old is None:
                raise self.misfit(f"there is no tensor {name}", base)
            free = name in (EMBEDDING, HEAD)
            if info.shape[free:] != old.shape[free:] or len(info.shape) != len(old.shape):
                raise self.misfit(f"{name} has the shape {list(info.shape)}, and {list(old.shape)}", base)
            tensor = AdaptedTensor(self.file, old.dtype, info.shape, info.start, info.stop, partial(as_stored, info))
            found[name] = tensor
        both = base.tied and {EMBEDDING, HEAD} <= found.keys()
        if both and equal(self.whole[EMBEDDING], self.whole[HEAD]):
            del found[HEAD]  # one tensor, stored twice
        return found

    def changed(
        self, module: str, parts: dict[str, TensorInfo], known: dict[str, TensorInfo], base: Checkpoint
    ) -> dict[str, TensorInfo]:
        """What becomes of the weight of a module, and of its bias. known: the base's tensors, some replaced."""
        weight, bias = known.get(f"{module}.weight"), known.get(f"{module}.bias")
        if weight is None or len(weight.shape) != 2:
            raise self.misfit(f"there is no matrix {module}.weight", base)
        if parts.keys() == {TOKENS}:
            return {f"{module}.weight": self.adapted(weight, self.of_tokens(module, weight, parts[TOKENS], base))}
        turned, shift = "lora_embedding_A" in parts, parts.get("lora_B.bias")
        names = {"lora_embedding_A", "lora_embedding_B"} if turned else {"lora_A", "lora_B"}
        dora = {"lora_magnitude_vector"} if self.config.get("use_dora") else set()
        if parts.keys() - {"lora_B.bias"} != names | dora or (turned and (dora or shift)):
            held = ", ".join(sorted(parts))
            raise UserError(f"{self.file}: of {module} it holds {held}, which are not LoRA's alone; {BY_PEFT}.")
        rank, scaling = self.rank_and_scaling(module)
        of_weight = partial(merged, weight, *self.factors(module, parts, weight, rank, base), scaling)
        found: dict[str, TensorInfo] = {f"{module}.weight": self.adapted(weight, of_weight)}
        if shift:
            if bias is None or bias.shape != shift.shape:
                raise self.misfit(f"lora_B of {module} has a bias that fits none", base)
            found[f"{module}.bias"] = self.adapted(bias, partial(shifted, bias, shift, scaling))
        return found

    def factors(
        self, module: str, parts: dict[str, TensorInfo], weight: TensorInfo, rank: float, base: Checkpoint
    ) -> tuple[TensorInfo, TensorInfo, bool, TensorInfo | None]:
        """Left and right factor, whether they are turned, and norms; UserError for shapes that do not fit."""
        turned, norms = "lora_embedding_A" in parts, parts.get("lora_magnitude_vector")
        left, right = (parts[n] for n in (("lora_embedding_A", "lora_embedding_B") if turned else ("lora_B", "lora_A")))
        shapes = [info.shape[::-1] if turned else info.shape for info in (left, right)]
        inner = [*shapes[0][1:], *shapes[1][:1]]
        if len(inner) == 2 and inner[0] == inner[1] != rank:
            raise self.unlike(f"has factors of rank {inner[0]} for {module}, and r is {rank:g}")
        if shapes != [(weight.shape[0], rank), (rank, weight.shape[1])]:
            sizes = f"{list(left.shape)} and {list(right.shape)}"
            raise self.misfit(f"the factors of {module} have the shapes {sizes}, and it {list(weight.shape)}", base)
        if norms is not None and norms.shape != weight.shape[:1]:
            raise self.misfit(f"lora_magnitude_vector of {module} has the shape {list(norms.shape)}", base)
        return left, right, turned, norms

    def rank_and_scaling(self, module: str) -> tuple[float, float]:
        """r and the factor of B A."""
        rank = self.setting("r", "rank_pattern", module)
        if rank < 1:
            raise self.refuse(f"r of {module} must be at least 1, not {rank:g}")
        alpha = self.setting("lora_alpha", "alpha_pattern", module)
        return rank, alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def of_tokens(self, module: str, weight: TensorInfo, rows: TensorInfo, base: Checkpoint) -> Callable[[], Rows]:
        """What computes an embedding or head of which some rows were trained."""
        given = self.config.get("trainable_token_indices")
        if isinstance(given, dict):
            given = next((ids for name, ids in given.items() if f".{module}".endswith(f".{name}")), None)
        ids = [i for i in given if type(i) is int and 0 <= i < weight.shape[0]] if isinstance(given, list) else []
        if not ids or ids != given or len({*ids}) != len(ids):
            raise self.refuse(f"trainable_token_indices must list distinct rows of {module} in {base.folder}")
        if rows.shape != (len(ids), weight.shape[1]):
            raise self.misfit(f"the trained rows of {module} have the shape {list(rows.shape)}", base)
        return partial(with_rows, weight, rows, ids)


def stem(name: str) -> str:
    """The module that a tensor belongs to."""
    return name.rpartition(".")[0]
