"""The server backend: asks a server that speaks OpenAI's completions or chat completions, once for each item.

Classes of lm-evaluation-harness write the requests. This module reads the answers itself, because they state the number
of tokens. Answers are not trusted: each is checked before anything of it is kept.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median_low
from typing import Any, Literal, NamedTuple

import requests
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.models.utils import normalize_gen_kwargs
from pydantic import BaseModel, Field, ValidationError

from acm.errors import UserError, explain
from acm.evaluation.backends import Recording, Response, stop_strings
from acm.evaluation.settings import Server
from acm.evaluation.thinking import THINK_CLOSE, THINK_OPEN, opened

PATIENCE = 6 * 3600  # seconds to wait for one response, which may have to queue behind others
CHAT_STOPS = 4  # stop strings that lm-evaluation-harness sends to a chat server; the last is the end token's text


class Message(BaseModel):
    """What a chat server says. Some set thinking apart as ``reasoning_content``, or by its newer name ``reasoning``."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Choice(BaseModel):
    """One response. The last two fields, vLLM's and SGLang's, say which stop string or further end token ended it."""

    finish_reason: Literal["stop", "length"]
    text: str | None = None
    message: Message = Message()
    stop_reason: str | int | None = None
    matched_stop: str | int | None = None


class Usage(BaseModel):
    """What a response took."""

    completion_tokens: int | None = Field(None, ge=0)


class Answer(BaseModel):
    """What a server sends back."""

    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None


class Reply(NamedTuple):
    """A response and how it ended. tokens: as the server counts them. cut: by the cap. by_end: by an end token.

    A response that ended in neither way ended by a stop string.
    """

    text: str
    tokens: int
    cut: bool
    by_end: bool


class RecordingServer(Recording):
    """What completions and chat completions share: one request an item, at most ``concurrency`` at a time."""

    def __init__(self, folder: Path, server: Server, endpoint: str, **settings: Any) -> None:
        super().__init__(
            base_url=f"{server.address}/{endpoint}", tokenizer=str(folder), tokenizer_backend="huggingface",
            batch_size=server.batch_size, **settings,
        )  # fmt: skip
        self.server = server

    @abstractmethod
    def message(self, context: str) -> str | list[dict[str, str]]:
        """A prompt as the server is given it."""

    @abstractmethod
    def text(self, choice: Choice, context: str) -> str:
        """The text of a response, thinking included."""

    def generate_batch(self, requests: list[Instance]) -> list[Response]:
        """The responses to a batch.

        Servers count the end token as a rule. Whether this one does shows in the batch's texts, tokenized again.
        """
        with ThreadPoolExecutor(self.server.concurrency) as pool:
            replies = list(pool.map(self.ask, requests))
        surplus = [reply.tokens - self.count(reply.text) for reply in replies if reply.by_end]
        counted = bool(surplus) and median_low(surplus) >= 1
        lengths = [max(0, reply.tokens - (counted and reply.by_end)) for reply in replies]
        return [
            {"response": reply.text, "length": length, "truncated": reply.cut}
            for reply, length in zip(replies, lengths, strict=True)
        ]

    def count(self, text: str) -> int:
        """The number of tokens of a text."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def ask(self, request: Instance) -> Reply:
        """One response. UserError for a server that is gone, refuses, or answers what cannot be recorded."""
        context, settings = request.args
        payload = self._create_payload(
            self.message(context), generate=True, gen_kwargs=normalize_gen_kwargs({"temperature": 0.0} | settings),
            seed=self.random_state(context, settings), eos=self.eos_string,
        )  # fmt: skip
        payload |= self.server.model_args
        try:
            response = requests.post(self.base_url, json=payload, headers=self.header, timeout=PATIENCE)
        except requests.RequestException as error:
            raise UserError(
                f"{self.base_url} gave no answer ({type(error).__name__}); start the server, then run this again."
            ) from None
        if not response.ok:
            listed = f" It lists {names[:9]}." if (names := listed_models(self.server.address)[0]) else ""
            said = f"HTTP {response.status_code}, {response.text[:300]!r}"  # escaped: the text is untrusted
            raise UserError(f"{self.base_url}, asked for model '{self.model}', says {said}.{listed}")
        try:
            answer = Answer.model_validate_json(response.content)
        except ValidationError as error:
            raise explain(error, f"an answer of {self.base_url}") from None
        return self.reply(answer, context, stop_strings(request), settings["max_gen_toks"])

    def reply(self, answer: Answer, context: str, stops: list[str], cap: int) -> Reply:
        """What an answer says. UserError where it states no length, or one above the cap."""
        tokens = answer.usage.completion_tokens if answer.usage else None
        if tokens is None:
            raise UserError(
                f"{self.base_url} answers without usage.completion_tokens, so no length is known; "
                "choose another server."
            )
        if tokens > cap:
            raise UserError(
                f"{self.base_url} answers with {tokens} tokens, more than the cap of {cap}; "
                "it does not heed max_tokens."
            )
        choice = answer.choices[0]
        text = self.text(choice, context)
        if not any(stop in text for stop in stops):  # the server leaves it out, and its tokens are counted
            text += next((str(stop) for stop in (choice.stop_reason, choice.matched_stop) if stop in stops), "")
        cut = choice.finish_reason == "length"
        return Reply(text, tokens, cut, not cut and not any(stop in text for stop in stops))


class RecordingCompletions(RecordingServer, LocalCompletionsAPI):
    """Completions: the prompt is a text."""

    def message(self, context: str) -> str:
        return context

    def text(self, choice: Choice, context: str) -> str:
        return choice.text or ""


class RecordingChat(RecordingServer, LocalChatCompletion):
    """Chat completions: the prompt is a list of messages, around which the server puts its template.

    The question of a record shows them in the template of the local folder.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.chats: dict[str, list[dict[str, str]]] = {}

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages as one text; notes which messages the text stands for."""
        text = self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        self.chats[text] = chat_history
        return text

    def message(self, context: str) -> list[dict[str, str]]:
        return self.chats[context]

    def text(self, choice: Choice, context: str) -> str:
        """The content. Thinking that the server has set apart is put back before it."""
        content = choice.message.content or ""
        # `transformers serve` repeats the prompt for Qwen models with another template than Qwen's
        if content.lstrip().startswith(context.strip()):
            raise UserError(f"{self.base_url} repeats the prompt before its response; choose another server or prompt.")
        thought = choice.message.reasoning_content or choice.message.reasoning
        if not thought:
            return content
        start = thought if opened(context) else THINK_OPEN + thought
        return start + THINK_CLOSE + content if content else start

    def ask(self, request: Instance) -> Reply:
        if len(stops := stop_strings(request)) >= CHAT_STOPS:
            raise UserError(
                f"task '{request.task_name}' has {len(stops)} stop strings, "
                f"and a chat server takes {CHAT_STOPS - 1} beside its own."
            )
        return super().ask(request)


def connect(folder: Path, server: Server, chat: bool, **settings: Any) -> RecordingServer:
    """The backend of a server that answers. UserError where it does not.

    folder: of the model, for its tokenizer. chat: ask for chat completions. settings: of :class:`Recording`.
    The model's name is the one that ``server`` gives, else the only one that the server lists, else the folder's name.
    """
    names, owner = listed_models(server.address)
    served = server.served or (names[0] if len(names) == 1 else folder.name)
    endpoint = "chat/completions" if chat else "completions"
    lm = (RecordingChat if chat else RecordingCompletions)(folder, server, endpoint, model=served, **settings)
    version = fetched(server.address.removesuffix("/v1") + "/version").get("version")
    known = {"owned_by": owner, "version": version}
    said = {key: text for key, text in known.items() if isinstance(text, str)}
    lm.facts = {"server": {"endpoint": endpoint, "served": served, **said}}
    return lm


def listed_models(address: str) -> tuple[list[str], object]:
    """The names that a server lists, and who it says owns the first, which is often the engine.

    Nothing where it keeps no list.
    """
    entries = fetched(f"{address}/models").get("data")
    if not isinstance(entries, list):
        return [], None
    found = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    return [entry["id"] for entry in found], found[0].get("owned_by") if found else None


def fetched(url: str) -> dict[str, Any]:
    """A JSON object. Empty where the server has none at this address; UserError for a server out of reach."""
    key = os.environ.get("OPENAI_API_KEY", "")
    try:
        found = requests.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
        content = found.json() if found.ok else {}
    except requests.exceptions.JSONDecodeError:
        return {}
    except requests.RequestException as error:
        raise UserError(f"{url} gave no answer ({type(error).__name__}); start the server, or mend --url.") from None
    return content if isinstance(content, dict) else {}
