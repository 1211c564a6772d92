"""The command that searches for coefficients: search."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acm.commands.app import app, names_options, say
from acm.errors import UserError, check_distinct
from acm.evaluation.prompts import PROMPTS
from acm.evaluation.settings import MAX_TOKENS, Engine

if TYPE_CHECKING:
    import pandas as pd

SPACE, SAMPLING, ITEMS, RUNNING = (
    partial(typer.Option, rich_help_panel=title)
    for title in ("What is searched", "How it is searched", "Items", "Running")
)


@app.command(
    epilog="Example: acm search docs/recipe.yml --task abacus_easy --items 0:60 --fresh-items 60:250 --candidates 60 "
    "--max-tokens 320 --out runs/search"
)
@names_options
def search(
    recipe: Annotated[Path, typer.Argument(help="a YAML file in mergekit's format; its weights are what is searched")],
    task: Annotated[list[str], ITEMS(help="ours or lm-eval's, repeatable")],
    out: Annotated[Path, typer.Option(help="folder for journals, tables and recipes")] = Path("search"),
    items: Annotated[str, ITEMS(help="items of each task that choose, first:end")] = "0:60",
    fresh_items: Annotated[str | None, ITEMS(help="other items, which judge, first:end")] = None,
    fresh_task: Annotated[list[str] | None, ITEMS(help="tasks that judge (default: --task), repeatable")] = None,
    genome: Annotated[str, SPACE(help="one, depth or layer")] = "layer",
    group: Annotated[int, SPACE(help="blocks in a row that share λ, of genome layer")] = 1,
    terms: Annotated[int, SPACE(help="cosines along the depth, of genome depth")] = 3,
    bounds: Annotated[str, SPACE(help="of λ, low:high")] = "-0.5:1.5",
    also: Annotated[list[str] | None, SPACE(help="parameter=low:high, repeatable: density=0.1:1")] = None,
    sampler: Annotated[str, SAMPLING(help="cmaes, tpe, nsga2 or random")] = "cmaes",
    candidates: Annotated[int, SAMPLING(help="of the sampler, and as many of random search")] = 200,
    target: Annotated[
        list[float] | None,
        SAMPLING(help="tokens, or a share of plain interpolation's best accuracy (default: 0.85), repeatable"),
    ] = None,
    price: Annotated[float, SAMPLING(help="points of accuracy for a token above the target")] = 0.6,
    seed: Annotated[list[int], SAMPLING(help="repeatable")] = [0],  # noqa: B006 (nobody changes it)
    racing: Annotated[bool, SAMPLING(help="stop candidates that cannot win any more")] = True,
    jobs: Annotated[int, RUNNING(min=1, help="processes, each with a model of its own")] = 1,
    batch_size: Annotated[int, RUNNING(help="items generated together")] = Engine.batch_size,
    max_tokens: Annotated[int, RUNNING(help="token cap of a response")] = MAX_TOKENS,
    dtype: Annotated[str, RUNNING(help="float32, bfloat16 or float16")] = Engine.dtype,
    device: Annotated[str, RUNNING(help="cpu, cuda or cuda:1")] = Engine.device,
    prompt: Annotated[str | None, RUNNING(help=f"of tasks that take one: {', '.join(PROMPTS)}")] = None,
) -> None:
    """Search the coefficients of a merge by layer, beside plain interpolation and as many random candidates.

    Interrupted, the same command goes on. Docs: docs/search.md.
    """
    engine = Engine(batch_size=batch_size, dtype=dtype, device=device)
    low, high = pair_of("bounds", bounds)
    free = [text.partition("=") for text in also or []]
    check_distinct([name for name, _, _ in free], "parameters of --also")
    from acm.searching.run import Items, Search

    fresh = Items(tuple(fresh_task or task), *whole_pair("fresh_items", fresh_items)) if fresh_items else None
    if fresh_task and not fresh:
        raise UserError("fresh_task: tasks that judge need items; give --fresh-items first:end.")
    settings = Search(
        recipe=recipe, validation=Items(tuple(task), *whole_pair("items", items)), fresh=fresh, genome=genome, low=low,
        high=high, group=group, terms=terms, also={name: pair_of("also", value) for name, _, value in free},
        sampler=sampler, candidates=candidates, targets=target, price=price, seeds=tuple(seed), racing=racing,
        engine=engine, max_tokens=max_tokens, prompt=prompt,
    )  # fmt: skip
    say(shown(settings.run(out, jobs)))
    say(f"tables and recipes: {out}")


def pair_of(name: str, text: str) -> tuple[float, float]:
    """Two numbers with a colon between them."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise UserError(f"{name}: '{text}' is no pair of numbers; write low:high, such as 0:1.") from None
    return low, high


def whole_pair(name: str, text: str) -> tuple[int, int]:
    """Two whole numbers with a colon between them."""
    if not re.fullmatch(r"\d{1,9}:\d{1,9}", text):
        raise UserError(f"{name}: '{text}' is no range of items; write first:end, such as 0:60.")
    first, end = map(int, text.split(":"))
    if first >= end:
        raise UserError(f"{name}: {text} are no items; write first:end, such as 0:60.")
    return first, end


def shown(front: pd.DataFrame) -> str:
    """The judged points as text."""
    columns = {"arm": "arm", "candidate": "candidate", "role": "role", "accuracy": "accuracy %", "tokens": "tokens",
               "fresh_accuracy": "fresh %", "fresh_tokens": "fresh tokens", "optimism": "optimism, points"}  # fmt: skip
    table = front[[name for name in columns if name in front]].rename(columns=columns)
    return table.to_string(index=False, float_format=lambda value: f"{value:.1f}")
