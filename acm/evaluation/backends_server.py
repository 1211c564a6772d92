"""The server backend: asks a server that speaks OpenAI's completions or chat completions, once for each item.

Classes of lm-evaluation-harness write the requests. This module asks and reads the answers itself, because they state
the number of tokens. Each response is kept as soon as it has come.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from pathlib import Path
from statistics import median_low
from typing import Any, NamedTuple

import aiohttp
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.models.utils import normalize_gen_kwargs

from acm.errors import UserError
from acm.evaluation.backends import Recording, Response, content_hash, stop_strings
from acm.evaluation.server_answers import (
    LOST,
    Answer,
    Choice,
    check_model,
    check_tokens,
    check_usual,
    counted,
    fields,
    read_answer,
)
from acm.evaluation.server_requests import SMALL, Received, asked, introduced, listed_models, run, session
from acm.evaluation.server_weights import reload
from acm.evaluation.settings import Server
from acm.evaluation.thinking import THINK_CLOSE, THINK_OPEN, opened
from acm.kept import read_kept, write_kept

CHAT_STOPS = 4  # stop strings that lm-evaluation-harness sends to a chat server; the last is the end token's text
PER_TOKEN = 1 << 10  # the most bytes of an answer for each token, beside ``SMALL`` for all around the text


class Reply(NamedTuple):
    """A response and how it ended. tokens: as the server counts them. hidden: of these, as it says, not in the text.

    cut: by the cap. by_end: by an end token. A response that ended in neither way ended by a stop string.
    """

    text: str
    tokens: int
    hidden: int
    cut: bool
    by_end: bool


class RecordingServer(Recording):
    """What completions and chat completions share: one request an item, at most ``concurrency`` at a time.

    ``names`` are those under which the server may say that it answers, beside the one asked for.
    """

    names: frozenset[str] = frozenset()

    def __init__(self, folder: Path, server: Server, endpoint: str, **settings: Any) -> None:
        super().__init__(
            base_url=f"{server.address}/{endpoint}", tokenizer=str(folder), tokenizer_backend="huggingface",
            batch_size=server.batch_size, **settings,
        )  # fmt: skip
        self.server = server
        self.end = time.monotonic() + server.deadline if server.deadline else None

    @abstractmethod
    def message(self, context: str) -> str | list[dict[str, str]]:
        """A prompt as the server is given it."""

    @abstractmethod
    def parts(self, choice: Choice, context: str) -> list[str]:
        """The texts that a response consists of, thinking included."""

    @abstractmethod
    def text(self, parts: list[str], context: str) -> str:
        """The text of a response, thinking included."""

    def kept_batch(self, requests: list[Instance]) -> list[Response]:
        """The responses to one batch. Once it is kept as a whole, its single responses go."""
        found = super().kept_batch(requests)
        self.forget(requests)
        return found

    def forget(self, requests: list[Instance]) -> None:
        """Remove the single responses to these requests that are kept."""
        for request in requests if self.keep else ():
            self.single(request)[0].unlink(missing_ok=True)

    def generate_batch(self, requests: list[Instance]) -> list[Response]:
        """The responses to a batch.

        Servers count the end token as a rule. Whether this one does shows in the batch's texts, tokenized again.
        """
        replies = run(self.ask_all, requests)
        ended = [reply for reply in replies if reply.by_end]
        known = [self.count(reply.text) for reply in ended]
        surplus = [reply.tokens - reply.hidden - count for reply, count in zip(ended, known, strict=True)]
        pairs = zip(replies, requests, strict=True)
        try:
            check_usual(surplus, known, self.base_url)
            if all(reply.text.startswith(str(request.args[0])) for reply, request in pairs):
                raise UserError(f"{self.base_url} repeats the prompt before its responses; turn that off there (echo).")
        except UserError:
            self.forget(requests)  # another call is to ask anew
            raise
        with_end = bool(surplus) and median_low(surplus) >= 1
        lengths = [max(0, reply.tokens - (with_end and reply.by_end)) for reply in replies]
        return [
            {"response": reply.text, "length": length, "truncated": reply.cut}
            for reply, length in zip(replies, lengths, strict=True)
        ]

    async def ask_all(self, requests: list[Instance]) -> list[Reply]:
        """The responses to a batch, of which the first failure cancels the rest. UserError says how many are kept."""
        room = asyncio.Semaphore(self.server.concurrency)
        try:
            async with session() as client, asyncio.timeout_at(self.end):
                tasks = [asyncio.create_task(self.kept_reply(client, room, request)) for request in requests]
                try:
                    return await asyncio.gather(*tasks)
                finally:
                    for task in tasks:
                        task.cancel()
        except TimeoutError:
            fault = f"the deadline of {self.server.deadline:g} s is over; give a longer one (--deadline)."
        except UserError as error:
            fault = str(error)
        kept = sum(self.kept(request) is not None for request in requests)
        more = f" {kept} of this batch's {len(requests)} responses are kept; the same command goes on with the rest."
        raise UserError(fault + more * bool(kept))

    async def kept_reply(self, client: aiohttp.ClientSession, room: asyncio.Semaphore, request: Instance) -> Reply:
        """The response to one request, from disk where it was kept before."""
        async with room:
            if (reply := self.kept(request)) is None:
                reply = await self.ask(client, request)
                if self.keep:
                    write_kept(*self.single(request), list(reply))
        return reply

    def kept(self, request: Instance) -> Reply | None:
        """The response to one request that was kept before its batch was whole."""
        found = read_kept(*self.single(request), is_reply) if self.keep else None
        return Reply(*found) if found else None

    def single(self, request: Instance) -> tuple[Path, dict[str, Any]]:
        """Where one response is kept, and with which key."""
        assert self.keep
        name = content_hash([request])
        return self.keep / "responses" / f"{name}.json", self.key | {"request": name}

    def count(self, text: str) -> int:
        """The number of tokens of a text."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    async def ask(self, client: aiohttp.ClientSession, request: Instance) -> Reply:
        """One response. UserError for a server that is gone, refuses, or answers what cannot be recorded."""
        context, settings = request.args
        payload = self._create_payload(
            self.message(context), generate=True, gen_kwargs=normalize_gen_kwargs({"temperature": 0.0} | settings),
            seed=self.random_state(context, settings), eos=self.eos_string,
        )  # fmt: skip
        payload |= self.server.model_args
        cap = settings["max_gen_toks"]
        got = await asked(client, "POST", self.base_url, self.server.timeout, SMALL + PER_TOKEN * cap, json=payload)
        if got.status != 200:
            raise await self.refusal(client, got)
        return self.reply(read_answer(got.body, self.base_url), context, stop_strings(request), cap)

    async def refusal(self, client: aiohttp.ClientSession, got: Received) -> UserError:
        """An error that says what a server answers in place of a response, and what it lists or where it sends on."""
        if 300 <= got.status < 400:
            return UserError(
                f"{self.base_url} sends on to {got.target[:200]!r}, which is not followed: prompts and key were meant "
                "for the first; if that is your server, give it as --url."
            )
        names = [entry["id"] for entry in await listed_models(client, self.server.address)]
        listed = f" It lists {names[:9]}." if names else ""
        return UserError(f"{self.base_url}, asked for model '{self.model}', says {got.said}.{listed}")

    def reply(self, answer: Answer, context: str, stops: list[str], cap: int) -> Reply:
        """What an answer says. UserError where that cannot be."""
        check_model(answer, self.model, self.names, self.base_url)
        tokens, choice = counted(answer, cap, self.base_url), answer.choices[0]
        parts = self.parts(choice, context)
        known = sum(self.count(part.replace(LOST, "")) for part in parts)
        check_tokens(answer, tokens, known, sum(part.count(LOST) for part in parts), self.base_url)
        text = self.text(parts, context)
        if not any(stop in text for stop in stops):  # the server leaves it out, and its tokens are counted
            text += next((str(stop) for stop in (choice.stop_reason, choice.matched_stop) if stop in stops), "")
        cut = choice.finish_reason == "length"
        return Reply(text, tokens, answer.hidden, cut, not cut and not any(stop in text for stop in stops))


class RecordingCompletions(RecordingServer, LocalCompletionsAPI):
    """Completions: the prompt is a text."""

    def message(self, context: str) -> str:
        return context

    def parts(self, choice: Choice, context: str) -> list[str]:
        if choice.text is None:
            raise UserError(f"{self.base_url} answers without a text; see whether it takes completions.")
        return [choice.text]

    def text(self, parts: list[str], context: str) -> str:
        return parts[0]


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

    def parts(self, choice: Choice, context: str) -> list[str]:
        """Thinking that the server has set apart, and the content."""
        if choice.message is None:
            raise UserError(f"{self.base_url} answers without a message; see whether it takes chat completions.")
        content = choice.message.content or ""
        # `transformers serve` repeats the prompt for Qwen models with another template than Qwen's
        if content.lstrip().startswith(context.strip()):
            raise UserError(f"{self.base_url} repeats the prompt before its response; choose another server or prompt.")
        return [choice.message.thought, content]

    def text(self, parts: list[str], context: str) -> str:
        """The content. Thinking that the server has set apart is put back before it."""
        thought, content = parts
        if not thought:
            return content
        start = thought if opened(context) else THINK_OPEN + thought
        return start + THINK_CLOSE + content if content else start

    async def ask(self, client: aiohttp.ClientSession, request: Instance) -> Reply:
        if len(stops := stop_strings(request)) >= CHAT_STOPS:
            raise UserError(
                f"task '{request.task_name}' has {len(stops)} stop strings, "
                f"and a chat server takes {CHAT_STOPS - 1} beside its own."
            )
        return await super().ask(client, request)


def is_reply(rows: list[Any]) -> bool:
    """Whether these are the fields of a :class:`Reply`."""
    return [*map(type, rows)] == [str, int, int, bool, bool] and min(rows[1:3]) >= 0


def connect(folder: Path, server: Server, chat: bool, **settings: Any) -> RecordingServer:
    """The backend of a server that answers. UserError where it does not.

    folder: of the model, for its tokenizer. chat: ask for chat completions. settings: of :class:`Recording`.
    The model's name is the one that ``server`` gives, else the only one that the server lists, else the folder's name.
    """
    listed, version = run(introduced, server.address)
    served = server.served or (listed[0]["id"] if len(listed) == 1 else folder.name)
    endpoint = "chat/completions" if chat else "completions"
    lm = (RecordingChat if chat else RecordingCompletions)(folder, server, endpoint, model=served, **settings)
    lm.names = frozenset().union(*(fields(entry, "root") for entry in listed if entry["id"] == served))
    entry = next((entry for entry in listed if entry["id"] == served), listed[0] if listed else {})
    reloaded = reload(server, entry, folder) if server.reload else {}
    known = {"owned_by": listed[0].get("owned_by") if listed else None, "version": version} | reloaded
    said = {key: text for key, text in known.items() if isinstance(text, str)}
    lm.facts = {"server": {"endpoint": endpoint, "served": served, **said}}
    return lm
