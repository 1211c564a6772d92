"""The settings of generation: how tokens are chosen, and where the model runs.

``Sampling`` says how tokens are chosen. ``Engine`` describes a model that runs in this process, ``Server`` a model that
runs elsewhere. Each of the three refuses bad values when it is made. The defaults stand here alone. The Python
interface, the command line, profiles and the import of records share them. Nothing heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar
from urllib.parse import urlsplit

from acm.devices import devices
from acm.errors import UserError, explain, unknown
from acm.shapes import BYTES

MAX_TOKENS = 10240  # token cap of a response


BACKENDS = ("transformers", "vllm")  # the backends that run in this process
# What `model_args` may hold for a server: further fields of a request.
REQUEST_FIELDS = ("skip_special_tokens", "add_special_tokens", "top_k", "min_p", "repetition_penalty")
NO_ADDRESS = "backend server: give its address, --url http://localhost:8000/v1 (in Python url=URL)."


@dataclass(frozen=True)
class Sampling:
    """How the tokens of a response are chosen.

    temperature: 0 is greedy; above 0 tokens are drawn. top_p: draws come from the likeliest tokens that together have
    this probability, in (0, 1]. repeat: number of the repeat, from 0; each has random states of its own.
    seed: of all random states. Raises UserError for a value out of its range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    repeat: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.repeat < 1 << 31:
            raise UserError(f"repeat: is {self.repeat}; number the repeats 0, 1, 2, ….")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"temperature: is {self.temperature}; give 0 for greedy responses, or a number above.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p: is {self.top_p}; give a number above 0 and at most 1, which keeps all tokens.")
        if self.top_p < 1 and not self.temperature:
            raise UserError(
                f"top_p: {self.top_p} has no effect at temperature 0; set a temperature, or leave top_p out."
            )


@dataclass(frozen=True)
class Engine:
    """A model that runs in this process.

    backend: ``transformers`` or ``vllm``. dtype: of weights and arithmetic. device: cpu, cuda, or cuda:1.
    batch_size: items generated together and kept together. model_args: of vLLM, see :class:`VllmArguments`.
    deterministic: what the backend offers against chance, see ``determinism.py``.
    Raises UserError for an unknown name or a value out of its range.
    """

    backend: str = "transformers"
    dtype: str = "float32"
    device: str = "cpu"
    batch_size: int = 64
    model_args: Mapping[str, Any] = field(default_factory=dict)
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.backend == Server.backend:
            raise UserError(NO_ADDRESS)
        if self.backend not in BACKENDS:
            raise unknown("backend", self.backend, [*BACKENDS, Server.backend])
        if self.dtype not in BYTES:
            raise unknown("dtype", self.dtype, BYTES)
        if self.backend == "vllm" and self.device == "cpu":
            raise UserError("device: is cpu, and the backend vllm runs on a GPU; give cuda.")
        check_count("batch_size", self.batch_size)
        check_arguments(self.backend, self.model_args)

    def check_here(self) -> None:
        """UserError where this machine lacks the backend's package or the GPU."""
        if self.backend == "vllm" and not find_spec("vllm"):
            raise UserError(
                "backend vllm: the package vllm is not installed; install it on a machine with a GPU, "
                "or choose another backend."
            )
        if self.backend == "transformers" and self.device != "cpu":
            devices(self.device)


@dataclass(frozen=True)
class Server:
    """A model that runs elsewhere, behind OpenAI's completions or chat completions.

    url: ``http://host:port/v1``, the /v1 optional. served: the model's name there; None: the one that it lists.
    concurrency: requests at a time. batch_size: items kept together. model_args: see REQUEST_FIELDS.
    timeout: seconds to wait for one response. deadline: seconds for all; None: no end. reload: have the server, a vLLM
    or SGLang that sees the model's folder under the same path, load it first.
    Raises UserError for what is no such address, an unknown name or a value out of its range.
    """

    url: str
    served: str | None = None
    concurrency: int = 1
    batch_size: int = Engine.batch_size
    model_args: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 600.0
    deadline: float | None = None
    reload: bool = False
    backend: ClassVar[str] = "server"
    deterministic: ClassVar[bool] = False  # nobody here can promise it

    def __post_init__(self) -> None:
        check_url(self.url)
        check_count("concurrency", self.concurrency)
        check_count("batch_size", self.batch_size)
        check_seconds("timeout", self.timeout)
        if self.deadline is not None:
            check_seconds("deadline", self.deadline)
        check_arguments(self.backend, self.model_args)

    def check_here(self) -> None:
        """Nothing is needed on this machine."""

    @property
    def address(self) -> str:
        """``http://host:port/v1``."""
        return self.url.rstrip("/") + ("" if urlsplit(self.url).path.strip("/") else "/v1")


USUAL: dict[str, Any] = {  # what the setting of a record leaves out while it is this
    "prompt": None,
    "temperature": Sampling.temperature,
    "top_p": Sampling.top_p,
    "repeat": Sampling.repeat,
    "backend": Engine.backend,
    "concurrency": Server.concurrency,
    "model_args": {},
    "deterministic": Engine.deterministic,
}


def stated(engine: Engine | Server, sampling: Sampling, max_tokens: int, prompt: str | None) -> dict[str, Any]:
    """What the setting of a record may say of a call, the usual values included, in the setting's order.

    A server does not state its dtype and device, so neither does the record. max_tokens: token cap.
    """
    own = {"dtype": engine.dtype, "device": engine.device} if isinstance(engine, Engine) else {}
    shared = {"batch_size": engine.batch_size, "max_tokens": max_tokens, "seed": sampling.seed}
    chosen = {
        "prompt": prompt,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "repeat": sampling.repeat,
        "backend": engine.backend,
        "concurrency": engine.concurrency if isinstance(engine, Server) else Server.concurrency,
        "model_args": dict(engine.model_args),
        "deterministic": engine.deterministic,
    }
    return own | shared | chosen


def chosen_engine(backend: str = Engine.backend, **fields: Any) -> Engine | Server:
    """The engine that options or keywords name together. fields: of :class:`Engine` and of :class:`Server`.

    Raises UserError for a field that neither has, and for one of the other kind that is not at its default.
    """
    here = {name: value for name, value in vars(Engine()).items() if name != "backend"}
    elsewhere = vars(Server("http://localhost")) | {"url": None}
    if odd := [name for name in fields if name not in here | elsewhere]:
        raise unknown("setting of evaluate", odd[0], here | elsewhere)
    takes, others = (elsewhere, here) if backend == Server.backend else (here, elsewhere)
    foreign = [name for name, value in fields.items() if name not in takes and value != others[name]]
    if foreign and backend in (*BACKENDS, Server.backend):
        raise UserError(f"backend {backend}: takes no {foreign[0]}; leave it out, or choose another backend.")
    own = {name: value for name, value in fields.items() if name in takes}
    if takes is here:
        return Engine(backend, **own)
    if not own.get("url"):
        raise UserError(NO_ADDRESS)
    return Server(**own)


def check_count(name: str, value: int) -> None:
    """UserError for what is no whole number, and for one below 1."""
    if type(value) is not int or value < 1:
        raise UserError(f"{name}: is {value!r}; give a whole number, 1 or more.")


def check_seconds(name: str, value: float) -> None:
    """UserError for a time that does not pass."""
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name}: is {value}; give a number of seconds above 0.")


def check_arguments(backend: str, arguments: Mapping[str, Any]) -> None:
    """UserError for an argument that the backend does not take, and for a value that vLLM does not."""
    if odd := [name for name in arguments if name not in known_arguments(backend)]:
        raise unknown(f"model argument of backend {backend}", odd[0], known_arguments(backend))
    if backend == "vllm":
        from pydantic import ValidationError

        from acm.evaluation.vllm_arguments import VllmArguments

        try:
            VllmArguments.model_validate(arguments)
        except ValidationError as error:
            raise explain(error, "model_args") from None


def known_arguments(backend: str) -> tuple[str, ...]:
    """The names that ``model_args`` may hold."""
    if backend == "vllm":
        from acm.evaluation.vllm_arguments import VllmArguments  # takes a tenth of a second

        return tuple(VllmArguments.model_fields)
    return REQUEST_FIELDS if backend == Server.backend else ()


def check_url(url: str) -> None:
    """UserError for what is no address of a server, and for an address with a user's name in it."""
    try:
        found = urlsplit(url)
        good = found.scheme in ("http", "https") and found.hostname and (found.port or True)
        good = good and not (found.query or found.fragment)
    except ValueError:
        good = False
    if not good or found.username is not None:
        raise UserError(
            "url: must be like http://localhost:8000/v1, without a user name in it (a key goes into OPENAI_API_KEY)."
        )
