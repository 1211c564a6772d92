"""Has a running server load the weights of a model folder, in place of those that it has.

Both servers take a path on their own disk and no tensors from elsewhere by HTTP: vLLM's weight transfer and SGLang's
updates from tensors or a group move GPU memory between processes that trust each other. So the folder must lie where
the server finds it, under the same path. A server keeps the config, tokenizer and template that it was started with, so
those of the folder must be the same. Read were vLLM 0.33 and SGLang's documentation, "SGLang for RL Systems".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import xxhash

from acm.errors import UserError
from acm.evaluation.loaded import frame_of, other_file
from acm.evaluation.server_requests import SMALL, asked, fetched, run, session
from acm.evaluation.settings import Server
from acm.kept import text

SUMS = 64 * SMALL  # the most bytes of the sums of all tensors
SGLANG, VLLM = "sglang", "vllm"  # as they call themselves in the list of their models


def reload(server: Server, entry: dict[str, Any], folder: Path) -> dict[str, str]:
    """Have a server load a folder. Returns what the records say of it.

    entry: of the served model in the server's list. UserError for a server that has no such call, does not do it, or
    was started with another config, tokenizer or template.
    """
    owner = entry.get("owned_by")
    if owner not in (SGLANG, VLLM):
        raise UserError(
            f"{server.url} calls itself {owner!r:.40}, and only vLLM and SGLang load weights while they run; "
            "leave out --reload, and start the server with the model."
        )
    root = entry.get("root") if owner == VLLM else run(root_of_sglang, server)
    check_frame(server, root, folder)
    found = run(reload_sglang if owner == SGLANG else reload_vllm, server, str(folder.resolve()))
    return {"loaded": folder.name, **found}


async def root_of_sglang(server: Server) -> object:
    """The folder whose weights an SGLang server has, as it says."""
    async with session() as client:
        return (await fetched(client, origin(server) + "/get_model_info")).get("model_path")


def check_frame(server: Server, root: object, folder: Path) -> None:
    """UserError unless the folder has all but the weights as the server's own has it, which must be seen from here."""
    try:
        held = frame_of(Path(root)) if isinstance(root, str) and Path(root).is_absolute() else {}
    except (OSError, ValueError):
        held = {}
    if "config.json" not in held:
        raise UserError(
            f"{server.url} names no model folder of this machine as its own ({str(root)[:200]!r}), so nobody sees "
            f"whether {folder.name} has its config and tokenizer; start it with a folder's whole path, or leave out "
            "--reload."
        )
    if odd := other_file(held, frame_of(folder)):
        raise UserError(
            f"{folder.name} has another {odd} than {root}, and {server.url} keeps that of its own folder; "
            "leave out --reload, and start the server with the model."
        )


async def reload_sglang(server: Server, path: str) -> dict[str, str]:
    """One call loads the weights and empties the caches."""
    async with session() as client:
        given = {"model_path": path, "flush_cache": True}
        check(server, path, await posted(client, server, "/update_weights_from_disk", given))
    return {}


async def reload_vllm(server: Server, path: str) -> dict[str, str]:
    """Loads the weights, empties the cache of prefixes, and asks for the sums of what is loaded."""
    async with session() as client:
        given = {"method": "reload_weights", "kwargs": {"weights_path": path}}
        check(server, path, {"success": True} | await posted(client, server, "/collective_rpc", given))
        check(server, path, {"message": "the cache is held"} | await posted(client, server, "/reset_prefix_cache", {}))
        sums = (await posted(client, server, "/weight_checker", {"action": "checksum"})).get("checksums")
    return {"weights": xxhash.xxh3_64_hexdigest(text(sums).encode())} if sums else {}


def check(server: Server, path: str, answer: dict[str, Any]) -> None:
    """UserError unless a server says that it did it."""
    if answer.get("success") is not True:
        raise UserError(
            f"{server.url} does not load {path} ({str(answer.get('message'))[:300]!r}); "
            "the folder must lie there under this path."
        )


def origin(server: Server) -> str:
    """The address before that of OpenAI's interface."""
    return server.address.removesuffix("/v1")


async def posted(client: aiohttp.ClientSession, server: Server, route: str, content: dict[str, Any]) -> dict[str, Any]:
    """The object that a server answers. UserError for another answer, and another status than 200."""
    url = origin(server) + route
    got = await asked(client, "POST", url, server.timeout, SUMS, json=content)
    if got.status == 404:
        raise UserError(f"{url} does not exist; vLLM has it where it was started with VLLM_SERVER_DEV_MODE=1.")
    if got.status != 200:
        raise UserError(f"{url} says {got.said}; see its log, and whether the folder lies there under the same path.")
    try:
        found = json.loads(got.body) if got.body else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{url} answers no JSON object; see whether --url is the server itself.")
    return found
