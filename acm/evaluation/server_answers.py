"""What a server answers, and whether it can be true: the number of tokens against the text, the model, the cap.

A server that answers otherwise is refused in one sentence: its answer would become a wrong length without a word.
"""

from __future__ import annotations

from collections.abc import Collection
from statistics import median_low
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from acm.errors import UserError, explain

HIDDEN = 16  # tokens beyond half as many again as the text has that a response may take for special tokens, unseen
# Generated tokens and the tokens of their text tokenized again may differ by this many, and by this fraction, as a
# rule. A text lacks special tokens, and a model may spell a word in other tokens than its tokenizer does.
SLACK, FRACTION = 8, 0.05
LOST = "\N{REPLACEMENT CHARACTER}"  # stands for one to three bytes that are no text, each of which may be a token


class Message(BaseModel):
    """What a chat server says. Some set thinking apart as ``reasoning_content``, or by its newer name ``reasoning``."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @property
    def thought(self) -> str:
        """The thinking that is set apart."""
        return self.reasoning_content or self.reasoning or ""


class Choice(BaseModel):
    """One response. The last two fields, vLLM's and SGLang's, say which stop string or further end token ended it."""

    finish_reason: Literal["stop", "length"]
    text: str | None = None
    message: Message | None = None
    stop_reason: str | int | None = None
    matched_stop: str | int | None = None


class Details(BaseModel):
    """OpenAI's: tokens of thinking that the server does not show."""

    reasoning_tokens: int | None = Field(None, ge=0, strict=True)


class Usage(BaseModel):
    """What a response took."""

    completion_tokens: int | None = Field(None, ge=0, strict=True)
    completion_tokens_details: Details | None = None


class Answer(BaseModel):
    """What a server sends back."""

    choices: list[Choice] = Field(min_length=1, max_length=1)
    usage: Usage | None = None
    model: str | None = None

    @property
    def hidden(self) -> int:
        """Tokens of thinking that the server says it does not show."""
        details = self.usage and self.usage.completion_tokens_details
        return details.reasoning_tokens or 0 if details else 0


def read_answer(body: bytes, url: str) -> Answer:
    """An answer's JSON. UserError for anything else, and for an error that comes as an answer."""
    try:
        return Answer.model_validate_json(body)
    except ValidationError as error:
        begins = body[:300].decode(errors="replace")
        kinds = {finding["type"] for finding in error.errors()}
        if "json_invalid" in kinds or not body.lstrip().startswith(b"{"):
            raise UserError(
                f"an answer of {url} is not valid JSON: it begins with {begins!r}; "
                "see whether --url is the address of an OpenAI-compatible API, which often ends in /v1."
            ) from None
        if {finding["loc"] for finding in error.errors()} == {("choices",)} and b'"error"' in body:
            raise UserError(f"{url} says {begins!r}.") from None
        raise explain(error, f"an answer of {url}") from None


def check_model(answer: Answer, asked: str, names: Collection[str], url: str) -> None:
    """UserError where another model answered. names: those that the server lists for the one asked.

    `transformers serve` adds ``@`` and a revision.
    """
    if answer.model and not {answer.model, answer.model.rpartition("@")[0]} & {asked, *names}:
        raise UserError(
            f"{url}, asked for model {asked!r}, answers with {answer.model[:200]!r}; "
            "if that is the model you mean, name it: --served."
        )


def counted(answer: Answer, cap: int, url: str) -> int:
    """The tokens of a response. UserError where an answer states none, more than the cap, or a cut below the cap."""
    tokens = answer.usage.completion_tokens if answer.usage else None
    if tokens is None:
        raise UserError(f"{url} answers without usage.completion_tokens, so no length is known; choose another server.")
    if tokens > cap:
        raise UserError(f"{url} answers with {tokens} tokens, more than the cap of {cap}; it does not heed max_tokens.")
    if answer.choices[0].finish_reason == "length" and tokens < cap - 1:  # some count no end token
        raise UserError(
            f"{url} cut a response at {tokens} tokens, below the cap of {cap}: it has a limit of its own; "
            "raise that (the model's length, or max_new_tokens of its generation_config.json), or lower --max-tokens."
        )
    return tokens


def check_tokens(answer: Answer, tokens: int, known: int, lost: int, url: str) -> None:
    """UserError where a response cannot have so many tokens.

    known: tokens of its text by the folder's tokenizer, ``LOST`` left out. lost: how often that is there. A model may
    write a text in more tokens than the tokenizer does, hardly in fewer. Special tokens do not show in the text, nor
    does thinking that a server hides and counts.
    """
    if tokens < 0.9 * known - 1 or tokens == 0 < known:
        raise UserError(
            f"{url} counts {tokens} tokens (usage.completion_tokens) for a text that has {known} by the folder's "
            "tokenizer; see whether the folder is the served model's, or choose another server."
        )
    if tokens - answer.hidden > 1.5 * known + 3 * lost + HIDDEN and answer.choices[0].finish_reason != "length":
        raise too_many(tokens, known, url)


def check_usual(surplus: list[int], known: list[int], url: str) -> None:
    """UserError where most responses of a batch have more tokens than text, beyond what single ones may.

    surplus: of each response, its tokens less those of its text. known: tokens of the texts.
    """
    if surplus and median_low(surplus) > SLACK + FRACTION * median_low(known):
        raise too_many(median_low(known) + median_low(surplus), median_low(known), url, "in most responses")


def too_many(tokens: int, known: int, url: str, where: str = "") -> UserError:
    """An error for tokens that do not show in the text."""
    return UserError(
        f"{url} counts {tokens} tokens (usage.completion_tokens) for a text that has {known} by the folder's "
        f"tokenizer{where and f', and alike {where}'}; it hides thinking or special tokens (--model-args "
        "'{skip_special_tokens: false}' shows these), counts the prompt, or serves a model with another tokenizer."
    )


def fields(entry: Any, *names: str) -> set[str]:
    """The texts among some fields of an entry in a server's list of models."""
    return {entry[name] for name in names if isinstance(entry.get(name), str)}
