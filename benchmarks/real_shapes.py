"""The paper's 1.5B pair in its exact shapes and configs, of random weights: every step short of the evaluation, timed.

    .venv/bin/python benchmarks/real_shapes.py     # hours, 24 GB of free disk, 6 GB of memory or more

The base is like Qwen2.5-Math-1.5B (head tied to the embedding, 4,096 positions), the fine-tuned model like
DeepSeek-R1-Distill-Qwen-1.5B (own head, 131,072 positions). What is checked: `acm check` names each difference;
calibration on two texts gives coefficients and statistics; the merge by every method loads in transformers without a
missing tensor and generates five tokens.

Methods that decompose or factorise matrices take hours at 28 blocks. They are measured on models of the same shapes
with fewer blocks (`--blocks`), and what 28 blocks take is calculated. Each kind of statistics is calibrated, read by
its methods and deleted, so the disk holds one at a time: 6.6 GB of models, 3.6 GB of a merge, and at most 13.3 GB of
statistics (`led`).
A run that was stopped goes on where it was, from `rows.json` in the folder. The table is written after every row.
`--only twin,lore` measures these methods. All other rows are taken from the committed table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from common import machine, make_checkpoint, measure, qwen2
from shape_rows import Row, facts_in, rows_in

from abacus.tokenizer import build_tokenizer
from acm.calibration.registry import STATISTICS as KINDS
from acm.merging.registry import METHODS, MergeMethod

RESULT = Path(__file__).with_suffix(".md")
FOLDER = Path("runs/real-shapes")
SHAPE = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
BLOCKS = 28  # of the paper's pair
FEW = 2  # blocks of the models on which methods that decompose are measured
DECOMPOSE = [name for name, row in METHODS.items() if row.chunks in ("bands", "whole")]
WHOLE = [name for name in DECOMPOSE if METHODS[name].defaults.get("embeddings")]  # decompose embedding and head too
REST = "iso_c"  # measured at one block too, as WHOLE are: the difference gives what all but the blocks takes
SLOW = ("della_linear", "della", "tsvm", "iso_cts", "lore")  # come last
DISK = 24e9  # bytes
PLAIN = "plain"  # the calibration without statistics
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
TEXTS = [
    "question: nora has 17 shells. she finds 4 more. how many shells are left? answer:",
    "question: what is 17+5? answer:",
]
GENERATE = """
import sys, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
model, report = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, output_loading_info=True)
assert not report["missing_keys"] and not report["unexpected_keys"], report
out = model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=5, min_new_tokens=5, do_sample=False)
print(out.shape[1] - 3, model.config.tie_word_embeddings, model.config.max_position_embeddings)
"""


class Table:
    """The rows so far, kept in a file. facts: what the report says besides."""

    def __init__(self, stored: Path) -> None:
        self.stored = stored
        found = json.loads(stored.read_text()) if stored.is_file() else {"rows": [], "facts": {}}
        self.rows, self.facts = [Row(**row) for row in found["rows"]], found["facts"]

    def take_committed(self, names: list[str]) -> None:
        """Take what is not there yet from the committed table, but no merge by these methods: they are measured."""
        text = RESULT.read_text()
        new = [row for row in rows_in(text) if row.method not in names and not self.find(row.step, row.blocks)]
        self.rows, self.facts = new + self.rows, facts_in(text) | self.facts
        if REST in names:
            self.facts.pop("outside", None)  # follows from the new rows

    def find(self, step: str, blocks: int) -> Row | None:
        """The row of a step, if it was measured."""
        return next((row for row in self.rows if (row.step, row.blocks) == (step, blocks)), None)

    def add(self, row: Row) -> None:
        """Keep and print a row; it replaces an older one of the same step."""
        self.rows = [other for other in self.rows if (other.step, other.blocks) != (row.step, row.blocks)] + [row]
        print(row, flush=True)
        self.save()

    def save(self) -> None:
        """Store the rows, and the table that they give."""
        self.stored.write_text(json.dumps({"rows": [asdict(row) for row in self.rows], "facts": self.facts}))
        RESULT.write_text(report(self))


def make_pair(pair: Path, blocks: int, second: bool) -> None:
    """Two or three checkpoints, with the embedded tokenizer: the vocabularies have the paper's sizes, not its words."""
    pair.mkdir(parents=True, exist_ok=True)
    configs = {
        "base": qwen2(blocks, 151936, tied=True, **SHAPE),
        "finetuned": qwen2(blocks, 151936, tied=False, **SHAPE) | {"max_position_embeddings": 131072},
    }
    if second:
        configs["second"] = configs["finetuned"]
    for seed, (name, config) in enumerate(configs.items()):
        if not (pair / name / "tokenizer_config.json").is_file():
            shutil.rmtree(pair / name, ignore_errors=True)
            make_checkpoint(pair / name, config, seed)
            build_tokenizer().save_pretrained(pair / name)
    (pair / "texts.txt").write_text("\n".join(TEXTS) + "\n")


def acm(*arguments: object) -> list[str]:
    """A command of ours."""
    return [sys.executable, "-m", "acm", *map(str, arguments)]


def kind_of(method: MergeMethod) -> str:
    """The calibration that a method reads, a kind of statistics or none."""
    return "sensitivity" if any(found.kind == "layers" for found in method.takes) else method.calibrated or PLAIN


def files_of(method: MergeMethod) -> dict[str, str]:
    """The parameters of a method that name files of its calibration."""
    found, folder = {}, f"{kind_of(method)}/statistics"
    for parameter in method.takes:
        if parameter.kind == "layers":
            found[parameter.name] = f"{folder}/{parameter.name}.json"
        elif parameter.kind == "statistics":
            model = "/base" if parameter.name == "base_statistics" else "/finetuned"
            found[parameter.name] = f"{folder}/{method.calibrated}{'' if method.base_statistics else model}"
    return found


def takes_two(method: MergeMethod) -> bool:
    """Whether a method merges two fine-tuned models here.

    A method that decomposes gets two where it can: with one, several decompose nothing.
    """
    return method.models[0] > 1 or (method.name in DECOMPOSE and not method.statistics)


def recipe(pair: Path, method: str) -> Path:
    """The method's example, with ACM's coefficients where it takes them; λ = 0.5 for two fine-tuned models."""
    path, row = pair / f"{method}.yml", METHODS[method]
    names = ["finetuned", "second"] if takes_two(row) else ["finetuned"]
    content: dict[str, Any] = {"merge_method": method, "dtype": "bfloat16", "parameters": row.example | files_of(row)}
    if row.takes_coefficients:
        content["base_model"] = str(pair / "base")
        content["coefficients"] = [0.5] if len(names) > 1 else f"{kind_of(row)}/coefficients.json"
    else:
        names = ["base", *names]
    path.write_text(yaml.safe_dump(content | {"models": [{"model": str(pair / name)} for name in names]}))
    return path


def calibrate(pair: Path, blocks: int, kind: str, table: Table) -> None:
    """Calibrate the pair, with one kind of statistics, unless that is there already."""
    step = "calibrate, 2 texts" + (f", {kind}" if kind != PLAIN else "")
    if table.find(step, blocks) and (pair / kind).is_dir():
        return
    shutil.rmtree(pair / kind, ignore_errors=True)
    options = ("--texts", pair / "texts.txt", "--out", pair / kind, "--dtype", "bfloat16")
    statistic = ("--statistic", kind) if kind != PLAIN else ()
    found = measure(acm("calibrate", pair / "base", pair / "finetuned", *options, *statistic), ONE_THREAD)
    table.add(Row(step, blocks, found.wall, found.cpu, found.anonymous))


def merge(pair: Path, blocks: int, method: str, threads: int) -> Row:
    """A merge, measured, and what transformers makes of it."""
    out = pair / "merged"
    shutil.rmtree(out, ignore_errors=True)
    found = measure(acm("merge", recipe(pair, method), out, "--threads", threads), ONE_THREAD)
    generate, environment = [sys.executable, "-c", GENERATE, str(out)], os.environ | ONE_THREAD
    done = subprocess.run(generate, env=environment, capture_output=True, text=True, check=True)
    tokens, tied, positions = done.stdout.split()
    shutil.rmtree(out)
    text = f"{tokens} tokens; tied head {tied}; {positions} positions"
    return Row(f"merge, {method}", blocks, found.wall, found.cpu, found.anonymous, text)


def facts(pair: Path) -> dict[str, Any]:
    """What `acm check` says of a merge, and the coefficients of the calibration."""
    command = acm("check", recipe(pair, "task_arithmetic"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads((pair / PLAIN / "coefficients.json").read_text())["coefficients"]["finetuned"]
    lines = (line.replace(f"{pair}/", "") for line in (done.stdout + done.stderr).splitlines())
    coefficients = f"{len(found)} coefficients, from {min(found.values()):.3f} to {max(found.values()):.3f}"
    return {"checked": [line for line in lines if line.strip()], "coefficients": coefficients}


def stage(pair: Path, blocks: int, methods: list[str], table: Table, threads: int) -> None:
    """Measure methods on models of so many blocks: make the models, calibrate a kind, merge, delete what it wrote."""
    wanted = [name for name in methods if not table.find(f"merge, {name}", blocks)]
    if not wanted:
        return
    make_pair(pair, blocks, second=any(takes_two(METHODS[name]) for name in wanted))
    for kind in (PLAIN, *KINDS):
        reading = [name for name in wanted if kind_of(METHODS[name]) == kind]
        if not all(takes_two(METHODS[name]) for name in reading):
            calibrate(pair, blocks, kind, table)
            if kind == PLAIN:
                table.facts |= facts(pair)
        for name in reading:
            table.add(merge(pair, blocks, name, threads))
        shutil.rmtree(pair / kind, ignore_errors=True)
        shutil.rmtree(pair / "second", ignore_errors=True)  # no method that reads statistics takes it


def main(
    folder: Annotated[Path, typer.Option(help="where the checkpoints go; removed afterwards")] = FOLDER,
    blocks: Annotated[int, typer.Option(min=1, max=BLOCKS, help="of models for methods that decompose")] = FEW,
    threads: Annotated[int, typer.Option(min=1, help="tensors merged at a time")] = 1,
    keep: Annotated[bool, typer.Option(help="keep the checkpoints")] = False,
    only: Annotated[str, typer.Option(help="methods, by commas; other rows are the committed table's")] = "",
) -> None:
    """Make the pair, run every step, print and store the table."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if (free := shutil.disk_usage(folder).free + there) < DISK:
        raise SystemExit(f"{DISK / 1e9:.0f} GB of disk are needed, {free / 1e9:.0f} GB are free")
    table = Table(folder / "rows.json")
    table.facts["threads"] = threads
    names = only.split(",") if only else list(METHODS)
    if unknown := set(names) - set(METHODS):
        raise SystemExit(f"no methods: {', '.join(sorted(unknown))}")
    if only:
        table.take_committed(names)
    order = sorted(names, key=lambda name: SLOW.index(name) if name in SLOW else -1)
    streaming, others = ([name for name in order if (name in DECOMPOSE) == wanted] for wanted in (False, True))
    alone = [name for name in (REST, *WHOLE) if name in names]
    for count, methods in ((BLOCKS, streaming), (1, alone), (blocks, others)):
        pair = folder / f"{count}-blocks"
        stage(pair, count, methods, table, threads)
        if not keep:
            shutil.rmtree(pair, ignore_errors=True)
    print(report(table))
    if not keep:
        shutil.rmtree(folder)


def outside_blocks(table: Table, method: str) -> float:
    """Seconds of CPU that start-up, embedding and head take, from one block and from more; NaN: not known."""
    if method not in WHOLE and "outside" in table.facts:
        return float(table.facts["outside"])
    found = {row.blocks: row.cpu for row in table.rows if row.step == f"merge, {method if method in WHOLE else REST}"}
    if 1 not in found or len(found) < 2:
        return float("nan")
    more = max(found)
    return max(0.0, found[1] - (found[more] - found[1]) / (more - 1))


def line(row: Row, table: Table) -> str:
    """A row as Markdown, with what the method takes at all blocks where that can be calculated."""
    outside, calculated = outside_blocks(table, row.method), ""
    if row.calculated:
        calculated = row.calculated
    elif row.blocks < BLOCKS and row.step.startswith("merge") and outside == outside:
        calculated = f"{outside + (row.cpu - outside) * BLOCKS / row.blocks:.0f}"
    measured = f"{row.wall:.0f} | {row.cpu:.0f} | {calculated} | {row.anonymous:.2f}"
    return f"| {row.step} | {row.blocks} | {measured} | {row.text} |"


def report(table: Table) -> str:
    """The table, and what `acm check` says, as Markdown."""
    outside, known = outside_blocks(table, REST), table.facts
    order = ["calibrate", *(f"merge, {name}" for name in METHODS)]
    rows = sorted(
        table.rows, key=lambda row: (order.index(row.step if row.step in order else "calibrate"), -row.blocks)
    )
    missing = [name for name in METHODS if not any(row.step == f"merge, {name}" for row in table.rows)]
    lines = [
        "# The paper's 1.5B pair in its shapes, random weights\n",
        f"{machine()}; calibration has one thread, merging `--threads {known['threads']}`, each with "
        "OMP_NUM_THREADS=1; made by `benchmarks/real_shapes.py`. Other work may have shared the cores: seconds of CPU "
        "are the figure to trust.\n",
        "Methods that decompose or factorise matrices are measured on models of the same shapes with fewer blocks. "
        f"What they take at {BLOCKS} is calculated and not measured: each block costs the same. Start-up, embedding "
        f"and head take {outside:.1f} s of CPU of it, by `{REST}` at one block and at more; for "
        f"{' and '.join(WHOLE)}, which decompose embedding and head too, by themselves. `cart` decomposes "
        "nothing here: of two task vectors it gives the mean.\n",
        f"| step | blocks | s | s of CPU | s of CPU at {BLOCKS} blocks, calculated | peak anonymous GB"
        " | loaded in transformers, generated |",
        "|---|---|---|---|---|---|---|",
        *(line(row, table) for row in rows),
        *([f"\nNot measured: {', '.join(missing)}."] if missing else []),
        "\nWhat `acm check` says of the merge by task arithmetic:\n",
        "```",
        *known.get("checked", []),
        "```",
        f"\n{known.get('coefficients', 'no coefficients')}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
