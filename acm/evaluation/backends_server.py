"""The server backend: any server of OpenAI's completions or chat completions, asked once for each item.

lm-eval's classes for such servers write the requests; the answers are read here, because they state the number of tokens.
Answers are untrusted: they are checked before anything is kept.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median_low
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import requests
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.models.utils import normalize_gen_kwargs
from pydantic import BaseModel, Field, ValidationError

from acm.errors import UserError, explain
from acm.evaluation.backends import Recording, Row, opened, stop_strings
from acm.evaluation.grading import THINK_CLOSE, THINK_OPEN

PATIENCE = 6 * 3600  # seconds for one response, which may have to wait for others
CHAT_STOPS = 4  # stop strings that lm-eval sends to a chat server; the end token's text is the last of them


class Message(BaseModel):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the newer name


class Choice(BaseModel):
    finish_reason: Literal["stop", "length"]
    text: str | None = None
    message: Message = Message()
    stop_reason: str | int | None = None  # vLLM: the stop string, or the id of a further end token
    matched_stop: str | int | None = None  # SGLang: the same


class Usage(BaseModel):
    completion_tokens: int | None = Field(None, ge=0)


class Answer(BaseModel):
    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None


class Reply(NamedTuple):
    """A response, its tokens as the server counts them, and how it ended: cut, or by an end token, or (neither) by a stop string."""

    text: str
    tokens: int
    cut: bool
    by_end: bool


class Server(Recording):
    """What completions and chat completions share: one request an item, at most ``concurrency`` at a time."""

    def __init__(self, folder: Path, base: str, kind: str, concurrency: int, extra: dict, **settings) -> None:
        super().__init__(base_url=f"{base}/{kind}", tokenizer=str(folder), tokenizer_backend="huggingface", **settings)
        self.base, self.concurrency, self.extra = base, concurrency, extra

    def generate_rows(self, batch: list[Instance]) -> list[Row]:
        """Rows of a batch. Servers count the end token as a rule; whether this one does is seen from the batch's texts tokenized again."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            replies = list(pool.map(self.ask, batch))
        surplus = [reply.tokens - self.count(reply.text) for reply in replies if reply.by_end]
        counted = bool(surplus) and median_low(surplus) >= 1
        return [
            {
                "response": reply.text,
                "length": max(0, reply.tokens - (counted and reply.by_end)),
                "truncated": reply.cut,
            }
            for reply in replies
        ]

    def count(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def ask(self, request: Instance) -> Reply:
        """One response. UserError for a server that is gone, refuses, or answers what cannot be recorded."""
        context, settings = request.args
        payload = self._create_payload(
            self.message(context), generate=True, gen_kwargs=normalize_gen_kwargs({"temperature": 0.0} | settings),
            seed=self.random_state(context, settings), eos=self.eos_string,
        )  # fmt: skip
        try:
            response = requests.post(self.base_url, json=payload | self.extra, headers=self.header, timeout=PATIENCE)
        except requests.RequestException as error:
            raise UserError(
                f"{self.base_url} gave no answer ({type(error).__name__}); start the server, then run this again."
            ) from None
        if not response.ok:
            listed = f" It lists {names[:9]}." if (names := listed_models(self.base)[0]) else ""
            said = f"HTTP {response.status_code}, {response.text[:300]!r}"  # escaped: the text is untrusted
            raise UserError(f"{self.base_url}, asked for model '{self.model}', says {said}.{listed}")
        try:
            answer = Answer.model_validate_json(response.content)
        except ValidationError as error:
            raise explain(error, f"an answer of {self.base_url}") from None
        return self.reply(answer, context, stop_strings(request), settings["max_gen_toks"])

    def reply(self, answer: Answer, context: str, stops: list[str], cap: int) -> Reply:
        tokens = answer.usage.completion_tokens if answer.usage else None
        if tokens is None:
            raise UserError(
                f"{self.base_url} answers without usage.completion_tokens, so no length is known; choose another server."
            )
        if tokens > cap:
            raise UserError(
                f"{self.base_url} answers with {tokens} tokens, more than the cap of {cap}; it does not heed max_tokens."
            )
        choice = answer.choices[0]
        text = self.text(choice, context)
        matched = next((stop for stop in (choice.stop_reason, choice.matched_stop) if stop in stops), "")
        if not any(stop in text for stop in stops):
            text += matched  # the server leaves it out, and its tokens are counted
        cut = choice.finish_reason == "length"
        return Reply(text, tokens, cut, not cut and not any(stop in text for stop in stops))


class RecordingCompletions(Server, LocalCompletionsAPI):
    """The prompt as a string."""

    def message(self, context: str) -> str:
        return context

    def text(self, choice: Choice, context: str) -> str:
        return choice.text or ""


class RecordingChat(Server, LocalChatCompletion):
    """The messages, around which the server puts its template; the records' question has the local folder's template around them."""

    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        self.chats: dict[str, list[dict]] = {}

    def apply_chat_template(self, chat_history: list[dict], add_generation_prompt: bool = True) -> str:
        text = self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        self.chats[text] = chat_history
        return text

    def message(self, context: str) -> list[dict]:
        return self.chats[context]

    def text(self, choice: Choice, context: str) -> str:
        """The content, with thinking that the server has set apart put back before it."""
        content = choice.message.content or ""
        if content.lstrip().startswith(
            context.strip()
        ):  # `transformers serve`, for Qwen models with another template than Qwen's
            raise UserError(f"{self.base_url} repeats the prompt before its response; choose another server or prompt.")
        thought = choice.message.reasoning_content or choice.message.reasoning
        if not thought:
            return content
        start = thought if opened(context) else THINK_OPEN + thought
        return start + THINK_CLOSE + content if content else start

    def ask(self, request: Instance) -> Reply:
        if len(stops := stop_strings(request)) >= CHAT_STOPS:
            raise UserError(
                f"task '{request.task_name}' has {len(stops)} stop strings, and a chat server takes {CHAT_STOPS - 1} beside its own."
            )
        return super().ask(request)


def connect(folder: Path, url: str, served: str | None, chat: bool, **settings) -> Server:
    """The backend of a server that answers. served: the model's name there; None: the one that it lists, or else the folder's name."""
    base = base_of(url)
    names, owner = listed_models(base)
    served = served or (names[0] if len(names) == 1 else folder.name)
    cls, kind = (RecordingChat, "chat/completions") if chat else (RecordingCompletions, "completions")
    lm = cls(folder, base, kind, model=served, **settings)
    engine = {"owned_by": owner, "version": fetched(base.removesuffix("/v1") + "/version").get("version")}
    lm.facts = {
        "server": {
            "endpoint": kind,
            "served": served,
            **{key: text for key, text in engine.items() if isinstance(text, str)},
        }
    }
    return lm


def base_of(url: str) -> str:
    """``http://host:port/v1`` of what a user gives, who may leave /v1 away; UserError for what is no such address."""
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port or True)
            and not (parts.query or parts.fragment)
        )
    except ValueError:
        good = False
    if not good or parts.username is not None:
        raise UserError(
            "url: must be like http://localhost:8000/v1, without a user name in it (a key goes into OPENAI_API_KEY)."
        )
    return url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


def listed_models(base: str) -> tuple[list[str], object]:
    """The names that a server lists, and who it says owns the first, which is often the engine; none where it keeps no list."""
    entries = fetched(f"{base}/models").get("data")
    found = (
        [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
        if isinstance(entries, list)
        else []
    )
    return [entry["id"] for entry in found], found[0].get("owned_by") if found else None


def fetched(url: str) -> dict:
    """A JSON object, empty where the server has none at this address; UserError for a server out of reach."""
    try:
        found = requests.get(
            url, headers={"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}, timeout=60
        )
        content = found.json() if found.ok else {}
    except requests.exceptions.JSONDecodeError:
        return {}
    except requests.RequestException as error:
        raise UserError(f"{url} gave no answer ({type(error).__name__}); start the server, or mend --url.") from None
    return content if isinstance(content, dict) else {}
