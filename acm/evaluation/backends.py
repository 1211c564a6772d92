"""Backends of the evaluation: what they share, and the default one, transformers.

The requests of a run are cut into batches that are fixed from the full list of items; each whole batch can be kept on disk, so that an
interrupted run continues and gives the same bytes. A backend adds to a model class of lm-evaluation-harness what that does not keep:
token counts, raw text, truncation. `acm.evaluation.backends_vllm` and `acm.evaluation.backends_server` hold the other two.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import postprocess_generated_text
from tqdm import tqdm
from transformers import GenerationConfig

from acm.errors import UserError
from acm.evaluation.grading import THINK_OPEN
from acm.files import write_json

Row = dict[str, object]  # response, length, truncated


class Recording:
    """Mixed into a model class of lm-eval: ``rows`` keeps response, length and truncation of each (task, item, repeat).

    A backend supplies ``generate_rows(requests)``, one row for each request of a batch; all requests of a batch have the same settings.
    ``end_ids`` are the end tokens, ``facts`` what the records' setting says of the engine.
    """

    facts: dict[str, object] = {}  # noqa: RUF012 (never changed)

    def __init__(
        self, *args, batch_size: int = 64, keep: Path | None = None, seed: int = 0, repeat: int = 0, **kwargs
    ) -> None:
        super().__init__(*args, batch_size=batch_size, **kwargs)
        self.size, self.keep, self.seed, self.repeat = batch_size, keep, seed, repeat
        self.rows: dict[tuple[str, int, int], Row] = {}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts in the order of ``requests``; batches are cut from all of them, longest prompts first."""
        check_repeats(requests)
        self.check_room(requests)
        order = sorted(range(len(requests)), key=lambda i: (str(requests[i].args[1]), -len(requests[i].args[0]), i))
        groups = [list(group) for _, group in itertools.groupby(order, key=lambda i: str(requests[i].args[1]))]
        batches = [group[k : k + self.size] for group in groups for k in range(0, len(group), self.size)]
        found: dict[int, Row] = {}
        for batch in tqdm(batches, desc="generating", unit="batch", disable=disable_tqdm, mininterval=5):
            found |= dict(zip(batch, self.batch_rows([requests[i] for i in batch]), strict=True))
        self.rows |= {(request.task_name, request.doc_id, self.repeat): found[i] for i, request in enumerate(requests)}
        # lm-eval grades the text before a stop string; the record keeps the stop string too
        texts = [
            postprocess_generated_text(str(found[i]["response"]), stop_strings(request), None)
            for i, request in enumerate(requests)
        ]
        return [opened(str(request.args[0])) + text for request, text in zip(requests, texts, strict=True)]

    @property
    def positions(self) -> int | None:
        """How many tokens a prompt and its response may have together; None where a server sees to it."""
        return None

    def check_room(self, requests: list[Instance]) -> None:
        """UserError where a prompt does not fit beside a response of the cap's length: lm-eval would cut its beginning, without a word."""
        if self.positions is None:
            return
        tokens = [len(self.tok_encode(request.args[0])) for request in requests]
        caps = [request.args[1].get("max_gen_toks", self.max_gen_toks) for request in requests]
        if long := [k for k, (n, cap) in enumerate(zip(tokens, caps, strict=True)) if n + cap > self.positions]:
            worst = max(long, key=tokens.__getitem__)
            room = self.positions - tokens[worst]
            remedy = (
                f"Set max_tokens to at most {room}."
                if room > 0
                else "Choose a shorter prompt, or a model with more positions."
            )
            raise UserError(
                f"task '{requests[worst].task_name}': {len(long)} of {len(requests)} prompts do not fit beside a response of {caps[worst]} tokens "
                f"in the model's {self.positions} positions; the longest has {tokens[worst]} tokens. {remedy}"
            )

    def batch_rows(self, requests: list[Instance]) -> list[Row]:
        """The rows of one batch, from disk if it was finished before."""
        path = self.keep / f"{content_hash(requests)}.json" if self.keep else None
        if path and path.is_file():
            return json.loads(path.read_text())
        rows = self.generate_rows(requests)
        if path:
            write_json(path, rows, indent=None)
        return rows

    def random_state(self, *content: object) -> int:
        """A seed below 2³¹ for this content: the same in every process, another in every repeat."""
        return (
            int.from_bytes(
                hashlib.sha256(json.dumps([self.seed, self.repeat, *content], sort_keys=True).encode()).digest()[:4]
            )
            >> 1
        )

    def row(self, ids: list[int], stops: list[str]) -> Row:
        """Response and length: tokens up to the first end token (excluded) or the token that completes a stop string; else it was cut."""
        length = next((i for i, token in enumerate(ids) if token in self.end_ids), len(ids))
        ended = length < len(ids)
        if any(stop in self.full_text(ids[:length]) for stop in stops):
            ended, length = True, self.first_stop(ids[:length], stops)
        response = self.tokenizer.decode(ids[:length], skip_special_tokens=True)
        return {"response": response, "length": length, "truncated": not ended}

    def first_stop(self, ids: list[int], stops: list[str]) -> int:
        """The least number of tokens whose text holds a stop string."""
        return next(n for n in range(1, len(ids) + 1) if any(stop in self.full_text(ids[:n]) for stop in stops))

    def full_text(self, ids: list[int]) -> str:
        """Text with special tokens, which a stop string may name."""
        return self.tokenizer.decode(ids, skip_special_tokens=False)


class RecordingLM(Recording, HFLM):
    """transformers, by lm-eval's Hugging Face model; its batches are ours.

    Of the model's generation_config.json the special tokens alone count: what else it says of sampling, penalties and the number of new tokens
    (2048 in Qwen2.5's) would change the responses behind the setting's back.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        own = self.model.generation_config
        self.model.generation_config = GenerationConfig(
            bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
        )

    @property
    def end_ids(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        return {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}

    @property
    def positions(self) -> int:
        return self.max_length

    def generate_rows(self, requests: list[Instance]) -> list[Row]:
        """Generate one batch with lm-eval's own code, and count on the token ids that pass by."""
        torch.manual_seed(self.random_state(content_hash(requests)))
        self._contexts, self._outputs = [], []
        HFLM.generate_until(self, requests, disable_tqdm=True)
        by_context = defaultdict(list)
        for context, ids in zip(self._contexts, self._outputs, strict=True):
            by_context[context].append(self.row(ids, stop_strings(requests[0])))
        return [by_context[request.args[0]].pop(0) for request in requests]

    def tok_batch_encode(self, strings, *args, **kwargs):
        self._contexts.extend(strings)
        return super().tok_batch_encode(strings, *args, **kwargs)

    def _model_generate(self, context, *args, **kwargs):
        output = super()._model_generate(context, *args, **kwargs)
        self._outputs.extend(output[:, context.shape[1] :].tolist())
        return output


def check_repeats(requests: list[Instance]) -> None:
    """UserError for a task that asks for an item more than once: lm-eval would grade the first response alone."""
    (task, _), count = Counter((request.task_name, request.doc_id) for request in requests).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"task '{task}' asks for {count} repeats, of which only the first would be graded; "
            "set `repeats: 1` in its YAML and evaluate once for each `repeat` (0, 1, 2, …)."
        )


def content_hash(requests: list[Instance]) -> str:
    """Of the prompts and settings of a batch, in their order."""
    asked = [[request.args[0], request.args[1]] for request in requests]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:20]


def opened(prompt: str) -> str:
    """The opening of thinking where a prompt ends with it, as chat templates of reasoning models do; the response then only closes it."""
    return THINK_OPEN if prompt.rstrip().endswith(THINK_OPEN) else ""


def stop_strings(request: Instance) -> list[str]:
    """The stop strings of a request."""
    until = request.args[1].get("until") or []
    return [stop for stop in ([until] if isinstance(until, str) else until) if stop]
