"""Has a running server load the weights of a model folder, in place of those that it has.

Both servers take a path on their own disk and no tensors from elsewhere by HTTP: vLLM's weight transfer and SGLang's
updates from tensors or a group move GPU memory between processes that trust each other. So the folder must lie where
the server finds it, under the same path. Read were vLLM 0.33 and SGLang's documentation, "SGLang for RL Systems".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import xxhash

from acm.errors import UserError
from acm.evaluation.server_requests import SMALL, asked, run, session
from acm.evaluation.settings import Server
from acm.kept import text

SUMS = 64 * SMALL  # the most bytes of the sums of all tensors
SGLANG, VLLM = "sglang", "vllm"  # as they call themselves in the list of their models


def reload(server: Server, owner: object, folder: Path) -> dict[str, str]:
    """Have a server load a folder. Returns what the records say of it.

    owner: who lists the server's models. UserError for a server that has no such call, or does not do it.
    """
    if owner not in (SGLANG, VLLM):
        raise UserError(
            f"{server.url} calls itself {owner!r:.40}, and only vLLM and SGLang load weights while they run; "
            "leave out --reload, and start the server with the model."
        )
    found = run(reload_sglang if owner == SGLANG else reload_vllm, server, str(folder.resolve()))
    return {"loaded": folder.name, **found}


async def reload_sglang(server: Server, path: str) -> dict[str, str]:
    """One call loads the weights and empties the caches."""
    async with session() as client:
        done = await posted(client, server, "/update_weights_from_disk", {"model_path": path, "flush_cache": True})
        check(server, path, done.get("success"), done.get("message"))
    return {}


async def reload_vllm(server: Server, path: str) -> dict[str, str]:
    """Loads the weights, empties the cache of prefixes, and asks for the sums of what is loaded."""
    async with session() as client:
        given = {"method": "reload_weights", "kwargs": {"weights_path": path}}
        await posted(client, server, "/collective_rpc", given)
        emptied = await posted(client, server, "/reset_prefix_cache", {})
        check(server, path, emptied.get("success"), "the cache is held")
        sums = (await posted(client, server, "/weight_checker", {"action": "checksum"})).get("checksums")
    return {"weights": xxhash.xxh3_64_hexdigest(text(sums).encode())}


def check(server: Server, path: str, success: object, message: object) -> None:
    """UserError where a server says that it did not do it."""
    if success is not True:
        raise UserError(
            f"{server.url} does not load {path} ({str(message)[:300]!r}); the folder must lie there under this path."
        )


async def posted(client: aiohttp.ClientSession, server: Server, route: str, content: dict[str, Any]) -> dict[str, Any]:
    """The object that a server answers. UserError for another answer."""
    url = server.address.removesuffix("/v1") + route
    got = await asked(client, "POST", url, server.timeout, SUMS, json=content)
    if got.status == 404:
        raise UserError(f"{url} does not exist; vLLM has it where it was started with VLLM_SERVER_DEV_MODE=1.")
    try:
        found = json.loads(got.body) if got.body else {}
    except (ValueError, RecursionError):
        found = None
    if got.status != 200 and not (isinstance(found, dict) and found.get("success") is False):
        raise UserError(f"{url} says {got.said}; see its log.")
    if not isinstance(found, dict):
        raise UserError(f"{url} answers no JSON object; see whether --url is the server itself.")
    return found
