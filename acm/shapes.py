"""The shapes of decoder models: layers, widths, heads, positions. Sizes in bytes and limits in tokens follow from them.

The shape of a model on disk is read from its config.json. The shapes of the profiles' models stand in a table, so that
their sizes are known before the models are fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    of it. head: entries of a head; None: hidden over heads. normed: whether queries and keys have a norm of that size.
    scaled: what stretches the position codes, if anything does.
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
    head: int | None = None
    normed: bool = False
    scaled: str | None = None

    @property
    def width(self) -> int:
        """Entries of a head."""
        return self.head or self.hidden // self.heads

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        queries, keys = self.width * self.heads, self.width * self.kv_heads
        attention = 2 * self.hidden * (queries + keys) + self.bias * (queries + 2 * keys) + self.normed * 2 * self.width
        block = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * block + self.hidden + (1 if self.tied else 2) * self.vocabulary * self.hidden

    def cache(self, dtype: str) -> int:
        """Bytes of keys and values a token."""
        return 2 * self.layers * self.width * self.kv_heads * BYTES[dtype]


LONG = 131072  # positions
QWEN_14B = Shape(48, 5120, 13824, 40, 8, 152064, positions=LONG, rope_theta=1e6)
QWEN_32B = Shape(64, 5120, 27648, 40, 8, 152064, positions=LONG, rope_theta=1e6)
# From copies of the models' config.json in public repositories. No copy was seen of these, so they are guesses:
# positions and rope_theta of the two Qwen3 bases, positions of Qwen2.5-32B-Instruct, SmolLM2-360M, SmolLM3-3B-Base.
QWEN3_4B = Shape(36, 2560, 9728, 32, 8, 151936, True, False, positions=32768, rope_theta=1e6, head=128, normed=True)
QWEN3_4B_2507 = replace(QWEN3_4B, positions=262144, rope_theta=5e6)
QWEN3_8B = replace(QWEN3_4B, hidden=4096, intermediate=12288, tied=False)
SMOLLM2_1 = Shape(30, 576, 1536, 9, 3, 49152, True, False, positions=8192, rope_theta=1e5)
SMOLLM2_3 = replace(SMOLLM2_1, layers=32, hidden=960, intermediate=2560, heads=15, kv_heads=5)
SMOLLM2_17 = Shape(24, 2048, 8192, 32, 32, 49152, True, False, positions=8192, rope_theta=1.3e5)
SMOLLM3 = Shape(36, 2048, 11008, 16, 4, 128256, True, False, positions=65536, rope_theta=5e6)
SHAPES = {
    "Qwen/Qwen2.5-Math-1.5B": Shape(28, 1536, 8960, 12, 2, 151936, tied=True, positions=4096),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": Shape(28, 1536, 8960, 12, 2, 151936, positions=LONG),
    "Qwen/Qwen2.5-Math-7B": Shape(28, 3584, 18944, 28, 4, 152064, positions=4096),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Shape(28, 3584, 18944, 28, 4, 152064, positions=LONG),
    "Qwen/Qwen2.5-14B": QWEN_14B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": QWEN_14B,
    "Qwen/Qwen2.5-32B": QWEN_32B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": QWEN_32B,
    "Qwen/Qwen2.5-32B-Instruct": replace(QWEN_32B, positions=32768),
    "Qwen/Qwen3-4B-Base": QWEN3_4B,
    "Qwen/Qwen3-4B-Instruct-2507": QWEN3_4B_2507,
    "Qwen/Qwen3-4B-Thinking-2507": QWEN3_4B_2507,
    "Qwen/Qwen3-8B-Base": QWEN3_8B,
    "Qwen/Qwen3-8B": replace(QWEN3_8B, positions=40960),
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B": replace(QWEN3_8B, positions=LONG, scaled="yarn"),
    "HuggingFaceTB/SmolLM2-135M": SMOLLM2_1,
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM2_1,
    "HuggingFaceTB/SmolLM2-360M": SMOLLM2_3,
    "HuggingFaceTB/SmolLM2-360M-Instruct": SMOLLM2_3,
    "HuggingFaceTB/SmolLM2-1.7B": SMOLLM2_17,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": SMOLLM2_17,
    "HuggingFaceTB/SmolLM3-3B-Base": SMOLLM3,
    "HuggingFaceTB/SmolLM3-3B": SMOLLM3,
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
            head=config["head_dim"],
            normed=config.get("model_type") == "qwen3",
            scaled=(rope(config, "rope_scaling") or {}).get("rope_type"),
        )
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'} has no {error}, so the model's size cannot be computed.") from None


def merged_positions(shapes: list[Shape], paper: bool) -> int | None:
    """Positions of a merge; None: not known.

    They are the most of all models where the position codes agree, else the base's. shapes: the base's first.
    paper: the merge keeps the base's config.
    """
    if paper or len({(shape.rope_theta, shape.scaled) for shape in shapes}) > 1:
        return shapes[0].positions
    known = [shape.positions for shape in shapes if shape.positions is not None]
    return max(known) if len(known) == len(shapes) else None
