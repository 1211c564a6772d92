"""The vLLM backend, by lm-eval's own class; importing this module needs the package vllm."""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from lm_eval.api.instance import Instance
from lm_eval.models.utils import maybe_truncate
from lm_eval.models.vllm_causallms import VLLM
from vllm import SamplingParams

from acm.errors import UserError
from acm.evaluation.backends import Recording, Row, stop_strings
from acm.files import read_json

PROMPT = (
    2048  # tokens that a prompt has room for beside a response of the cap's length, where max_model_len is not given
)


class RecordingVLLM(Recording, VLLM):
    """vLLM; lengths and responses from the token ids of its outputs, by the definition of the default backend.

    folder: of the model. max_gen_toks: cap of a response, tokens. max_model_len: tokens of prompt and response together that vLLM keeps room
    for; None: those of the cap and PROMPT more, at most the model's positions (131072 of many, for which a GPU has no room). Other settings
    are those of lm-eval's class. UserError where a prompt does not fit.
    """

    def __init__(self, folder: Path, max_gen_toks: int, max_model_len: int | None = None, **settings) -> None:
        self.folder = folder
        room = max_model_len or model_length(folder, max_gen_toks)
        super().__init__(
            pretrained=str(folder), load_format="safetensors", max_gen_toks=max_gen_toks, max_model_len=room, **settings
        )
        self.facts = {"vllm": version("vllm")}

    @cached_property
    def end_ids(self) -> set[int]:
        """The tokenizer's, and those of the generation config or else of the config, at all of which vLLM stops."""
        path = self.folder / "generation_config.json"
        stated = read_json(path if path.is_file() else self.folder / "config.json").get("eos_token_id")
        return {self.tokenizer.eos_token_id, *(stated if isinstance(stated, list) else [stated])}

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

    def generate_rows(self, requests: list[Instance]) -> list[Row]:
        """The rows of a batch; vLLM schedules it by itself. When sampling, each request has its own random state."""
        contexts, parameters = [], []
        encoded = self.tok_encode([request.args[0] for request in requests])
        for request, ids in zip(requests, encoded, strict=True):
            asked = {"temperature": 0.0} | request.args[1]  # vLLM's own is 1, for tasks that say nothing
            settings, until, cap = self.modify_gen_kwargs(asked, self.tokenizer.eos_token, self.max_gen_toks)
            ids, cap = maybe_truncate(ids, max_gen_toks=cap, max_model_len=self.max_length, side=self.truncation_side)
            contexts.append(ids)
            parameters.append(
                SamplingParams(max_tokens=cap, stop=until, seed=self.random_state(*request.args), **settings)
            )
        outputs = [
            result.outputs[0] for result in self._model_generate(contexts, generate=True, sampling_params=parameters)
        ]
        return [
            self.row(list(output.token_ids), stop_strings(request)) | {"truncated": output.finish_reason == "length"}
            for request, output in zip(requests, outputs, strict=True)
        ]


def model_length(folder: Path, cap: int) -> int | None:
    """Tokens of prompt and response that suffice for a cap, at most the positions of the model's config; None where it states none."""
    positions = read_json(folder / "config.json").get("max_position_embeddings")
    return min(positions, cap + PROMPT) if positions else None
