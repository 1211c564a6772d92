"""Keys and values that grow by steps: the same numbers as transformers' own cache, without its copies."""

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from acm.evaluation.growing import STEP, GrowingLayer, let_grow


def states(tokens, seed, rows=3):
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn((2, rows, 2, tokens, 4), generator=generator)
    return keys, values


@pytest.mark.parametrize("first", [1, 5, STEP, STEP + 1])
def test_it_holds_what_the_usual_layer_holds(first):
    ours, usual = GrowingLayer(), DynamicLayer()
    for step, tokens in enumerate([first, 1, 1, 300, *[1] * 700]):
        found, expected = (layer.update(*states(tokens, step)) for layer in (ours, usual))
        assert all(map(torch.equal, found, expected))
    assert ours.get_seq_length() == usual.get_seq_length() and ours.get_mask_sizes(1) == usual.get_mask_sizes(1)


def test_rows_leave_and_the_others_go_on():
    ours, usual, left = GrowingLayer(), DynamicLayer(), torch.tensor([0, 2])
    for layer in (ours, usual):
        layer.update(*states(4, 0))
        layer.batch_select_indices(left)
        layer.update(*states(1, 1, rows=2))
    assert torch.equal(ours.keys, usual.keys) and torch.equal(ours.values, usual.values)
    assert ours.room[0].shape[0] == 2  # the memory of those that left is free


def test_a_token_costs_no_copy_of_those_before_it():
    layer = GrowingLayer()
    layer.update(*states(10, 0))
    places = set()
    for step in range(STEP - 1):
        places.add(layer.update(*states(1, step))[0].data_ptr())
    assert len(places) == 1


def test_only_layers_that_would_be_copied_are_replaced():
    cache = DynamicCache()
    cache.layers = [DynamicLayer(), DynamicSlidingWindowLayer(sliding_window=8)]
    sliding = cache.layers[1]
    let_grow(cache)
    assert type(cache.layers[0]) is GrowingLayer and cache.layers[1] is sliding
    lazy = DynamicCache()
    let_grow(lazy)
    assert lazy.layer_class_to_replicate is GrowingLayer
