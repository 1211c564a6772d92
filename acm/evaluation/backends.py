"""Backends, which generate the responses: the code that all backends share, and the usual backend, transformers.

A backend extends a model class of lm-evaluation-harness. It adds what that class does not keep: token counts, raw text,
and whether the token cap cut a response. The requests of a run are split into batches. The split depends only on the
full list of items. Each finished batch can be kept on disk, so that an interrupted run continues and gives the same
bytes. The other backends are in ``backends_vllm.py`` and ``backends_server.py``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import postprocess_generated_text
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import GenerationConfig

from acm.errors import UserError
from acm.evaluation.decoding import StopStrings, decode
from acm.evaluation.settings import Engine, Sampling
from acm.evaluation.tensors import Tensor, checksum, misfit, not_finite, put
from acm.evaluation.thinking import opened
from acm.kept import read_kept, write_kept


class Response(TypedDict):
    """A generated response: its text, its length in tokens, and whether the cap cut it."""

    response: str
    length: int
    truncated: bool


class Recording(TemplateLM):
    """What every backend shares. It comes before a model class of lm-evaluation-harness among a backend's bases.

    ``responses`` keeps the response to each (task, item, repeat). ``facts`` is what the setting of the records says of
    the engine. A backend supplies ``generate_batch``, and ``end_ids`` where it counts tokens itself.
    batch_size: items. keep: folder for finished batches. seed and repeat: of the random states. ``key`` is what decides
    the responses beside their requests.
    """

    facts: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    end_ids: set[int]  # the end tokens
    turn = 0  # how many models it has taken

    def __init__(
        self, *args: Any, batch_size: int = Engine.batch_size, keep: Path | None = None,
        seed: int = Sampling.seed, repeat: int = Sampling.repeat, **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, batch_size=batch_size, **settings)
        self.size, self.keep, self.seed, self.repeat = batch_size, keep, seed, repeat
        self.key: dict[str, Any] = {}
        self.responses: dict[tuple[str, int, int], Response] = {}

    @abstractmethod
    def generate_batch(self, requests: list[Instance]) -> list[Response]:
        """The responses to one batch. All its requests have the same settings."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts in the order of ``requests``. Batches are cut from all of them, the longest prompts first."""
        check_repeats(requests)
        self.check_room(requests)
        order = sorted(range(len(requests)), key=lambda i: (str(requests[i].args[1]), -len(requests[i].args[0]), i))
        groups = [list(group) for _, group in itertools.groupby(order, key=lambda i: str(requests[i].args[1]))]
        batches = [group[k : k + self.size] for group in groups for k in range(0, len(group), self.size)]
        found: dict[int, Response] = {}
        with logging_redirect_tqdm():  # a note on a kept batch gets a line of its own
            for batch in tqdm(batches, desc="generating", unit="batch", disable=disable_tqdm, mininterval=5):
                found |= dict(zip(batch, self.kept_batch([requests[i] for i in batch]), strict=True))
        for i, request in enumerate(requests):
            self.responses[request.task_name, request.doc_id, self.repeat] = found[i]
        # lm-evaluation-harness grades the text before a stop string. The record keeps the stop string too.
        texts = [
            postprocess_generated_text(found[i]["response"], stop_strings(request), None)
            for i, request in enumerate(requests)
        ]
        return [opened(str(request.args[0])) + text for request, text in zip(requests, texts, strict=True)]

    def misfit(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """What keeps the engine from taking tensors of these names and shapes, in words; empty if nothing does."""
        return f"{type(self).__name__} takes no tensors"

    def take(self, tensors: Iterable[Tensor], name: str) -> None:
        """Take the tensors of a model of this name in place of those that are loaded. UserError for misfits."""
        raise UserError(f"{self.misfit({})}; give a model's folder.")

    def close(self) -> None:
        """Give back what outlives this object, such as an engine in a process of its own."""

    @property
    def positions(self) -> int | None:
        """How many tokens a prompt and its response may have together. None: a server sees to it."""
        return None

    def check_room(self, requests: list[Instance]) -> None:
        """UserError where a prompt does not fit beside a response of the cap's length.

        lm-evaluation-harness would cut the beginning of such a prompt, without a word.
        """
        if self.positions is None:
            return
        tokens = [len(self.tok_encode(request.args[0])) for request in requests]
        caps = [request.args[1].get("max_gen_toks", self.max_gen_toks) for request in requests]
        if long := [k for k, (n, cap) in enumerate(zip(tokens, caps, strict=True)) if n + cap > self.positions]:
            worst = max(long, key=tokens.__getitem__)
            room = self.positions - tokens[worst]
            shorter = "Choose a shorter prompt, or a model with more positions."
            remedy = f"Set max_tokens to at most {room}." if room > 0 else shorter
            raise UserError(
                f"task '{requests[worst].task_name}': {len(long)} of {len(requests)} prompts do not fit beside a "
                f"response of {caps[worst]} tokens in the model's {self.positions} positions; "
                f"the longest has {tokens[worst]} tokens. {remedy}"
            )

    def kept_batch(self, requests: list[Instance]) -> list[Response]:
        """The responses to one batch, from disk where they were kept before."""
        if not self.keep:
            return self.generate_batch(requests)
        name = content_hash(requests)
        path, key = self.keep / f"{name}.json", self.key | {"requests": name}
        found: list[Response] | None = read_kept(path, key, lambda rows: are_responses(rows, len(requests)))
        if found is None:
            found = self.generate_batch(requests)
            write_kept(path, key, found)
        return found

    def random_state(self, *content: object) -> int:
        """A seed below 2³¹ for this content: the same in every process, another in every repeat."""
        text = json.dumps([self.seed, self.repeat, *content], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1

    def counted(self, ids: list[int], stops: list[str]) -> Response:
        """The response of generated token ids.

        Its length is the number of tokens up to the first end token, which is excluded, or up to and with the token
        that completes a stop string. Without either, the cap cut it.
        """
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
    """transformers, by the Hugging Face class of lm-evaluation-harness. The batches are ours.

    Of the model's ``generation_config.json`` only the special tokens count. The rest of it would change responses
    without a trace in the setting: sampling, penalties, and the number of new tokens (2048 in Qwen2.5's).
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        own = self.model.generation_config
        ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        self.end_ids = {self.tokenizer.eos_token_id, *ends} - {None}
        self.model.generation_config = GenerationConfig(
            bos_token_id=own.bos_token_id, eos_token_id=sorted(self.end_ids), pad_token_id=own.pad_token_id
        )
        self.look_through(self.tokenizer.name_or_path)
        if self.prefix_token_id is None:
            raise UserError(
                f"the tokenizer of {self.tokenizer.name_or_path} has no end token; name one (eos_token in "
                "tokenizer_config.json)."
            )
        self.contexts: list[str] = []  # of the batch that is generated, in the order of lm-evaluation-harness
        self.outputs: list[list[int]] = []
        self.stops: list[str] = []

    def look_through(self, name: str) -> None:
        """Note what is loaded. UserError for numbers that are none. name: of the model."""
        if odd := not_finite(self.model):
            raise UserError(
                f"tensor {odd} of {name} has NaN or infinite values in {self.model.dtype}; "
                "fetch or train it again, or choose another --dtype."
            )
        self.facts = {"weights": checksum(self.model)}

    def misfit(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        return misfit(self.model, shapes)

    def take(self, tensors: Iterable[Tensor], name: str) -> None:
        put(self.model, tensors)
        self.look_through(name)

    def close(self) -> None:
        """Forget the model, so that its memory is free although a handle is still about."""
        self._model = None

    @property
    def positions(self) -> int:
        return self.max_length

    def generate_batch(self, requests: list[Instance]) -> list[Response]:
        """Generate a batch by the code of lm-evaluation-harness, and count on the token ids that pass by."""
        torch.manual_seed(self.random_state(content_hash(requests)))
        self.contexts, self.outputs, self.stops = [], [], stop_strings(requests[0])
        HFLM.generate_until(self, requests, disable_tqdm=True)
        by_context: dict[str, list[Response]] = defaultdict(list)
        for context, ids in zip(self.contexts, self.outputs, strict=True):
            by_context[context].append(self.counted(ids, self.stops))
        return [by_context[request.args[0]].pop(0) for request in requests]

    def tok_batch_encode(self, strings: list[str], *args: Any, **settings: Any) -> Any:
        """As in the class above; notes the prompts of the batch."""
        self.contexts.extend(strings)
        return super().tok_batch_encode(strings, *args, **settings)

    def _model_generate(self, context: torch.Tensor, *args: Any, **settings: Any) -> torch.Tensor:
        """By our decoding loop, unless a task asks for beams; notes the generated token ids."""
        if settings.get("num_beams", 1) == 1:
            until = StopStrings(self.tokenizer, self.stops, context.shape[1]) if self.stops else None
            settings |= {"stop": [], "custom_generate": decode, "until": until}
        output: torch.Tensor = super()._model_generate(context, *args, **settings)
        self.outputs.extend(output[:, context.shape[1] :].tolist())
        return output


def check_repeats(requests: list[Instance]) -> None:
    """UserError for a task that asks for an item more than once.

    lm-evaluation-harness would grade the first response alone.
    """
    (task, _), count = Counter((request.task_name, request.doc_id) for request in requests).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"task '{task}' asks for {count} repeats, of which only the first would be graded; "
            "set `repeats: 1` in its YAML and evaluate once for each `repeat` (0, 1, 2, …)."
        )


def content_hash(requests: list[Instance]) -> str:
    """Hash of the prompts and settings of a batch, in their order."""
    content = [[request.args[0], request.args[1]] for request in requests]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def are_responses(rows: list[Any], count: int) -> bool:
    """Whether these are as many responses, each with a text, a length and whether it was cut."""
    return len(rows) == count and all(map(is_response, rows))


def is_response(row: Any) -> bool:
    """Whether this is a :class:`Response`."""
    kinds = {name: type(value) for name, value in row.items()} if isinstance(row, dict) else {}
    return kinds == {"response": str, "length": int, "truncated": bool} and row["length"] >= 0


def stop_strings(request: Instance) -> list[str]:
    """The stop strings of a request."""
    until = request.args[1].get("until") or []
    return [stop for stop in ([until] if isinstance(until, str) else until) if stop]
