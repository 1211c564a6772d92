"""The paper's six mathematics benchmarks: where they come from, how many items, and a hash of what we evaluated.

A folder named by the environment variable ACM_DATA is read first (``benchmarks/<name>.jsonl`` in it), then the Hugging Face
hub. Either way count and hash must hold: benchmarks of one name circulate in several editions.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from acm.errors import UserError, unknown

FOLDER = "ACM_DATA"
# The files that the paper's evaluation reads; each is <name>/test.jsonl there.
QWEN = "https://github.com/QwenLM/Qwen2.5-Math/tree/main/evaluation/data"
Row = dict[str, object]


BOX = r"\\f?box(?:ed)?\s*\{"
BRACES = re.compile(rf"{BOX}|\\(?!{BOX}).|[{{}}]", re.DOTALL)  # \{ and \} are no braces


def last_box(text: str) -> str | None:
    r"""Content of the last complete ``\boxed{…}`` or ``\fbox{…}``, braces nested; None without one. One pass, whatever the text."""
    opened: list[tuple[bool, int]] = []
    found = (-1, "")
    for token in BRACES.finditer(text):
        if token[0].endswith("{") and token[0] != r"\{":
            opened.append((token[0] != "{", token.end()))
        elif token[0] == "}" and opened:
            boxed, start = opened.pop()
            if boxed and start > found[0]:
                found = (start, text[start : token.start()].strip())
    return found[1] if found[0] >= 0 else None


def plain(row: Row) -> str:
    return str(row["answer"])


def after_hashes(row: Row) -> str:
    """GSM8K: what follows ``####``, without separators of thousands."""
    return str(row["answer"]).rsplit("####", 1)[1].strip().replace(",", "")


# Minerva golds that are program text; everything else is taken as it stands.
MINERVA_REPAIRS = {
    "np.arcsin(10/13)": r"\arcsin(10/13)",
    "-1./3": "-1/3",
    "-3./2": "-3/2",
    r"\frac{1}{2a}(\exp{a*t} - \exp{-a*t})": r"\frac{1}{2a}(e^{at} - e^{-at})",
    r"\frac{1}{2}(\exp{a*t} + \exp{-a*t})": r"\frac{1}{2}(e^{at} + e^{-at})",
    r"x_{0} \cos (\omega t)+$ $\dot{x}_{0} \sin (\omega t) / \omega": r"x_{0} \cos (\omega t)+\dot{x}_{0} \sin (\omega t) / \omega",
}


def boxed_in_solution(row: Row) -> str:
    """Minerva: the last box of the solution (the hub's edition has it apart already)."""
    gold = (last_box(str(row["solution"])) or "") if "solution" in row else str(row["answer"])
    return MINERVA_REPAIRS.get(gold, gold)


OLYMPIAD_REPAIRS = {"$t(0,4]$": "(0,4]"}  # a slip of the pen


def final_answers(row: Row) -> str:
    """OlympiadBench: a list with one entry, which itself may hold several answers, separated by commas.

    Its ``unit`` is left out: the grader removes units. Its ``error`` too: the one item that has it asks for one decimal place.
    """
    gold = ",".join(str(answer) for answer in row["final_answer"])
    return OLYMPIAD_REPAIRS.get(gold, gold)


@dataclass(frozen=True)
class Source:
    """Where on the hub a benchmark is, and how many items it has."""

    dataset: str
    split: str
    items: int
    config: str | None = field(default=None, kw_only=True)
    revision: str | None = field(
        default=None, kw_only=True
    )  # a commit; None: the hub was never seen from where this was written


@dataclass(frozen=True)
class Benchmark(Source):
    """``gold``: row → reference answer, as it stands. ``sha256``: of the items, see ``digest``."""

    sha256: str
    gold: Callable[[Row], str]

    def item(self, row: Row) -> Row:
        """question and gold of a row, ``$`` around the whole gold removed; KeyError if a field is missing."""
        gold = self.gold(row).strip()
        if gold.startswith("$") and gold.endswith("$") and gold.count("$") == 2:
            gold = gold[1:-1].strip()
        return {"question": str(row["problem"] if "problem" in row else row["question"]).strip(), "gold": gold}


BENCHMARKS = {
    "gsm8k": Benchmark(
        "openai/gsm8k",
        "test",
        1319,
        "2ef630045032df66c4189c5000df62f2dc07de85d7d8551288d5f891add4be0a",
        after_hashes,
        config="main",
    ),
    "math500": Benchmark(
        "HuggingFaceH4/MATH-500", "test", 500, "108425accfd3c712a24b3b4086d3ab5da9b102abc5341be34c067764a9893483", plain
    ),
    "minerva_math": Benchmark(
        "math-ai/minervamath",
        "test",
        272,
        "b2b820379e774f1497e3176d99f5de849176eac2dac4fb28638afcdfb6f3e43b",
        boxed_in_solution,
    ),
    "olympiadbench": Benchmark(
        "Hothan/OlympiadBench",
        "train",
        675,
        "88abf998a9a27ca162442228cbc38646de1b61a17232b56839445a2a4f8b7817",
        final_answers,
        config="OE_TO_maths_en_COMP",
    ),
    "college_math": Benchmark(
        "di-zhang-fdu/College_Math_Test",
        "test",
        2818,
        "9c36bf0c0ea9bd12a367b829dc9295c029236d7badf1fa8fa950396ea9a2e41a",
        plain,
    ),
    "aime24": Benchmark(
        "HuggingFaceH4/aime_2024",
        "train",
        30,
        "88621b45d2349bf974ad28cc9dc53ee33206bbb88da2968f53af050d8ad926dd",
        plain,
    ),
}


def digest(items: list[Row]) -> str:
    """SHA-256 of the [question, gold] pairs as JSON, runs of white space made one blank, so that line ends do not matter."""
    pairs = [[" ".join(str(item[key]).split()) for key in ("question", "gold")] for item in items]
    return hashlib.sha256(json.dumps(pairs, ensure_ascii=True).encode()).hexdigest()


def load_benchmark(name: str) -> list[Row]:
    """All items: question, gold. UserError for a missing or other edition, or where neither a folder nor the hub has it."""
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    benchmark = BENCHMARKS[name]
    if folder := os.environ.get(FOLDER):
        rows, source = from_folder(Path(folder) / "benchmarks" / f"{name}.jsonl", remedy(name))
    else:
        rows, source = from_hub(benchmark, remedy(name))
    try:
        items = [benchmark.item(row) for row in rows]
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{source} has rows without what {name} needs ({error!r}). {remedy(name)}") from None
    if len(items) != benchmark.items:
        raise UserError(f"{source} has {len(items)} items, and {name} has {benchmark.items}. {remedy(name)}")
    if digest(items) != benchmark.sha256:
        raise UserError(
            f"{source} is another edition of {name}: questions or answers differ from those hashed here. {remedy(name)}"
        )
    return items


def from_folder(path: Path, remedy: str) -> tuple[list[Row], str]:
    """The rows of a JSONL file, and its name."""
    if not path.is_file():
        raise UserError(f"{path} does not exist (the environment variable {FOLDER} names the folder). {remedy}")
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except ValueError as error:
        raise UserError(f"{path} is not JSON lines: {error}. {remedy}") from None
    return rows, str(path)


def from_hub(benchmark: Source, remedy: str) -> tuple[list[Row], str]:
    """The rows of a data set of the hub, and its name."""
    import datasets

    source = f"the hub's {benchmark.dataset}"
    try:
        found = datasets.load_dataset(
            benchmark.dataset, benchmark.config, split=benchmark.split, revision=benchmark.revision
        )
    except Exception as error:  # no network, a renamed data set, a missing split: the remedy is the same
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{source} cannot be loaded ({first}). {remedy}") from None
    return list(found), source


def remedy(name: str) -> str:
    return (
        f"Remedy: set {FOLDER} to a folder that holds benchmarks/{name}.jsonl, a copy of {name}/test.jsonl from {QWEN}."
    )
