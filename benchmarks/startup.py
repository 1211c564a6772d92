"""How long commands take to start: import, help, a check, and the first byte of a merge. Before and after, in one run.

    .venv/bin/python benchmarks/startup.py                         # this version alone: a minute, 3 GB of disk
    .venv/bin/python benchmarks/startup.py --before OLD_CHECKOUT   # beside another version: two minutes

A base and two fine-tuned checkpoints of Qwen2.5-0.5B's shape are made of random bfloat16 weights, and removed
afterwards. The two versions run in turn, each command as a process of its own, files in memory. A merge's first byte is
looked for in its hidden folder: the header of a shard, then the first entry of the largest tensor, which is merged
first. "Cold" is the first merge after an installation: numba compiles the loops then, and keeps them. Seconds of CPU
are of the process until then; a busy machine changes them less than the time on the wall.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import yaml
from common import machine, make_checkpoint, qwen2

RESULT = Path(__file__).with_suffix(".md")
HERE = Path(__file__).resolve().parent.parent
SHAPE = {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2}
POLL = 0.002  # seconds between two looks at a file
PATIENCE = 120.0  # seconds until a process is given up
Seconds = tuple[float, float]  # on the wall, of CPU
Case = Callable[[Path], Seconds]  # of the version with this root


def started(tree: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """A Python process that imports the version in this folder."""
    variables = os.environ | {"PYTHONPATH": str(tree)} | environment
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, *arguments], cwd=tree, env=variables, stdout=quiet, stderr=quiet)


def whole(tree: Path, *arguments: str) -> Seconds:
    """From the start of a process to its end."""
    used, start = of_children(), time.perf_counter()
    process = started(tree, *arguments)
    if status := process.wait():
        raise subprocess.CalledProcessError(status, arguments)
    return time.perf_counter() - start, of_children() - used


def of_children() -> float:
    """Seconds of CPU of the processes that have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def first_bytes(tree: Path, recipe: Path, **environment: str) -> tuple[Seconds, Seconds]:
    """From a merge's start to the first byte of a shard, and to the first merged entry. The merge is then killed."""
    out = recipe.with_name("out")
    work = out.with_name(f".{out.name}.part")
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    process = started(tree, "-m", "acm", "merge", str(recipe), str(out), **environment)
    header = wait(process, lambda: any(b"{" in beginning(path, 0) for path in work.glob("*.safetensors")))
    wait(process, (work / "journal.jsonl").is_file)  # all headers are written
    path, place = largest_tensor(work)
    entry = wait(process, lambda: any(beginning(path, place)))
    process.kill()
    process.wait()
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
    return (header[0] - start, header[1]), (entry[0] - start, entry[1])


def wait(process: subprocess.Popen[bytes], seen: Callable[[], bool]) -> Seconds:
    """The time at which something is seen, and the process's CPU until then; RuntimeError if it is not seen."""
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        ended = process.poll() is not None
        if seen():
            return time.perf_counter(), cpu(process.pid)
        if ended:
            break
        time.sleep(POLL)
    process.kill()
    raise RuntimeError("the merge wrote nothing that could be seen.")


def cpu(pid: int) -> float:
    """Seconds of CPU of a process; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def beginning(path: Path, place: int) -> bytes:
    """Some bytes of a file from a place."""
    with path.open("rb") as file:
        file.seek(place)
        return file.read(256)


def largest_tensor(work: Path) -> tuple[Path, int]:
    """The shard and place in it of the largest tensor."""
    found = []
    for path in work.glob("*.safetensors"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                start, stop = entry["data_offsets"]
                found.append((stop - start, path, 8 + length + start))
    _, path, place = max(found)
    return path, place


def merged(tree: Path, recipe: Path) -> Seconds:
    """A whole merge."""
    out = recipe.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    found = whole(tree, "-m", "acm", "merge", str(recipe), str(out))
    shutil.rmtree(out)
    os.sync()
    return found


def cold(tree: Path, recipe: Path) -> Seconds:
    """The first merged entry where no loop has been compiled yet."""
    with tempfile.TemporaryDirectory() as cache:
        return first_bytes(tree, recipe, NUMBA_CACHE_DIR=cache)[1]


def cases(recipe: Path) -> dict[str, Case]:
    """What is measured."""
    return {
        "an interpreter that does nothing": lambda tree: whole(tree, "-c", "pass"),
        "`import acm`": lambda tree: whole(tree, "-c", "import acm"),
        "`acm --help`": lambda tree: whole(tree, "-m", "acm", "--help"),
        "`acm check recipe.yml`": lambda tree: whole(tree, "-m", "acm", "check", str(recipe)),
        "`acm evaluate --help`": lambda tree: whole(tree, "-m", "acm", "evaluate", "--help"),
        "`acm merge`: first byte of a shard": lambda tree: first_bytes(tree, recipe)[0],
        "`acm merge`: first merged entry": lambda tree: first_bytes(tree, recipe)[1],
        "`acm merge`: first merged entry, cold": lambda tree: cold(tree, recipe),
        "`acm merge`: all of it": lambda tree: merged(tree, recipe),
    }


def prepare(folder: Path, layers: int) -> Path:
    """Checkpoints, and a recipe by task arithmetic."""
    folder.mkdir(parents=True, exist_ok=True)
    config = qwen2(layers, 151936, tied=True, **SHAPE)
    for seed, name in enumerate(("base", "left", "right")):
        if not (folder / name).is_dir():
            make_checkpoint(folder / name, config, seed)
    recipe = folder / "recipe.yml"
    models = [{"model": str(folder / name)} for name in ("left", "right")]
    content = {"merge_method": "task_arithmetic", "base_model": str(folder / "base"), "models": models}
    recipe.write_text(yaml.safe_dump(content | {"parameters": {"weight": 0.7}, "dtype": "bfloat16"}))
    return recipe


def main(
    before: Annotated[Path | None, typer.Option(help="root of another version of this repository")] = None,
    folder: Annotated[Path, typer.Option(help="where the checkpoints go; removed afterwards")] = Path("runs/startup"),
    layers: Annotated[int, typer.Option(help="of the checkpoints")] = 24,
    repeats: Annotated[int, typer.Option(help="runs of each command; the median counts")] = 5,
    write: Annotated[bool, typer.Option(help="store the table beside this file")] = True,
    keep: Annotated[bool, typer.Option(help="keep the checkpoints, and use them if they are there")] = False,
) -> None:
    """Make checkpoints, run everything, print the table."""
    folder = folder.resolve()
    recipe = prepare(folder, layers)
    trees = [before.resolve(), HERE] if before else [HERE]
    rows = {}
    for name, case in cases(recipe).items():
        for tree in trees:
            case(tree)  # warms what is cached
        found = [[case(tree) for tree in trees] for _ in range(repeats)]
        rows[name] = [middle(list(runs)) for runs in zip(*found, strict=True)]
        print(name, rows[name], flush=True)
    text = report(rows)
    print(text)
    if write:
        RESULT.write_text(text)
    if not keep:
        shutil.rmtree(folder)


def middle(runs: list[Seconds]) -> Seconds:
    """The medians of several runs."""
    wall, used = zip(*runs, strict=True)
    return statistics.median(wall), statistics.median(used)


def report(rows: dict[str, list[Seconds]]) -> str:
    """The table as Markdown."""
    compared = len(next(iter(rows.values()))) > 1
    head = ["what", "s", "s of CPU"]
    if compared:
        head = ["what", "before, s", "after, s", "ratio", "before, s of CPU", "after, s of CPU", "ratio"]
    lines = [
        "# Starting: from the start of a process\n",
        f"{machine()}; made by `benchmarks/startup.py`. Medians. The merge is of two task vectors of 0.5B parameters "
        "by task arithmetic, bfloat16, files in memory, `device: auto`.\n",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for name, measured in rows.items():
        shown = []
        for values in zip(*measured, strict=True):  # on the wall, then of CPU
            shown += [f"{value:.2f}" for value in values]
            shown += [f"{values[1] / values[0]:.2f}"] if compared else []
        lines.append("| " + " | ".join([name, *shown]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
