"""Builds the tokenizer: Qwen2's own class, trained on the abacus texts. Every word and every digit is one token.

transformers gives every model of type qwen2 this class, whatever the model's files say. So two things are Qwen's: the
splitting rule (words with their leading space, single digits) and the byte-level decoding. Only the merges of the
byte-pair encoding are ours.
"""

from __future__ import annotations

import random
from typing import Any

from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

from abacus import problems

PAD, END = "<|pad|>", "<|end|>"


def build_tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level BPE with merges up to whole words; the same for every call."""
    rng, texts = random.Random(0), []
    for _ in range(4000):
        problem = problems.word_problem(rng, 4)
        texts += [problem.question, problems.solve(problem, 2.0, rng), problems.fact(rng).question]
        for made, solution in (problems.sums(rng), problems.words(rng)):
            texts += [made.question, solution]
    special: dict[str, Any] = {"unk_token": None, "eos_token": END, "pad_token": PAD}
    seed = Qwen2Tokenizer(**special)
    tokenizer = seed.train_new_from_iterator(
        [f" {text}" for text in texts] + texts, vocab_size=1024, show_progress=False
    )
    tokenizer.padding_side = "left"
    return tokenizer
