"""Token by token with transformers: rows whose response has ended leave the batch, so that they cost nothing more."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from acm.evaluation.growing import let_grow

LEAVING = 1 / 16  # share of a batch that has ended before it leaves: the cache is copied then


class StopStrings(StoppingCriteria):
    """Which responses hold a stop string. It is looked for in their last tokens, then in the whole response.

    stops: at least one. prompt: how many tokens of each row come before the response.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: list[str], prompt: int) -> None:
        self.tokenizer, self.stops, self.prompt = tokenizer, stops, prompt
        # Tokens. Nearly all have a byte or more; a stop string that is missed here costs time, and is found afterwards.
        self.tail = 1 + max(len(stop.encode()) for stop in stops)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """input_ids: (rows, tokens). Returns (rows,) bool."""
        ids = input_ids[:, self.prompt :]
        tails = ids[:, -self.tail :].tolist()
        found = [self.held(tail) and self.held(row.tolist()) for tail, row in zip(tails, ids, strict=True)]
        return torch.tensor(found, device=ids.device)

    def held(self, ids: list[int]) -> bool:
        """Whether the text of these tokens holds a stop string."""
        text = self.tokenizer.decode(ids)
        return any(stop in text for stop in self.stops)


def decode(
    model: Any, input_ids: torch.Tensor, logits_processor: Any, stopping_criteria: Any,
    generation_config: GenerationConfig, until: StopStrings | None = None, **inputs: Any,
) -> torch.Tensor:  # fmt: skip
    """The decoding loop that ``generate(custom_generate=decode, until=…)`` of transformers runs, greedy or sampling.

    input_ids: (rows, tokens) int64, padded on the left. logits_processor, stopping_criteria: lists of transformers.
    inputs: the model's other arguments, the cache among them.
    Returns (rows, tokens and more) int64: the rows in their order, padded on the right.
    """
    if until:
        stopping_criteria.append(until)
    if not can_leave(input_ids, inputs):
        found: torch.Tensor = model._sample(input_ids, logits_processor, stopping_criteria, generation_config, **inputs)
        return found
    let_grow(inputs["past_key_values"])
    pad = generation_config.pad_token_id
    whole = input_ids.new_full((len(input_ids), stopping_criteria.max_length), pad)
    places = torch.arange(len(input_ids), device=input_ids.device)  # in ``whole``, of the rows that are left
    ended = torch.zeros_like(places, dtype=torch.bool)
    ids, new = input_ids, None
    while len(ids):
        taken = model.prepare_inputs_for_generation(
            ids, next_sequence_length=new, is_first_iteration=new is None, **inputs
        )
        outputs, new = model(**taken, return_dict=True), 1
        inputs = model._update_model_kwargs_for_generation(outputs, inputs)
        scores = logits_processor(ids, outputs.logits[:, -1].float())
        chosen = torch.multinomial(scores.softmax(-1), 1)[:, 0] if generation_config.do_sample else scores.argmax(-1)
        ids = torch.cat([ids, chosen.where(~ended, pad)[:, None]], dim=1)
        ended |= stopping_criteria(ids, None)
        if ended.sum() >= LEAVING * len(ids):
            whole[places, : ids.shape[1]] = ids
            left = (~ended).nonzero()[:, 0]
            ids, places, ended = ids[left], places[left], ended[left]
            inputs |= {name: value[left] for name, value in inputs.items() if isinstance(value, torch.Tensor)}
            inputs["past_key_values"].batch_select_indices(left)
    return whole[:, : ids.shape[1]]


def can_leave(input_ids: torch.Tensor, inputs: dict[str, Any]) -> bool:
    """Whether a row can be taken out of all that the model is given.

    It cannot where a layer keeps a state instead of keys and values (state-space and hybrid models), nor where another
    tensor is not (rows, tokens).
    """
    cache = inputs.get("past_key_values")
    tensors = [value for value in inputs.values() if isinstance(value, torch.Tensor)]
    return (
        isinstance(cache, Cache)
        and all(isinstance(layer, DynamicLayer) for layer in cache.layers)
        and not any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)
        and all(value.shape == input_ids.shape for value in tensors)
    )
