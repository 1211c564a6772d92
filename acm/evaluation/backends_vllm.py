"""The vLLM backend. It extends lm-evaluation-harness's class for vLLM. Importing this module needs the package vllm."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xxhash
from lm_eval.api.instance import Instance
from lm_eval.models.utils import maybe_truncate
from lm_eval.models.vllm_causallms import VLLM
from vllm import SamplingParams

from acm.architectures import HEAD, ties_head
from acm.errors import UserError
from acm.evaluation.backends import Recording, Response, stop_strings
from acm.evaluation.tensors import Tensor
from acm.evaluation.vllm_weights import APART, OWN_PROCESS, Handed, bare, lives_apart
from acm.kept import text
from acm.reading import read_json

LOG = logging.getLogger(__name__)
FROM_FOLDER = "set `jobs: model` in the profile, or evaluate the merge from a folder"
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
        # An iterator cannot leave this process: vLLM would have to pickle it. So a worker that is to take tensors lives
        # here, as vLLM 0.33 has it for one GPU with this variable. Several GPUs have a process each, whatever it says.
        if settings.get("tensor_parallel_size", 1) == 1:
            os.environ.setdefault(OWN_PROCESS, "0")
        with failures(f"cannot load {folder}"):
            super().__init__(
                pretrained=str(folder), load_format="safetensors", max_gen_toks=max_gen_toks, max_model_len=room,
                **settings,
            )  # fmt: skip
        self.facts = {"vllm": version("vllm"), **weights_of(self.sums())}
        self.ties = bool(ties_head(read_json(folder / "config.json")))
        self.end_ids = {self.tokenizer.eos_token_id, *stated_ends(folder)}

    def sums(self) -> dict[str, str]:
        """SHA-256 of each tensor that vLLM holds, by its name behind the worker's; empty of a version without them."""
        try:
            found: list[dict[str, str]] = self.model.collective_rpc("compute_weight_checksums")
        except (AttributeError, NotImplementedError):
            return {}
        return {name: value for worker in found for name, value in worker.items()}

    def misfit(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        if lives_apart(self.tensor_parallel_size):
            return APART
        if self.ties == (HEAD in shapes):
            return f"only {'the merge' if self.ties else 'the loaded model'} has a head of its own"
        return ""

    def take(self, tensors: Iterable[Tensor], name: str) -> None:
        """As in the class above. With ``enable_sleep_mode`` the memory of the caches is free meanwhile.

        UserError where vLLM holds other numbers afterwards than it was handed.
        """
        handed, sleeps = Handed(tensors, self.model_args["dtype"]), self.model_args.get("enable_sleep_mode")
        with failures(f"cannot take the weights of {name}"):
            if sleeps:
                self.model.sleep(level=2)  # forgets weights and caches
                self.model.wake_up(tags=["weights"])
            self.model.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(handed)})
            if sleeps:
                self.model.wake_up(tags=["kv_cache"])
            emptied = self.model.reset_prefix_cache()
            sums = self.sums()
        if not emptied:
            raise UserError(f"vLLM did not empty its prefix cache for {name}; {FROM_FOLDER}.")
        if not self.model_args["quantization"]:
            self.compare(handed, bare(sums), name)
        self.facts = {"vllm": version("vllm"), **weights_of(sums)}

    def compare(self, handed: Handed, held: Mapping[str, str], name: str) -> None:
        """UserError where vLLM holds other numbers than it was handed, or does not say what it holds."""
        if not held:
            raise UserError(
                f"this vLLM tells no sums of its tensors, and so not whether it took {name}; {FROM_FOLDER}."
            )
        if unseen := sorted(handed.sums.keys() - held.keys() - ({HEAD} if self.ties else set())):
            raise UserError(
                f"vLLM tells no sums of {len(unseen)} tensors of {name}, such as {unseen[0]}, and so not whether it "
                f"took them; {FROM_FOLDER}."
            )
        if odd := handed.differing(held):
            raise UserError(
                f"vLLM holds other numbers than those of {name} in {len(odd)} tensors, such as {odd[0]}; {FROM_FOLDER}."
            )
        seen = len(handed.sums.keys() & held.keys())
        LOG.info("%s: %d of %d tensors of vLLM compared with the merge.", name, seen, len(held))

    def close(self) -> None:
        """End the engine, whose memory another one needs."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self.model.llm_engine.engine_core.shutdown()
        del self.model
        cleanup_dist_env_and_memory()

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


def weights_of(sums: Mapping[str, str]) -> dict[str, str]:
    """What the records say of the weights: a hash of the sums of all tensors, if vLLM tells them."""
    return {"weights": xxhash.xxh3_64_hexdigest(text(dict(sums)).encode())} if sums else {}


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
