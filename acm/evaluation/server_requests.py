"""Asks a server over HTTP: tries again what may pass, follows no redirect, and waits and reads no longer than a limit.

Neither the server nor the way to it is trusted. The key in OPENAI_API_KEY goes to the address that the user gave, and
nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar

import aiohttp
from anyio.from_thread import start_blocking_portal
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, retry_if_result, wait_exponential_jitter

from acm.errors import UserError

SMALL = 1 << 20  # the most bytes of an answer without generated text
CONNECT = 30  # seconds to reach a server
TRIES = {"POST": 5, "GET": 2}  # of one request; what is asked by GET can be missing
BACKOFF = wait_exponential_jitter(initial=1, max=30)  # seconds between tries: 1, 2, 4, 8, each and up to 1 more
PASSING = (408, 429)  # statuses below 500 that may pass
KEY = "OPENAI_API_KEY"
T = TypeVar("T")


class Hiccup(Exception):
    """A broken connection, which another try may mend."""


class Received(NamedTuple):
    """What came back. wait: seconds after which the server asks to come again. target: where a redirect leads."""

    status: int
    body: bytes
    wait: float
    target: str

    @property
    def passing(self) -> bool:
        """Whether another try may bring another answer."""
        return self.status in PASSING or self.status >= 500

    @property
    def said(self) -> str:
        """Status and beginning of the answer, for a message."""
        asks = f", and asks to wait {self.wait:.0f} s" if self.wait else ""
        return f"HTTP {self.status}, {self.body[:300].decode(errors='replace')!r}{asks}"


def run(function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """The result of a coroutine function, in Jupyter too, where a loop already runs. An interrupt ends it at once."""
    with start_blocking_portal() as portal:
        return portal.call(function, *arguments)


def session() -> aiohttp.ClientSession:
    """A session that takes proxies from the environment, as most programs do."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{KEY}: holds a character that no key has; set it again.")
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers=headers, trust_env=True, auto_decompress=False
    )


async def asked(
    client: aiohttp.ClientSession, method: str, url: str, seconds: float, largest: int, **content: Any
) -> Received:
    """The answer to a request, or the last one where each try brought one that may pass.

    seconds: to wait for an answer, also when the server names a time. largest: its most bytes. content: as aiohttp
    takes it. Raises UserError where no whole answer comes.
    """
    tries = AsyncRetrying(
        retry=retry_if_exception_type(Hiccup) | retry_if_result(lambda received: received.passing),
        wait=lambda state: max(BACKOFF(state), wanted(state)),
        stop=lambda state: state.attempt_number >= TRIES[method] or wanted(state) > seconds,
        retry_error_callback=last,
    )
    try:
        return await tries(once, client, method, url, seconds, largest, **content)
    except Hiccup as error:
        raise UserError(
            f"{url} gave no answer at {TRIES[method]} tries ({error}); see whether the server runs."
        ) from None


def wanted(state: RetryCallState) -> float:
    """The seconds that the server asks to wait after a try."""
    assert state.outcome
    return 0.0 if state.outcome.failed else state.outcome.result().wait


def last(state: RetryCallState) -> Received:
    """What the last try brought. Hiccup where it brought nothing."""
    assert state.outcome
    found: Received = state.outcome.result()
    return found


async def once(
    client: aiohttp.ClientSession, method: str, url: str, seconds: float, largest: int, **content: Any
) -> Received:
    """One try of ``asked``. Hiccup where another may help."""
    limits = aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT, seconds))
    try:
        async with client.request(method, url, timeout=limits, allow_redirects=False, **content) as answer:
            body = await read(answer, url, largest)
            target = answer.headers.get("Location", "")
            return Received(answer.status, body, seconds_asked(answer.headers.get("Retry-After", "")), target)
    except aiohttp.ClientConnectorCertificateError:
        raise UserError(f"{url} has a certificate that this machine does not trust; set SSL_CERT_FILE.") from None
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        if method == "GET":  # the first contact
            raise UserError(f"{url} gave no answer; start the server, or mend --url.") from None
        raise Hiccup("nothing there can be connected to") from None
    except TimeoutError:
        raise UserError(
            f"{url} gave no whole answer within {seconds:g} s; if it is slow and does not hang, "
            "give a longer --timeout, or fewer requests at a time (--concurrency)."
        ) from None
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
        raise Hiccup("the connection breaks") from None
    except (aiohttp.ClientError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{url} does not answer as HTTP has it ({type(error).__name__}); mend --url.") from None


async def read(answer: aiohttp.ClientResponse, url: str, largest: int) -> bytes:
    """The body of an answer. UserError for a packed or an overlong one."""
    if (encoding := answer.headers.get("Content-Encoding", "identity")) != "identity":
        raise UserError(f"{url} packs its answers ({encoding[:20]!r}), which was not asked for; turn that off there.")
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > largest:
            raise UserError(f"{url} answers with more than {largest:,} bytes, which no response of this cap takes.")
    return bytes(body)


def seconds_asked(text: str) -> float:
    """What a Retry-After header asks for, in seconds: it is a number or a date. 0 for none and for anything else."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


async def introduced(address: str) -> tuple[list[dict[str, Any]], object]:
    """The models that a server lists, and its version where it states one."""
    async with session() as client:
        listed = await listed_models(client, address)
        return listed, (await fetched(client, address.removesuffix("/v1") + "/version")).get("version")


async def listed_models(client: aiohttp.ClientSession, address: str) -> list[dict[str, Any]]:
    """The models that a server lists, each with its name as ``id``. Nothing where it keeps no list."""
    entries = (await fetched(client, f"{address}/models")).get("data")
    entries = entries if isinstance(entries, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


async def fetched(client: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """A JSON object. Empty where the server has none at this address; UserError for a server out of reach."""
    got = await asked(client, "GET", url, 60, SMALL)
    try:
        content = json.loads(got.body) if got.status == 200 else {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
