"""What a config.json means: fields that are left out or spelt otherwise, and the tensors that the model must have.

For the architectures of the table, transformers is followed without its import, which takes seconds. Configs of other
architectures are taken as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
ROPE_THETA = 10000.0  # transformers' own, where a config names none
QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
NORMS = ("input_layernorm", "post_attention_layernorm")
FOUR_NORMS = (*NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")
SPLIT = {  # the matrices of a block: rows and columns, as :func:`sizes` names them
    "self_attn.q_proj": ("queries", "hidden"), "self_attn.k_proj": ("keys", "hidden"),
    "self_attn.v_proj": ("keys", "hidden"), "self_attn.o_proj": ("hidden", "queries"),
    "mlp.gate_proj": ("mlp", "hidden"), "mlp.up_proj": ("mlp", "hidden"), "mlp.down_proj": ("hidden", "mlp"),
}  # fmt: skip
FUSED = {
    "self_attn.qkv_proj": ("attention", "hidden"), "self_attn.o_proj": ("hidden", "queries"),
    "mlp.gate_up_proj": ("two_mlps", "hidden"), "mlp.down_proj": ("hidden", "mlp"),
}  # fmt: skip
MOST_LAYERS = 10_000  # a config that is not trusted could ask for any number
SAME_ACTIVATION = {"swish": "silu", "gelu_new": "gelu_pytorch_tanh", "gelu_fast": "gelu_pytorch_tanh"}
WHOLE = (  # fields that transformers takes as whole numbers alone
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size", "max_position_embeddings",
)  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """One model_type of transformers: the values of fields that a config leaves out, and the tensors of a block.

    kv_heads: None: as many as heads. head_dim: None: hidden over heads. tied: whether the head is the embedding.
    norms: of a block. q_norm: sizes of the norms of queries and of keys; None: it has none.
    biased: matrices that have a bias always. optional: fields of the config that give others one.
    fused: whether queries, keys and values are one matrix, as are gate and up.
    """

    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int | None
    vocabulary: int
    head_dim: int | None = None
    eps: float = 1e-6
    activation: str = "silu"
    tied: bool = False
    rope_theta: float = ROPE_THETA
    norms: tuple[str, ...] = NORMS
    q_norm: tuple[str, str] | None = None
    biased: tuple[str, ...] = ()
    optional: tuple[str, ...] = ("attention_bias",)
    fused: bool = False


GELU = "gelu_pytorch_tanh"
BOTH = ("attention_bias", "mlp_bias")
ARCHITECTURES = {
    "llama": Architecture(4096, 11008, 32, 32, None, 32000, optional=BOTH),
    "mistral": Architecture(4096, 14336, 32, 32, 8, 32000, optional=()),
    "qwen2": Architecture(4096, 22016, 32, 32, 32, 151936, biased=QKV, optional=()),
    "qwen3": Architecture(4096, 22016, 32, 32, 32, 151936, 128, q_norm=("head", "head")),
    "gemma": Architecture(3072, 24576, 28, 16, 16, 256000, 256, activation=GELU, tied=True),
    "gemma2": Architecture(2304, 9216, 26, 8, 4, 256000, 256, activation=GELU, tied=True, norms=FOUR_NORMS),
    "gemma3_text": Architecture(
        2304, 9216, 26, 8, 4, 262208, 256, activation=GELU, tied=True, norms=FOUR_NORMS, q_norm=("head", "head"),
        rope_theta=1e6,
    ),
    "phi3": Architecture(3072, 8192, 32, 32, None, 32064, eps=1e-5, fused=True, optional=()),
    "olmo2": Architecture(
        4096, 11008, 32, 32, None, 50304, eps=1e-5, q_norm=("queries", "keys"),
        norms=("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
    "granite": Architecture(4096, 11008, 32, 32, None, 32000, optional=BOTH),
    "smollm3": Architecture(2048, 11008, 36, 16, 4, 128256, tied=True, rope_theta=2e6, optional=BOTH),
}  # fmt: skip


def architecture(config: dict[str, Any]) -> Architecture | None:
    """The row of a config's model_type; None for one that the table lacks."""
    found = config.get("model_type")
    return ARCHITECTURES.get(found) if isinstance(found, str) else None


def meaning(config: dict[str, Any]) -> dict[str, Any]:
    """The config in one spelling. Two that mean the same model have the same fields here.

    Whole numbers are ints. Fields left out, or null, have the values that transformers gives them.
    """
    found = dict(config)
    for key in WHOLE:
        if isinstance(found.get(key), float) and found[key].is_integer():
            found[key] = int(found[key])
    if row := architecture(config):
        defaults = {
            "hidden_size": row.hidden, "intermediate_size": row.mlp, "num_hidden_layers": row.layers,
            "num_attention_heads": row.heads, "vocab_size": row.vocabulary, "rms_norm_eps": row.eps,
            "tie_word_embeddings": row.tied,
        }  # fmt: skip
        found |= {key: value for key, value in defaults.items() if found.get(key) is None}
        for key, value in (("num_key_value_heads", row.kv_heads), ("head_dim", row.head_dim)):
            found.setdefault(key, value)
        activation = found.pop("hidden_activation", None) if row.activation == GELU else None
        found["hidden_act"] = activation or found.get("hidden_act") or row.activation
        if row.activation == GELU and found["hidden_act"] == "gelu":  # as Gemma's first configs call it
            found["hidden_act"] = GELU
    heads, hidden = found.get("num_attention_heads"), found.get("hidden_size")
    if found.get("num_key_value_heads") is None:
        found["num_key_value_heads"] = heads
    if found.get("head_dim") is None and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
        found["head_dim"] = hidden // heads
    for key in ("hidden_act", "hidden_activation"):
        if isinstance(found.get(key), str):
            found[key] = SAME_ACTIVATION.get(found[key], found[key])
    return found


def rope(config: dict[str, Any], key: str) -> Any:
    """A field of the position codes, ``rope_theta`` or ``rope_scaling``, wherever and however it is written.

    Versions of transformers write rope_scaling beside rope_theta, or both in rope_parameters; ``type`` or
    ``rope_type``; null, or the default spelt out. Gemma 3 has codes of their own in its sliding layers.
    """
    row, local = architecture(config), config.get("rope_local_base_freq") or ROPE_THETA
    scaling = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    if isinstance(scaling.get("full_attention"), dict):
        local = (scaling.get("sliding_attention") or {}).get("rope_theta") or ROPE_THETA
        scaling = dict(scaling["full_attention"])
    theta = scaling.pop("rope_theta", None) or config.get("rope_theta") or (row.rope_theta if row else ROPE_THETA)
    if key == "rope_theta":
        return theta
    older = scaling.pop("type", None)  # the name of rope_type in older versions
    kind = scaling.setdefault("rope_type", older or "default")
    scaling = {name: value for name, value in scaling.items() if value is not None}
    if kind in ("yarn", "llama3", "longrope"):  # these count from the length before the extension
        before = config.get("original_max_position_embeddings") or config.get("max_position_embeddings")
        scaling.setdefault("original_max_position_embeddings", before)
    partial = scaling.pop("partial_rotary_factor", None) or config.get("partial_rotary_factor")
    plain = kind == "default" or (kind in ("linear", "dynamic") and scaling.get("factor") == 1)
    scaling = {"rope_type": "default"} if plain else scaling
    scaling |= {"partial_rotary_factor": partial} if partial not in (None, 1) else {}
    scaling |= {"rope_local_base_freq": local} if local != ROPE_THETA else {}
    return None if scaling == {"rope_type": "default"} else scaling


def ties_head(config: dict[str, Any]) -> bool | None:
    """Whether the config ties the head to the embedding; None where neither it nor the table says."""
    found = meaning(config).get("tie_word_embeddings")
    return found if isinstance(found, bool) else None


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Name → shape of every tensor that transformers finds in such a model; None for an architecture not in the table.

    The head is in it, tied or not. ValueError for sizes that are not whole numbers above 0.
    """
    row, found = architecture(config), meaning(config)
    if row is None:
        return None
    size = sizes(found)
    block = {f"{name}.weight": tuple(size[n] for n in shape) for name, shape in (FUSED if row.fused else SPLIT).items()}
    block |= {f"{name}.weight": (size["hidden"],) for name in row.norms}
    if row.q_norm:
        names = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
        block |= {name: (size[n],) for name, n in zip(names, row.q_norm, strict=True)}
    for name, (rows, _) in SPLIT.items():
        key = "mlp_bias" if name.startswith("mlp") else "attention_bias"
        if name in row.biased or (key in row.optional and found.get(key)):
            block[f"{name}.bias"] = (size[rows],)
    every = {f"model.layers.{i}.{name}": shape for i in range(size["layers"]) for name, shape in block.items()}
    vocabulary = (size["vocabulary"], size["hidden"])
    return {EMBEDDING: vocabulary, **every, "model.norm.weight": (size["hidden"],), HEAD: vocabulary}


def sizes(config: dict[str, Any]) -> dict[str, int]:
    """The sizes that shapes are made of. config: its :func:`meaning`. ValueError for one that is no whole number."""
    if isinstance(config.get("num_hidden_layers"), int) and config["num_hidden_layers"] > MOST_LAYERS:
        raise ValueError(f"num_hidden_layers is {config['num_hidden_layers']}, and at most {MOST_LAYERS} are read")
    for key in WHOLE[:-1]:
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{key} is {value!r}, not a whole number above 0")
    head, mlp = config["head_dim"], config["intermediate_size"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return {
        "hidden": config["hidden_size"], "mlp": mlp, "two_mlps": 2 * mlp, "head": head, "queries": queries,
        "keys": keys, "attention": queries + 2 * keys, "layers": config["num_hidden_layers"],
        "vocabulary": config["vocab_size"],
    }  # fmt: skip
