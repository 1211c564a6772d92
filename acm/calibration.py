"""Calibration: texts → activations of both models → the table of mutual information.

    variable    paper   shape              meaning
    base        A_0^k   (tokens, d)        activations of layer k in the base model, one text
    finetuned   A_i^k   (tokens, d)        the same in a fine-tuned model

A layer's activations are the output of ``mlp.down_proj`` of its block, before the residual add; the embedding,
the final norm and ``lm_head`` count as layers too. Texts go one at a time, without padding, truncation or chat
template, through the base model's tokenizer, as in the paper's code. At most one text's activations are held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from acm.checkpoints import check_same_shape, check_weights, model_folder
from acm.errors import UserError
from acm.information import mutual_information
from acm.preflight import check_texts, read_texts

__all__ = ["CONTROLS", "calibrate", "read_texts", "select_texts"]

CONTROLS = ("none", "shuffled", "gaussian")


def select_texts(texts: list[str], clusters: int = 20, per_cluster: int = 5, seed: int = 54) -> list[str]:
    """A spread of texts: K-means on TF-IDF features, ``per_cluster`` drawn from each of ``clusters``.

    The paper clusters s1K into 20 and takes 5 of each, with an encoder that it does not name; TF-IDF needs no
    download. What a cluster with fewer members lacks is drawn from the rest. Seeded; the order is that of the input.
    """
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    if len(texts) <= clusters * per_cluster:
        return list(texts)
    features = TfidfVectorizer(token_pattern=r"(?u)\S+").fit_transform(texts)
    label = KMeans(clusters, random_state=seed, n_init=10).fit_predict(features)
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(label == c))[:per_cluster] for c in range(clusters)])
    rest = rng.permutation(np.setdiff1d(np.arange(len(texts)), chosen))[: clusters * per_cluster - len(chosen)]
    return [texts[i] for i in sorted([*chosen, *rest])]


def named_layers(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Layer name → the module whose output counts as its activations: embed, 0 … L−1, norm, lm_head."""
    try:
        decoder = model.model
        blocks = {str(i): block.mlp.down_proj for i, block in enumerate(decoder.layers)}
        return {"embed": decoder.embed_tokens, **blocks, "norm": decoder.norm, "lm_head": model.lm_head}
    except AttributeError as error:
        raise UserError(
            f"{type(model).__name__} lacks `{error.name}`; calibration knows decoders of the Qwen2 and Llama layout."
        ) from error


@torch.inference_mode()
def each_activation(model: PreTrainedModel, ids: torch.Tensor, see: Callable[[str, torch.Tensor], None]) -> None:
    """Run ``ids`` (1, tokens) through the model; ``see(layer, activations)`` gets (tokens, d), rounded to bf16."""
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: see(name, out[0].to(torch.bfloat16).cpu()))
        for name, module in named_layers(model).items()
    ]
    try:
        model(input_ids=ids.to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()


def controlled(control: str, base: torch.Tensor, other: torch.Tensor, key: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair of arrays (tokens, d) whose MI a control reports; random numbers are seeded by ``key``.

    ``none`` leaves them, ``shuffled`` permutes the tokens of the fine-tuned side, ``gaussian`` replaces both by
    independent standard normal numbers: any MI left over is bias of the estimate.
    """
    if control == "none":
        return base, other
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))
    if control == "shuffled":
        return base, other[torch.randperm(len(other), generator=generator)]
    return tuple(torch.randn(base.shape, generator=generator).to(torch.bfloat16) for _ in range(2))


def calibrate(base: str | Path, finetuned: dict[str, str | Path], texts: list[str], controls: tuple[str, ...] = CONTROLS,
              estimator: str = "plug-in", seed: int = 0, dtype: str = "float32", device: str = "cpu") -> pd.DataFrame:  # fmt: skip
    """The table of mutual information, in nats: one row per (finetuned, layer, sample, estimator, control).

    base, finetuned: model folders of one architecture and shape. texts: calibration texts, in full. dtype: of the models
    (the paper's run in bf16); activations are rounded to bf16 whatever it is.
    Source: Eq. 1 of arXiv 2505.14009 and its released code. Raises UserError for missing or unlike models,
    weights that are not finite, empty texts and unknown controls.
    """
    check_texts(texts, "the calibration set")
    if unknown_controls := set(controls) - set(CONTROLS):
        raise UserError(f"unknown control '{min(unknown_controls)}'. Known: {', '.join(CONTROLS)}.")
    base, folders = model_folder(base), {name: model_folder(path) for name, path in finetuned.items()}
    for folder in folders.values():
        check_same_shape(base, folder, vocabulary=False)
    for folder in (base, *folders.values()):
        check_weights(folder)
    base_model = load_model(base, dtype, device)
    models = {name: load_model(folder, dtype, device) for name, folder in folders.items()}
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    rows = []
    for sample, text in enumerate(tqdm(texts, desc="calibration", unit="text", mininterval=5)):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        for name, layer, control, value in sample_information(base_model, models, ids, controls, estimator, f"{seed}/{sample}"):
            rows.append((name, layer, sample, ids.shape[1], estimator, control, value))
    columns = ["finetuned", "layer", "sample", "tokens", "estimator", "control", "value"]
    return pd.DataFrame(rows, columns=columns)


def sample_information(base: PreTrainedModel, models: dict[str, PreTrainedModel], ids: torch.Tensor, controls: tuple[str, ...],
                       estimator: str, key: str) -> list[tuple[str, str, str, float]]:  # fmt: skip
    """MI of one text, (finetuned, layer, control, nats), computed while the fine-tuned models run."""
    held, found = {}, []
    each_activation(base, ids, held.__setitem__)
    for name, model in models.items():

        def see(layer: str, activations: torch.Tensor, name: str = name) -> None:
            x, y = held[layer], activations
            width = min(x.shape[-1], y.shape[-1])  # unlike vocabularies: the common rows of the head
            for control in controls:
                pair = controlled(control, x[:, :width], y[:, :width], f"{key}/{name}/{layer}/{control}")
                found.append((name, layer, control, mutual_information(*pair, estimator)))

        each_activation(model, ids, see)
    return found


def load_model(folder: Path, dtype: str, device: str = "cpu") -> PreTrainedModel:
    """A causal language model from safetensors alone, without remote code, for inference."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False)
    return model.eval().to(device)
