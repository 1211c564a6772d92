"""The shapes of decoder models: layers, widths, heads, positions. Sizes in bytes and limits in tokens follow from them.

The shape of a model on disk is read from its config.json. The shapes of the paper's models stand in a table, so that
their sizes are known before the models are fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from acm.architectures import ROPE_THETA, meaning, rope
from acm.errors import UserError, unknown
from acm.reading import read_json

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """A decoder's shape as its config.json has it.

    tied: whether the head is the embedding. bias: on queries, keys and values. stored: bytes a parameter on the disk.
    positions: tokens that prompt and response can have together (None: not known). pickled: the hub has no safetensors
    of it.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False
    bias: bool = True
    stored: int = 2
    positions: int | None = None
    rope_theta: float = ROPE_THETA
    pickled: bool = False

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        kv = self.hidden // self.heads * self.kv_heads
        attention = 2 * self.hidden**2 + 2 * self.hidden * kv + self.bias * (self.hidden + 2 * kv)
        block = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * block + self.hidden + (1 if self.tied else 2) * self.vocabulary * self.hidden

    def cache(self, dtype: str) -> int:
        """Bytes of keys and values a token."""
        return 2 * self.layers * self.hidden // self.heads * self.kv_heads * BYTES[dtype]


LONG = 131072  # positions
QWEN_14B = Shape(48, 5120, 13824, 40, 8, 152064, positions=LONG, rope_theta=1e6)
QWEN_32B = Shape(64, 5120, 27648, 40, 8, 152064, positions=LONG, rope_theta=1e6)
SHAPES = {
    "Qwen/Qwen2.5-Math-1.5B": Shape(28, 1536, 8960, 12, 2, 151936, tied=True, positions=4096),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": Shape(28, 1536, 8960, 12, 2, 151936, positions=LONG),
    "Qwen/Qwen2.5-Math-7B": Shape(28, 3584, 18944, 28, 4, 152064, positions=4096),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Shape(28, 3584, 18944, 28, 4, 152064, positions=LONG),
    "Qwen/Qwen2.5-14B": QWEN_14B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": QWEN_14B,
    "Qwen/Qwen2.5-32B": QWEN_32B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": QWEN_32B,
    "meta-llama/Llama-2-7b-hf": Shape(32, 4096, 11008, 32, 32, 32000, bias=False, positions=4096),
    "TIGER-Lab/MAmmoTH-7B": Shape(32, 4096, 11008, 32, 32, 32001, bias=False, stored=4, pickled=True),
    "codellama/CodeLlama-7b-hf": Shape(32, 4096, 11008, 32, 32, 32016, bias=False, positions=16384, rope_theta=1e6),
}


def shape_of(model: str, folder: Path) -> Shape:
    """From the model's config.json where it is here, else from the table; UserError for a model that neither has."""
    if not (folder / "config.json").is_file():
        if model not in SHAPES:
            hint = unknown("model", model, SHAPES)
            raise UserError(f"the size of {model} is not known here; fetch it, or name a folder. {hint}")
        return SHAPES[model]
    config = meaning(read_json(folder / "config.json"))
    try:
        return Shape(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings")),
            bias=config.get("model_type") == "qwen2",
            stored=BYTES.get(config.get("dtype") or config.get("torch_dtype") or "float32", 4),
            positions=config.get("max_position_embeddings"),
            rope_theta=rope(config, "rope_theta"),
        )
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'} has no {error}, so the model's size cannot be computed.") from None


def merged_positions(shapes: list[Shape], paper: bool) -> int | None:
    """Positions of a merge; None: not known.

    They are the most of all models where the position codes agree, else the base's. shapes: the base's first.
    paper: the merge keeps the base's config.
    """
    if paper or len({shape.rope_theta for shape in shapes}) > 1:
        return shapes[0].positions
    known = [shape.positions for shape in shapes if shape.positions is not None]
    return max(known) if len(known) == len(shapes) else None
