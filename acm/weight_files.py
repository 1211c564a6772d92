"""Which files of a model folder hold its weights, and what their tensors are called, by the rules of transformers.

transformers reads the file that the config names, else ``model.safetensors``, else the shards of the index. It reads
every tensor of these files. Names that begin with the wrapper of a training tool it does not find: it would go on with
random numbers. Here such a beginning is taken off where all tensors share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acm.architectures import architecture
from acm.errors import UserError
from acm.headers import BUFFERS, TensorInfo, read_header
from acm.reading import read_json

INDEX = "model.safetensors.index.json"  # names the shard of each tensor, where a model has several shards
SINGLE = "model.safetensors"  # the file of weights, where there is one
ANCHOR = re.compile(r"(.*\.)?(?:embed_tokens|norm)\.weight")  # names that tell what a decoder's tensors begin with
DECODER = ("embed_tokens.", "layers.", "norm.")  # what a decoder holds, without its own name
ODD = re.compile(r"(?!model\.(?:embed_tokens|layers|norm)\.)(.+?\.)(?:model\.)?(?:embed_tokens|layers|norm|lm_head)\.")
WRAPPERS = re.compile(r"_orig_mod\.|_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.")
MULTIMODAL = (
    "is a multimodal model, and only language models can be merged; take the language model that it was made from."
)
FOREIGN = {  # parts of tensors' names → what a model with such tensors is, and what to do
    r"lora_|\.base_layer\.|modules_to_save|\.ia3_": (
        "holds the parts of an adapter that was not merged into the weights; merge it first: "
        "PeftModel.merge_and_unload, then save_pretrained."
    ),
    r"\.(qweight|qzeros|scales|g_idx|weight_scale\w*|weight_packed|input_scale|absmax|quant_map|SCB|weight_format)$"
    r"|\.(absmax|quant_state|quant_map)\.": (
        "is quantised, and only float32, bfloat16 and float16 can be merged; take the model as it was before."
    ),
    r"(^|\.)(visual|vision\w*|audio\w*|multi_modal\w*|mm_projector|image_newline|embed_(vision|audio))\.": (
        MULTIMODAL
    ),
    r"(^|\.)(score|classifier|classification_head|regression_head|reward_head|qa_outputs)\.": (
        "has the head of a classifier or reward model, and only language models can be merged."
    ),
    r"(^|\.)(v_head|value_head|value_model|critic)\.": (
        "has a value head, which reinforcement learning leaves behind; drop it: "
        "AutoModelForCausalLM.from_pretrained(folder).save_pretrained('without')."
    ),
}  # fmt: skip


@dataclass
class Weights:
    """What a folder's files hold.

    tensors: by standard name, without buffers. wrapper: what their names begin with, and transformers does not find.
    foreign: why they are not those of a language model, or not of one alone; empty: they are.
    beside: files of weights that are not read. stale: whether transformers' own older files are among them.
    """

    tensors: dict[str, TensorInfo]
    wrapper: str
    foreign: str
    beside: list[str]
    stale: bool


def read_weights(folder: Path, config: dict[str, Any]) -> Weights:
    """The tensors of a model folder, from headers alone; UserError for what does not add up."""
    chosen = weights_file(folder, config)
    shards = indexed(folder / chosen) if chosen.endswith(".json") else {chosen: []}
    found: dict[str, TensorInfo] = {}
    for name, expected in shards.items():
        held = read_header(folder / name)
        wanted = {tensor for tensor in expected if not tensor.endswith(BUFFERS)}
        if lacking := sorted(wanted - held.keys()):
            raise UserError(
                f"{folder / chosen} puts tensor {lacking[0]} into {name}, which lacks it; fetch both again."
            )
        if twice := sorted(held.keys() & found.keys()):
            other = found[twice[0]].file.name
            raise UserError(f"tensor {twice[0]} is in both {other} and {name} of {folder}; fetch the model again.")
        found |= held
    if not found:
        raise UserError(f"{folder} holds no tensors; fetch the model again.")
    foreign = foreign_parts(folder, found, config)
    tensors, wrapper = unwrapped(folder, found) if architecture(config) and not foreign else (found, "")
    beside = sorted(path.name for path in folder.glob("*.safetensors") if path.name not in shards)
    beside += [INDEX] if chosen != INDEX and (folder / INDEX).is_file() and not only_single(folder / INDEX) else []
    stale = any(name == INDEX or re.fullmatch(r"model-\d+-of-\d+\.safetensors", name) for name in beside)
    return Weights(tensors, wrapper, foreign, beside, stale)


def only_single(path: Path) -> bool:
    """Whether an index says no more than that all tensors are in the single file."""
    try:
        return indexed(path).keys() == {SINGLE}
    except UserError:
        return False


def weights_file(folder: Path, config: dict[str, Any]) -> str:
    """The name of the file that transformers begins with: one file of weights, or an index; UserError for none."""
    named = config.get("transformers_weights")
    if named is not None:
        if (
            not isinstance(named, str)
            or Path(named).name != named
            or not named.endswith((".safetensors", ".safetensors.index.json"))
        ):
            raise UserError(
                f"{folder / 'config.json'}: transformers_weights is {named!r}, no safetensors file of the folder."
            )
        return named
    for name in (SINGLE, INDEX):
        if (folder / name).is_file():
            return name
    if (folder / SINGLE).exists():
        return SINGLE  # no regular file: reading its header says so
    raise UserError(f"model folder {folder} has {instead(folder)}")


def instead(folder: Path) -> str:
    """What a folder has that holds no weights as transformers names them, and what to do."""
    names = sorted(path.name for path in folder.iterdir())

    def first(pattern: str) -> str:
        return next((name for name in names if re.fullmatch(pattern, name)), "")

    if name := first(r"adapter_model\..*"):
        return f"no safetensors of a model but {name}, an adapter's; fetch its adapter_config.json too."
    if name := first(r".*-\d+-of-\d+\.safetensors"):
        return f"shards such as {name} and no {INDEX}, which says what they hold; fetch that file too."
    if name := first(r"consolidated.*\.safetensors"):
        return (
            f"no safetensors but {name}, in its maker's own format; fetch what transformers reads: {SINGLE} or shards."
        )
    if (name := first(r".*\.safetensors")) and (folder / name).is_file():
        return f"no {SINGLE}, the name that transformers looks for; rename {name}, if it is the model."
    if name := first(r".*\.gguf"):
        return f"no safetensors but {name}, in the format of llama.cpp; fetch the model's safetensors."
    pickled = first(r".*\.(bin|pt|pth|ckpt)")
    found = f" {pickled} is a pickle, which can run code when it is read, so it is not." if pickled else ""
    return (
        f"no safetensors.{found} Convert it on a machine you trust it on: "
        f"AutoModelForCausalLM.from_pretrained({str(folder)!r}).save_pretrained('converted')."
    )


def indexed(path: Path) -> dict[str, list[str]]:
    """File name → the tensors that an index puts there."""
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{path} is not a readable index (no weight_map); fetch it again.")
    found: dict[str, list[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(
                f"{path} names the shard '{name}', which is not a safetensors file in its folder; put it there."
            )
        found.setdefault(name, []).append(tensor)
    return dict(sorted(found.items()))


def foreign_parts(folder: Path, names: Iterable[str], config: dict[str, Any]) -> str:
    """What a model of another kind is, known by its tensors' names or its config; empty for a language model."""
    for pattern, what in FOREIGN.items():
        if found := next((name for name in names if re.search(pattern, name)), None):
            return f"{folder} (tensor {found}) {what}"
    if "vision_config" in config or "audio_config" in config:
        return f"{folder} (its config) {MULTIMODAL}"
    return ""


def unwrapped(folder: Path, tensors: dict[str, TensorInfo]) -> tuple[dict[str, TensorInfo], str]:
    """The tensors of a known decoder by their standard names, and the beginning that was taken off.

    UserError where only some of the tensors have it.
    """
    anchors = filter(None, map(ANCHOR.fullmatch, tensors))
    home = min((match[1] or "" for match in anchors), key=len, default="model.")  # the wrapper, and "model." or nothing
    wrapper = home.removesuffix("model.") if re.search(r"(^|\.)model\.$", home) else home
    found: dict[str, TensorInfo] = {}
    for name, info in tensors.items():
        if not name.startswith(wrapper) and (home != wrapper or not name.startswith("lm_head.")):
            raise odd_name(folder, wrapper, name)  # only a head may stand beside a decoder without "model."
        rest = WRAPPERS.sub("", name.removeprefix(wrapper))
        rest = f"model.{rest}" if rest.startswith(DECODER) else rest
        if rest in found:
            raise UserError(f"{folder} holds {rest} twice, as {found[rest].key} and {name}; fetch the model again.")
        found[rest] = info
    if odd := next(filter(None, map(ODD.match, found)), None):
        raise odd_name(folder, odd[1], next(name for name in tensors if odd[1] not in name))
    if inner := next((match for name in tensors if (match := WRAPPERS.search(name, len(wrapper)))), None):
        if bare := [name for name in tensors if inner[0] not in name and (".layers." in name or not inner.start())]:
            raise odd_name(folder, inner[0], bare[0])
        wrapper = wrapper or inner[0]
    return found, "" if wrapper == "model." else wrapper  # transformers takes off its own name itself


def odd_name(folder: Path, wrapper: str, name: str) -> UserError:
    """The error for a tensor without the wrapper that others have."""
    return UserError(f"{folder}: '{wrapper}' is in the names of some tensors and not of {name}; save the model again.")
