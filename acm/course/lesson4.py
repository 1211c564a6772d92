"""Checkers of lesson 4: from activations to λ."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from acm.calibration.coefficients import layer_coefficients
from acm.calibration.information import mutual_information
from acm.checkpoints import layer_of
from acm.course import Answer, exercise, need, need_kind, need_not, read, same


@exercise("4.1")
def texts_of_each_cluster(draw: Answer) -> str:
    cluster = np.array([0] * 9 + [1] * 2 + [2] * 14 + [3] * 5)[np.random.default_rng(0).permutation(30)]
    found = read(draw(cluster, 4, 1), "The draw", None)
    otherwise = f"Return one array of indices; yours has {found.ndim} axes: join the clusters' draws by np.concatenate."
    need(found.ndim == 1, otherwise)
    otherwise = "The draw holds numbers that are no index of a text: draw members, not positions within a cluster."
    need(np.isin(found, np.arange(30)).all(), otherwise)
    need(len(np.unique(found)) == len(found), "A text is drawn twice: draw without replacement.")
    sizes = np.bincount(cluster[found.astype(int)], minlength=4).tolist()
    need(sizes[1] == 2, f"The cluster of 2 texts should give both when 4 are asked for, and gives {sizes[1]}.")
    need(sizes == [4, 2, 4, 4], f"Of clusters with 9, 2, 14 and 5 texts, 4 of each asked for, yours gives {sizes}.")
    need((np.diff(found) > 0).all(), "The indices are right in number, but not in ascending order.")
    otherwise = "Two calls with one seed differ: make the generator from `seed` inside the function."
    need(np.array_equal(found, draw(cluster, 4, 1)), otherwise)
    otherwise = "Every seed gives the same draw: it is not random yet."
    need(any(not np.array_equal(found, draw(cluster, 4, seed)) for seed in range(2, 6)), otherwise)
    return "every cluster gives its share, and the seed decides which texts."


def small_model() -> Any:
    """A random model of three blocks, d = 16."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 64}
    heads = {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2}
    settings: dict[str, Any] = sizes | heads
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(Qwen2Config(**settings)).eval()


def outputs_of_parts(model: Any, ids: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """What parts of the blocks put out, each (tokens, d): down_proj, and what a learner may take for it."""
    found: dict[str, list[torch.Tensor]] = {"down_proj": [], "attention": [], "block": []}
    handles = []

    def record(part: torch.nn.Module, name: str) -> None:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            found[name].append(tensor.reshape(ids.shape[1], -1))

        handles.append(part.register_forward_hook(hook))

    for block in model.model.layers:
        for name, part in (("down_proj", block.mlp.down_proj), ("attention", block.self_attn), ("block", block)):
            record(part, name)
    with torch.no_grad():
        model(ids)
    for handle in handles:
        handle.remove()
    return found


@exercise("4.2")
def activations(outputs: Answer) -> str:
    model, ids = small_model(), torch.tensor([[3, 1, 4, 1, 5, 9, 2]])
    expected = outputs_of_parts(model, ids)
    found = outputs(model, ids)
    need_arrays(found)
    for name, what in (
        ("block", "what the whole block passes on, the residual stream included"),
        ("attention", "the output of the attention"),
    ):
        told = f"These are {what}: put the hook on `block.mlp.down_proj`."
        need(not torch.allclose(found[0], expected[name][0]), told)
    right = expected["down_proj"]
    order = "The blocks come in the wrong order: the first entry belongs to the first block."
    need(not torch.allclose(found[0], right[-1]), order)
    close = all(torch.allclose(a, b) for a, b in zip(found, right, strict=True))
    need(close, "The numbers are not those that down_proj puts out.")
    gradients = "The activations still carry gradients: run the model under `with torch.no_grad():`."
    need(not found[0].requires_grad, gradients)
    left = [block for block in model.model.layers if block.mlp.down_proj._forward_hooks or block._forward_hooks]
    hooks = "Hooks are left on the model: call `remove()` on every handle, or the next run fills the list again."
    need(not left, hooks)
    return "the activations of every block, and the model is as it was."


def need_arrays(found: Any) -> None:
    """NotYet unless this is a list of three tensors of shape (7, 16)."""
    need_kind(found, (list, tuple), "a list with an array for each block")
    need(len(found) == 3, f"The model has 3 blocks, and your list {len(found)} entries.")
    tensors = all(isinstance(x, torch.Tensor) for x in found)
    need(tensors, "Each entry of the list should be a tensor: keep the hook's `output`.")
    need(found[0].dim() != 3, "The activations have three axes: take `output[0]`, the one text of the batch.")
    shape = f"Each entry should have the shape (tokens, d) = (7, 16), and has {tuple(found[0].shape)}"
    need(found[0].shape == (7, 16), f"{shape}: is it the *output*?")


@exercise("4.3")
def table(information_table: Answer) -> str:
    rng = torch.Generator().manual_seed(0)
    base = [[torch.randn(tokens, 8, generator=rng) for _ in range(2)] for tokens in (20, 30, 45)]
    finetuned = [[x + (0.05 + k) * torch.randn(x.shape, generator=rng) for k, x in enumerate(text)] for text in base]

    def expected(dtype: torch.dtype, other: list) -> np.ndarray:
        values = [mutual_information(base[s][k].to(dtype), other[s][k].to(dtype)) for k in range(2) for s in range(3)]
        return np.reshape(values, (2, 3))

    found = read(information_table(base, finetuned), "The table", None)
    need(found.shape != (3, 2), "The table has the shape (texts, blocks): blocks are its rows, texts its columns.")
    need(found.shape == (2, 3), f"For 2 blocks and 3 texts the shape should be (2, 3), and is {found.shape}.")
    rounding = "These are logarithms of the number of entries: round both sides to torch.bfloat16 first."
    itself = "This is the MI of the base with itself: the second side is the fine-tuned model's."
    need_not(found, {rounding: expected(torch.float32, finetuned), itself: expected(torch.bfloat16, base)})
    otherwise = "The values differ from the plug-in MI of block k and text s: are blocks and texts paired rightly?"
    same(found, expected(torch.bfloat16, finetuned), "The table", otherwise)
    return "one row for each block, one column for each text."


@exercise("4.4")
def eq_2(lambdas: Answer) -> str:
    mi = np.random.default_rng(0).uniform(1, 6, size=(4, 5))
    shifts = {"layer": mi.max(axis=1, keepdims=True), "global": mi.max(), "none": np.zeros(())}
    for shift in shifts:
        need_eq_2(lambdas, mi, shift, shifts)
    otherwise = "λ is wrong at a negative t, which the paper uses for LLaMA."
    same(lambdas(mi, -1.8, "layer"), layer_coefficients(mi, -1.8, "layer"), "λ at t = −1.8", otherwise)
    return "all three readings."


def need_eq_2(lambdas: Answer, mi: np.ndarray, shift: str, shifts: dict[str, np.ndarray]) -> None:
    """NotYet unless λ at t = 0.7 is Eq. 2's for this shift. shifts: shift → what it subtracts from MI."""
    what = f"λ with shift '{shift}'"
    found = read(lambdas(mi, 0.7, shift), what, None)
    shape = (
        f"λ should have one entry for each of the 4 layers, and has the shape {found.shape}: take the mean over texts."
    )
    need(found.shape == (4,), shape)
    shifted = mi - shifts[shift]
    large = "This is σ, large where MI is large; Eq. 2 is 1 − σ, so that high MI gives a small λ."
    early = "You average the MI and then take σ: take σ of each text, then the mean."
    cold = "The temperature t has no effect: multiply what goes into σ by it."
    over_layers = "You subtract each text's maximum over layers: 'layer' means each layer's over texts."
    need_not(found, {
        large: expit(0.7 * shifted).mean(axis=1),
        early: 1 - expit(0.7 * shifted.mean(axis=1)),
        cold: 1 - expit(shifted).mean(axis=1),
    })  # fmt: skip
    if shift == "layer":
        need_not(found, {over_layers: 1 - expit(0.7 * (mi - mi.max(axis=0))).mean(axis=1)})
    for other, subtracted in shifts.items():
        if other != shift:
            told = f"shift='{shift}' gives what shift='{other}' should."
            need_not(found, {told: 1 - expit(0.7 * (mi - subtracted)).mean(axis=1)})
    same(found, layer_coefficients(mi, 0.7, shift), what, f"{what} is not what Eq. 2 gives.")


@exercise("4.5")
def controls(null_pairs: Answer) -> str:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=rng).to(torch.bfloat16)
    y = (x.float() + 0.1 * torch.randn(40, 6, generator=rng)).to(torch.bfloat16)
    kept = x.clone(), y.clone()
    pairs = null_pairs(x, y, torch.Generator().manual_seed(1))
    known = isinstance(pairs, dict) and set(pairs) == {"shuffled", "gaussian"}
    need(known, 'Return a dictionary with the keys "shuffled" and "gaussian".')
    untouched = all(torch.equal(now, then) for now, then in zip((x, y), kept, strict=True))
    need(untouched, "Your function changes x or y themselves: make new tensors.")
    for name, (left, right) in pairs.items():
        shape = f"Both sides of '{name}' should have the shape of x, {tuple(x.shape)}."
        need(left.shape == x.shape == right.shape, shape)
        dtype = f"Both sides of '{name}' should be bfloat16, as x is: the rounding makes the labels."
        need(left.dtype == x.dtype == right.dtype, dtype)
    left, right = pairs["shuffled"]
    need_shuffled(left, right, x, y)
    left, right = pairs["gaussian"]
    need_noise(left, right)
    again = null_pairs(x, y, torch.Generator().manual_seed(1))
    equal = all(torch.equal(a, b) for n in pairs for a, b in zip(pairs[n], again[n], strict=True))
    need(equal, "Two calls with equal generators differ: draw all numbers from `generator`.")
    return "one control breaks the pairing of tokens, the other knows nothing but the shape."


def need_shuffled(left: torch.Tensor, right: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> None:
    """NotYet unless the left side is x, and the right side is y with its rows in another order."""
    need(torch.equal(left, x), "Leave x as it is: if both sides are moved alike, the pairs stay and so does the MI.")
    need(not torch.equal(right, y), "y comes back in its old order: index it with a random permutation of its rows.")
    numbers = (sorted(side.float().flatten().tolist()) for side in (right, y))
    otherwise = "The shuffled side holds other numbers than y: only their order may change."
    need(len({tuple(n) for n in numbers}) == 1, otherwise)
    rows = (sorted(map(tuple, side.float().tolist())) for side in (right, y))
    single = "Single numbers were shuffled: move whole rows, so that each token keeps its numbers."
    need(len({tuple(r) for r in rows}) == 1, single)


def need_noise(left: torch.Tensor, right: torch.Tensor) -> None:
    """NotYet unless the sides are two draws of standard normal numbers."""
    told = "Both sides of 'gaussian' are the same noise, which shares everything: draw twice."
    need(not torch.equal(left, right), told)
    mean, deviation = float(left.float().mean()), float(left.float().std())
    normal = abs(mean) < 0.3 and 0.7 < deviation < 1.3
    need(normal, "The noise is not standard normal (mean 0, deviation 1): use torch.randn.")


@exercise("4.6")
def draws_of_texts(width_over_draws: Answer) -> str:
    rng = np.random.default_rng(0)
    mi = 5 + rng.normal(size=(3, 400)) * np.array([[0.05], [0.3], [1.0]])
    found = read(width_over_draws(mi, 50, 300, 0.7, 0), "The widths", (3,))
    made = np.random.default_rng(1)
    drawn = np.array([layer_coefficients(mi[:, made.choice(400, 50, replace=False)], 0.7) for _ in range(300)])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    expected, deviation, span = high - low, drawn.std(axis=0), np.ptp(drawn, axis=0)
    if not np.allclose(found, expected, rtol=0.25):
        one = "This is about the standard deviation: return the distance between the quantiles 0.025 and 0.975."
        need(not np.allclose(found, deviation, rtol=0.2), one)
        whole = "This is about the whole range: leave out the lowest and the highest 2.5 %."
        need(not np.allclose(found, span, rtol=0.15), whole)
        need((found > 1e-9).all(), "λ does not move at all: draw other texts each time.")
        ends = "These are ends of the interval, not its width: subtract the low one from the high one."
        need(not (found > 0.3).any(), ends)
        other = "The widths are not those of draws of `size` texts"
        need(False, f"{other}: is every draw of that size, and do all its texts come from the pool?")
    pool = read(width_over_draws(mi, 400, 20, 0.7, 0), "The widths", (3,))
    need((pool < 1e-12).all(), "Draws of the whole pool should all give the same λ: draw without replacement.")
    return "λ has an uncertainty of its own, before any model is evaluated."


NAMES = [
    "model.embed_tokens.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.11.self_attn.q_proj.bias",
    "model.norm.weight",
    "lm_head.weight",
]


@exercise("4.7")
def merge(merge_layers: Answer) -> str:
    rng = torch.Generator().manual_seed(0)
    base = {name: torch.randn(5, 4, generator=rng).to(torch.bfloat16) for name in NAMES}
    finetuned = {name: (x.float() + torch.randn(x.shape, generator=rng)).to(torch.bfloat16) for name, x in base.items()}
    coefficients = {"embed": 0.2, "0": 0.4, "11": 0.6, "norm": 0.8, "lm_head": 0.9}
    kept = copy.deepcopy((base, finetuned))
    merged = merge_layers(base, finetuned, coefficients)
    need_kind(merged, dict, "a dictionary of tensors")
    for mine, then in zip((base, finetuned), kept, strict=True):
        untouched = mine.keys() == then.keys() and all(torch.equal(mine[n], then[n]) for n in NAMES)
        need(untouched, "Your function changes its inputs: build a new dictionary.")
    lacking = [name for name in NAMES if name not in merged]
    need(not lacking, f"{lacking[:1]} is missing in the merge: every tensor has a layer, those outside the blocks too.")
    dtype = "The merged tensors should have the dtype of the base's, bfloat16 here."
    need(all(merged[n].dtype == torch.bfloat16 for n in NAMES), dtype)
    for name in NAMES:
        need_merged(
            name, base[name].float(), finetuned[name].float(), merged[name].float(), coefficients[layer_of(name)]
        )
    return "every tensor with the λ of its layer."


def need_merged(name: str, x: torch.Tensor, y: torch.Tensor, found: torch.Tensor, weight: float) -> None:
    """NotYet unless a tensor is x + λ (y − x), computed in float32 and rounded once. weight: λ."""
    turned = "λ weighs the wrong side: λ = 0 should give the base, λ = 1 the fine-tuned model."
    need(not torch.allclose(found, weight * x + (1 - weight) * y, atol=0.02), turned)
    alone = "This is the scaled task vector alone: add the base."
    need(not torch.allclose(found, weight * (y - x), atol=0.02), alone)
    right = (x + weight * (y - x)).to(torch.bfloat16).float()
    layer = f"{name} should be merged with the λ of layer '{layer_of(name)}', {weight}."
    need(torch.allclose(found, right, atol=0.05), layer)
    rounded = f"{name} is a rounding away from the right numbers: compute in float32 and round once, at the end."
    need(torch.equal(found, right), rounded)
