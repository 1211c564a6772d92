"""Checkers of lesson 1: task vectors and their arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from acm.checkpoints import layer_of
from acm.course import Answer, exercise, need, read, same

Weights = dict[str, torch.Tensor]
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (12, 4),
    "model.layers.0.mlp.gate_proj.weight": (6, 4),
    "model.layers.0.mlp.up_proj.weight": (6, 4),
    "model.layers.0.mlp.down_proj.weight": (4, 6),
    "model.norm.weight": (4,),
    "lm_head.weight": (12, 4),
}


def random_weights(seed: int, scale: float = 1.0) -> Weights:
    """Seeded normal numbers of unlike sizes under the names of a small model."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: scale * (1 + k) * torch.randn(shape, generator=generator)
        for k, (name, shape) in enumerate(SHAPES.items())
    }


def copied(weights: Weights) -> Weights:
    """A copy that shares no memory."""
    return {name: tensor.clone() for name, tensor in weights.items()}


def need_names(found: Any, expected: Mapping[str, Any], what: str) -> None:
    """NotYet unless ``found`` is a dictionary with these names."""
    need(found is not None, f"{what} is None: does your function end with `return`?")
    need(isinstance(found, Mapping), f"{what} should be a dictionary, and is of type {type(found).__name__}.")
    if lacking := [name for name in expected if name not in found]:
        need(False, f"{what} lacks {lacking[0]}.")
    need(len(found) == len(expected), f"{what} has {len(found)} entries, and should have {len(expected)}.")


NEW_TENSORS = ": make new tensors, and avoid `+=` and other changes in place."


def need_untouched(before: Weights, after: Weights, what: str, instead: str = NEW_TENSORS) -> None:
    """NotYet unless the weights are what they were. what: whose they are, in words; instead: the sentence's end."""
    otherwise = f"Your function changed {what}{instead}"
    need(all(torch.equal(before[name], after[name]) for name in before), otherwise)


@exercise("1.1")
def difference(task_vector: Answer) -> str:
    base, finetuned = ({k: v.bfloat16() for k, v in random_weights(seed).items()} for seed in (0, 1))
    inputs = copied(base), copied(finetuned)
    found = task_vector(*inputs)
    need_names(found, base, "The task vector")
    need_untouched(base, inputs[0], "the base")
    need_untouched(finetuned, inputs[1], "the fine-tuned model")
    for name in base:
        exact, value = finetuned[name].float() - base[name].float(), found[name]
        opposite = np.allclose(read(value, name, tuple(exact.shape)), -exact, atol=0.1)
        need(not opposite, "The sign is turned round: it is the fine-tuned model less the base.")
        same(value, exact, name, f"{name} is not finetuned − base.", atol=0.1)
        otherwise = f"{name} is {value.dtype}: convert the inputs to float32 before you subtract."
        need(value.dtype == torch.float32, otherwise)
        otherwise = "The digits are lost: the subtraction ran in bfloat16, so convert both sides to float32 first."
        same(value, exact, name, otherwise)
    return "the difference is exact, and the inputs are as they were."


@exercise("1.2")
def arithmetic(add: Answer) -> str:
    base, first, second = (random_weights(seed) for seed in range(3))
    inputs = [copied(w) for w in (base, first, second)]
    found = add(inputs[0], inputs[1:], [0.5, -2.0])
    need_names(found, base, "The merged model")
    need_untouched(base, inputs[0], "the base")
    need_untouched(first, inputs[1], "a task vector")
    last = "Only the last task vector is there: add the next to the sum, not to the base."
    divided = "The sum is divided by the number of models; it should not be."
    mistakes = {
        "The second task vector is missing.": {k: base[k] + 0.5 * first[k] for k in base},
        last: {k: base[k] - 2.0 * second[k] for k in base},
        "The base is missing: the sum starts with θ₀.": {k: 0.5 * first[k] - 2.0 * second[k] for k in base},
        "The coefficients are missing.": {k: base[k] + first[k] + second[k] for k in base},
        divided: {k: base[k] + (0.5 * first[k] - 2.0 * second[k]) / 2 for k in base},
    }
    for sentence, wrong in mistakes.items():
        need(not all(np.allclose(read(found[k], k, None), wrong[k]) for k in base), sentence)
    for name in base:
        otherwise = f"{name} is not θ₀ + 0.5 δ₁ − 2 δ₂."
        same(found[name], base[name] + 0.5 * first[name] - 2.0 * second[name], name, otherwise, atol=1e-4)
    return "θ₀ + Σ λᵢ δᵢ, for any number of vectors."


@exercise("1.3")
def good_and_short(shortest_good: Answer) -> str:
    coefficients, accuracy = np.array([0.6, 0.0, 0.9, 0.3, 0.8]), np.array([96.0, 40.0, 98.0, 90.0, 97.0])
    length = np.array([110.0, 30.0, 150.0, 61.0, 105.0])
    found = float(read(shortest_good(coefficients.copy(), accuracy.copy(), length.copy(), 3.0), "The coefficient"))
    need(found != 4, "You return the place in the array; the coefficient at that place is asked for.")
    need(found != 0.0, "You return the shortest of all, however wrong it is.")
    need(found != 105, "You return the length; the coefficient of that model is asked for.")
    otherwise = (
        "You return the most accurate; shorter ones are within the margin. If you did look for a shorter one: "
        "an index into the selected models is not one into all."
    )
    need(found != 0.9, otherwise)
    need(found != 0.6, "0.6 is the least coefficient within the margin; another one within it is shorter.")
    need(found == 0.8, f"{found:g} is not the shortest within 3 points of the best accuracy, 98 %.")
    low = shortest_good(np.array([0.2, 0.7]), np.array([40.0, 37.5]), np.array([100.0, 50.0]), 3.0)
    otherwise = "`margin` is in points: best − margin, not a share of the best."
    need(float(read(low, "The coefficient")) == 0.7, otherwise)
    edge = float(read(shortest_good(coefficients, accuracy, length, 8.0), "The coefficient"))
    need(edge == 0.3, "A model exactly `margin` points below the best is good enough too.")
    return "good enough, and no longer than it must be."


@exercise("1.4")
def norms_by_layer(relative_norms: Answer) -> str:
    base, vector = random_weights(0), random_weights(1, 0.1)
    found = relative_norms(copied(base), copied(vector))
    groups: dict[str, list[str]] = {}
    for name in base:
        groups.setdefault(layer_of(name), []).append(name)
    otherwise = 'The keys should be layers such as "0", not names of arrays.'
    need(not isinstance(found, Mapping) or not base.keys() & found.keys(), otherwise)
    need_names(found, groups, "The answer")
    parts = {
        layer: [(vector[n].norm().item(), base[n].norm().item()) for n in names] for layer, names in groups.items()
    }
    expected = {layer: np.sqrt(sum(d * d for d, _ in p) / sum(b * b for _, b in p)) for layer, p in parts.items()}
    block = float(read(found["0"], "The norm of layer 0"))
    mistakes = {
        "Layer 0 holds the mean of its arrays' ratios; join its arrays into one vector first.": np.mean(
            [d / b for d, b in parts["0"]]
        ),
        "Only the last array of the layer is there: add its squares to those before.": np.divide(*parts["0"][-1]),
        "Norms do not add: their squares do.": sum(d for d, _ in parts["0"]) / sum(b for _, b in parts["0"]),
        "Layer 0 is the norm of δ; divide by that of θ₀.": np.sqrt(sum(d * d for d, _ in parts["0"])),
        "These are the squared ratios; take the root at the end.": expected["0"] ** 2,
        "The ratio is upside down.": 1 / expected["0"],
    }
    for sentence, wrong in mistakes.items():
        need(not np.isclose(block, wrong), sentence)
    for layer, value in expected.items():
        otherwise = f"The value of layer {layer} is not ‖δ‖ / ‖θ₀‖ over all its arrays."
        same(found[layer], value, f"layer {layer}", otherwise)
    return "one ratio for each layer, from all of its numbers."


@exercise("1.5")
def cosine_of_vectors(cosine: Answer) -> str:
    first = random_weights(0)
    second = {name: 0.3 * first[name] + tensor for name, tensor in reversed(random_weights(1).items())}
    found = float(read(cosine(copied(first), copied(second)), "The cosine"))
    products = {name: (first[name] * second[name]).sum().item() for name in first}
    norms = [{name: w[name].norm().item() for name in first} for w in (first, second)]
    expected = sum(products.values()) / np.prod([np.sqrt(sum(n * n for n in norm.values())) for norm in norms])
    each = np.mean([products[n] / (norms[0][n] * norms[1][n]) for n in first])
    need(not np.isclose(found, sum(products.values())), "This is the inner product; divide by both norms.")
    squares = np.prod([sum(n * n for n in norm.values()) for norm in norms])
    otherwise = "The roots are missing: a norm is the root of a sum of squares."
    need(not np.isclose(found, sum(products.values()) / squares, atol=0), otherwise)
    otherwise = "This is the mean of the arrays' cosines; large and small arrays must not count alike."
    need(not np.isclose(found, each), otherwise)
    otherwise = "The cosine is wrong: pair arrays by name, sum products and squares over all arrays, then divide."
    same(found, expected, "the cosine", otherwise)
    opposite = float(read(cosine(first, {name: -2 * tensor for name, tensor in first.items()}), "The cosine"))
    same(opposite, -1.0, "the cosine", f"Opposite vectors have the cosine −1, and yours gives {opposite:.3f}.")
    return "one number for a million pairs of numbers."


def small_model() -> torch.nn.Module:
    """A seeded random model of two blocks with 24 neurons each."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 64}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    settings: dict[str, Any] = sizes | heads
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(Qwen2Config(**settings)).eval()
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.4)
    return model


def scores(model: torch.nn.Module, weights: Weights) -> torch.Tensor:
    """The model's logits with these weights on a fixed text."""
    model.load_state_dict(weights)
    with torch.no_grad():
        return model(torch.arange(20)[None]).logits


@exercise("1.6")
def reordered_neurons(reorder: Answer) -> str:
    model, order = small_model(), torch.randperm(24, generator=torch.Generator().manual_seed(1))
    weights = copied(model.state_dict())
    inputs = copied(weights)
    try:
        found = reorder(inputs, 1, order)
    except IndexError as error:  # 24 neurons, and down_proj has 16 rows
        need(
            "dimension 0 with size 16" not in str(error),
            "down_proj has its neurons in columns: reorder its second axis.",
        )
        raise
    need_names(found, weights, "The reordered model")
    instead = ". Start from `dict(weights)`, and replace entries of that."
    need_untouched(weights, inputs, "the weights that came in", instead)
    for name, tensor in weights.items():
        otherwise = f"{name} has the shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}."
        need(tuple(found[name].shape) == tuple(tensor.shape), otherwise)
        inside = name.startswith("model.layers.1.mlp.")
        otherwise = f"{name} changed, and does not belong to the MLP of the block asked for."
        need(inside or torch.equal(found[name], tensor), otherwise)
    gate, up, down = (f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
    need(not torch.equal(found[gate], weights[gate]), "The rows of gate_proj are in their old order.")
    otherwise = "The rows of up_proj are in their old order; gate and up belong to the same neurons."
    need(not torch.equal(found[up], weights[up]), otherwise)
    otherwise = "down_proj is in its old order, so each neuron's output goes through another neuron's column."
    need(not torch.equal(found[down], weights[down]), otherwise)
    change = (scores(model, found) - scores(model, weights)).abs().max().item()
    otherwise = f"The function changed (scores by up to {change:.2g}): rows and columns of a neuron must move together."
    need(change < 1e-3, otherwise)
    otherwise = (
        "The function is the same, but neuron i should be neuron order[i] of the input, not the other way round."
    )
    need(torch.equal(found[gate], weights[gate][order]), otherwise)
    return "other weights, the same function."


def shuffled_twin(weights: Weights, generator: torch.Generator) -> Weights:
    """The same model with the MLP neurons of every block in random order."""
    found = dict(weights)
    for name in weights:
        if name.endswith("mlp.down_proj.weight"):
            order = torch.randperm(weights[name].shape[1], generator=generator)
            found[name] = weights[name][:, order]
            for rows in (name.replace("down_proj", part) for part in ("gate_proj", "up_proj")):
                found[rows] = weights[rows][order]
    return found


@exercise("1.7")
def distance_from_the_mix(nonlinearity: Answer) -> str:
    generator = torch.Generator().manual_seed(0)
    first, second, merged = torch.randn((3, 5, 7), generator=generator)
    found = float(read(nonlinearity(first, second, merged, 0.25), "The answer"))
    off = {c: (merged - (1 - c) * first - c * second).norm().item() for c in (0.25, 0.5, 0.75)}
    ends = (second - first).norm().item()
    need(not np.isclose(found, off[0.5] / ends), "The mix takes both ends alike; weigh them by 1 − λ and λ.")
    need(not np.isclose(found, off[0.75] / ends), "λ = 0 must give `first`: the weights of the two ends are exchanged.")
    need(not np.isclose(found, off[0.25]), "This is the distance from the mix; divide it by the distance of the ends.")
    need(not np.isclose(found, (off[0.25] / ends) ** 2), "This is the squared ratio; use norms, not their squares.")
    same(found, off[0.25] / ends, "the answer", "The answer is not ‖merged − mix‖ / ‖second − first‖.", atol=1e-5)
    return "0 would be a straight line in the scores too."
