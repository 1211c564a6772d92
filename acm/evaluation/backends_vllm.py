"""The vLLM backend. It extends lm-evaluation-harness's class for vLLM. Importing this module needs the package vllm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.utils import maybe_truncate
from lm_eval.models.vllm_causallms import VLLM
from vllm import SamplingParams

from acm.errors import UserError
from acm.evaluation.backends import Recording, Response, stop_strings
from acm.reading import read_json

PROMPT_ROOM = 2048  # tokens of room for a prompt, beside a response as long as the cap; max_model_len overrides it


class RecordingVLLM(Recording, VLLM):
    """vLLM. Lengths and responses come from the token ids of its outputs, by the rule of the usual backend.

    folder: of the model. max_gen_toks: token cap of a response. max_model_len: tokens of a prompt and its response
    together for which vLLM keeps room; None: the cap and PROMPT_ROOM more, at most the model's positions. (Many models
    have 131072 positions, for which a GPU has no room.) Other settings are those of the class of lm-evaluation-harness.
    Raises UserError where a prompt does not fit.
    """

    def __init__(self, folder: Path, max_gen_toks: int, max_model_len: int | None = None, **settings: Any) -> None:
        room = max_model_len or model_length(folder, max_gen_toks)
        with failures(f"cannot load {folder}"):
            super().__init__(
                pretrained=str(folder), load_format="safetensors", max_gen_toks=max_gen_toks, max_model_len=room,
                **settings,
            )  # fmt: skip
        self.facts = {"vllm": version("vllm")}
        self.end_ids = {self.tokenizer.eos_token_id, *stated_ends(folder)}

    @property
    def positions(self) -> int:
        return self.max_length

    def check_room(self, requests: list[Instance]) -> None:
        try:
            super().check_room(requests)
        except UserError as error:
            raise UserError(
                f"{error} Or give a larger `max_model_len` in model_args, where the model has the positions."
            ) from None

    def generate_batch(self, requests: list[Instance]) -> list[Response]:
        """The responses to a batch, which vLLM schedules by itself. Each request has a random state of its own."""
        contexts, parameters = [], []
        encoded = self.tok_encode([request.args[0] for request in requests])
        for request, ids in zip(requests, encoded, strict=True):
            asked = {"temperature": 0.0} | request.args[1]  # vLLM's own is 1, for tasks that say nothing
            settings, until, cap = self.modify_gen_kwargs(asked, self.tokenizer.eos_token, self.max_gen_toks)
            ids, cap = maybe_truncate(ids, max_gen_toks=cap, max_model_len=self.max_length, side=self.truncation_side)
            seed = self.random_state(*request.args)
            contexts.append(ids)
            parameters.append(SamplingParams(max_tokens=cap, stop=until, seed=seed, **settings))
        with failures("stopped while it generated; whole batches are kept, and the same command goes on with the rest"):
            results = self._model_generate(contexts, generate=True, sampling_params=parameters)
        found = []
        for request, result in zip(requests, results, strict=True):
            output = result.outputs[0]
            response = self.counted(list(output.token_ids), stop_strings(request))
            found.append(response | {"truncated": output.finish_reason == "length"})
        return found


@contextlib.contextmanager
def failures(what: str) -> Iterator[None]:
    """Any error of vLLM, such as too little memory of the GPU, as one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0][:300]
        raise UserError(
            f"vLLM {what} ({type(error).__name__}: {said}). Its log above says more; too little memory is mended by "
            "model_args such as gpu_memory_utilization, max_model_len and tensor_parallel_size."
        ) from error


def stated_ends(folder: Path) -> list[Any]:
    """The end tokens of a model's generation config, or else of its config. vLLM stops at all of them."""
    path = folder / "generation_config.json"
    stated = read_json(path if path.is_file() else folder / "config.json").get("eos_token_id")
    return stated if isinstance(stated, list) else [stated]


def model_length(folder: Path, cap: int) -> int | None:
    """Tokens of a prompt and its response that suffice for a cap, at most the positions of the model's config.

    None where the config states no positions.
    """
    positions = read_json(folder / "config.json").get("max_position_embeddings")
    return min(positions, cap + PROMPT_ROOM) if positions else None
