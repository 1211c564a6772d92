"""Loads published benchmarks, and records where each comes from, how many items it has, and a hash of the items.

The files are not part of this repository. They are read from ``benchmarks/<name>.jsonl`` in the folder that the
environment variable ACM_DATA names, else from the Hugging Face hub. One name often stands for several editions of a
benchmark. So the number of items must match, and so must the hash where one is known. Where none is known, the log has
the hash of what was read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from acm.errors import UserError, unknown
from acm.evaluation.boxes import last_box
from acm.evaluation.task_files import Item, arguments_of, our_tasks
from acm.reading import parse_json

LOG = logging.getLogger(__name__)
FOLDER = "ACM_DATA"
# Address of the files that the paper's evaluation reads. Each is <name>/test.jsonl there.
QWEN = "https://github.com/QwenLM/Qwen2.5-Math/tree/main/evaluation/data"
LIVE = "livecodebench"  # the one benchmark that comes in releases and in several files
RELEASES = {  # release of LiveCodeBench → number of items, by its dataset card
    "release_v1": 400,
    "release_v2": 511,
    "release_v3": 612,
    "release_v4": 713,
    "release_v5": 880,
}
RELEASE = "release_v5"  # the release that is read by default; the paper does not say which one it used
Row = dict[str, Any]  # a line of a benchmark's file, as its makers wrote it


def plain(row: Row) -> str:
    """The answer as it stands."""
    return str(row["answer"])


def after_hashes(row: Row) -> str:
    """GSM8K: what follows ``####``, without separators of thousands."""
    return str(row["answer"]).rsplit("####", 1)[1].strip().replace(",", "")


# Minerva golds that are program text. Everything else is taken as it stands.
MINERVA_REPAIRS = {
    "np.arcsin(10/13)": r"\arcsin(10/13)",
    "-1./3": "-1/3",
    "-3./2": "-3/2",
    r"\frac{1}{2a}(\exp{a*t} - \exp{-a*t})": r"\frac{1}{2a}(e^{at} - e^{-at})",
    r"\frac{1}{2}(\exp{a*t} + \exp{-a*t})": r"\frac{1}{2}(e^{at} + e^{-at})",
    r"x_{0} \cos (\omega t)+$ $\dot{x}_{0} \sin (\omega t) / \omega": (
        r"x_{0} \cos (\omega t)+\dot{x}_{0} \sin (\omega t) / \omega"
    ),
}


def boxed_in_solution(row: Row) -> str:
    """Minerva: the last box of the solution. The hub's edition has the answer apart already."""
    gold = (last_box(str(row["solution"])) or "") if "solution" in row else str(row["answer"])
    return MINERVA_REPAIRS.get(gold, gold)


OLYMPIAD_REPAIRS = {"$t(0,4]$": "(0,4]"}  # a slip of the pen


def final_answers(row: Row) -> str:
    """OlympiadBench: a list with one entry. The entry itself may hold several answers, separated by commas.

    The field ``unit`` is left out, because the grader removes units. The field ``error`` is left out too: the one item
    that has it asks for one decimal place.
    """
    gold = ",".join(str(answer) for answer in row["final_answer"])
    return OLYMPIAD_REPAIRS.get(gold, gold)


def asked(row: Row) -> str:
    """The question as it stands."""
    return str(row["problem"] if "problem" in row else row["question"])


LETTERS = "ABCD"


def options(row: Row) -> list[str]:
    """GPQA: the four options in an order that follows from the question, so it is the same for everyone."""
    found = [str(row[key]).strip() for key in ("Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3)))]
    random.Random(str(row["Question"]).strip()).shuffle(found)
    return found


def with_options(row: Row) -> str:
    """GPQA: the question, then the options, one a line."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options(row), strict=True)]
    choice = "Which option is right? The final answer is its letter alone."
    return "\n".join([str(row["Question"]).strip(), "", *lines, "", choice])


def right_letter(row: Row) -> str:
    """GPQA: the letter of the right option."""
    return LETTERS[options(row).index(str(row["Correct Answer"]).strip())]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its name on the hub, its split there, its number of items.

    config: of the data set. revision: a commit; None, because the hub was never seen from where this was written.
    files: below ``ACM_DATA/benchmarks``; None: ``<name>.jsonl``. gated: whether the hub asks to accept terms first.
    """

    dataset: str
    split: str
    items: int
    config: str | None = field(default=None, kw_only=True)
    revision: str | None = field(default=None, kw_only=True)
    files: str | None = field(default=None, kw_only=True)
    gated: bool = field(default=False, kw_only=True)
    graded_by: ClassVar[str]


class Code(Benchmark):
    """A benchmark that is graded by running programs."""

    graded_by = "running its tests"


class Instructions(Benchmark):
    """A benchmark of instructions that a program can check."""

    graded_by = "lm-eval's checks, all of an item's instructions, strictly"


@dataclass(frozen=True)
class Mathematics(Benchmark):
    """A benchmark that is graded by comparing answers.

    sha256: of the items, see :func:`digest`; None: not known. gold, question: row → reference answer and question, as
    they stand.
    """

    sha256: str | None
    gold: Callable[[Row], str]
    question: Callable[[Row], str] = field(default=asked, kw_only=True)
    graded_by: ClassVar[str] = "math-verify, and as a string"

    def item(self, row: Row) -> Item:
        """Question and gold of a row, without ``$`` around the whole gold. KeyError where a field is missing."""
        gold = self.gold(row).strip()
        if gold.startswith("$") and gold.endswith("$") and gold.count("$") == 2:
            gold = gold[1:-1].strip()
        return {"question": self.question(row).strip(), "gold": gold}


# fmt: off
BENCHMARKS: dict[str, Benchmark] = {
    "gsm8k": Mathematics("openai/gsm8k", "test", 1319,
                         "2ef630045032df66c4189c5000df62f2dc07de85d7d8551288d5f891add4be0a", after_hashes,
                         config="main"),
    "math500": Mathematics("HuggingFaceH4/MATH-500", "test", 500,
                           "108425accfd3c712a24b3b4086d3ab5da9b102abc5341be34c067764a9893483", plain),
    "minerva_math": Mathematics("math-ai/minervamath", "test", 272,
                                "b2b820379e774f1497e3176d99f5de849176eac2dac4fb28638afcdfb6f3e43b", boxed_in_solution),
    "olympiadbench": Mathematics("Hothan/OlympiadBench", "train", 675,
                                 "88abf998a9a27ca162442228cbc38646de1b61a17232b56839445a2a4f8b7817", final_answers,
                                 config="OE_TO_maths_en_COMP"),
    "college_math": Mathematics("di-zhang-fdu/College_Math_Test", "test", 2818,
                                "9c36bf0c0ea9bd12a367b829dc9295c029236d7badf1fa8fa950396ea9a2e41a", plain),
    "aime24": Mathematics("HuggingFaceH4/aime_2024", "train", 30,
                          "88621b45d2349bf974ad28cc9dc53ee33206bbb88da2968f53af050d8ad926dd", plain),
    # The next four were not seen here. Names, splits, fields and numbers of items are those of MathArena's dataset
    # cards (of the two of 2025 split and fields are guesses, those of aime_2026), of GPQA those of its paper
    # (arXiv 2311.12022) and of lm-eval's task.
    "aime25": Mathematics("MathArena/aime_2025", "train", 30, None, plain),
    "aime26": Mathematics("MathArena/aime_2026", "train", 30, None, plain),
    "hmmt_feb25": Mathematics("MathArena/hmmt_feb_2025", "train", 30, None, plain),
    "gpqa_diamond": Mathematics("Idavidrein/gpqa", "train", 198, None, right_letter, question=with_options,
                                config="gpqa_diamond", gated=True),
    "ifeval": Instructions("google/IFEval", "train", 541),  # from lm-eval's own task; the number is a guess
    "humaneval_pro": Code("CodeEval-Pro/humaneval-pro", "train", 164),
    "mbpp_pro": Code("CodeEval-Pro/mbpp-pro", "train", 378),
    LIVE: Code("livecodebench/code_generation_lite", "test", RELEASES[RELEASE],
               files="livecodebench/test*.jsonl"),
}
# fmt: on


def table() -> str:
    """The rows of the table in docs/benchmarks.md: our tasks whose data are others', as Markdown."""
    data = {task: arguments_of(task).get("name") for task in our_tasks()}
    return "\n".join(
        f"| `{task}` | {known.items} | `{known.files or f'{name}.jsonl'}` | {known.dataset}{' (gated)' * known.gated} "
        f"| {known.graded_by} |"
        for name, known in BENCHMARKS.items()
        for task in data
        if data[task] == name
    )


def digest(items: list[Item]) -> str:
    """SHA-256 of the [question, gold] pairs as JSON. White space of any length counts as one blank."""
    pairs = [[" ".join(str(item[key]).split()) for key in ("question", "gold")] for item in items]
    return hashlib.sha256(json.dumps(pairs, ensure_ascii=True).encode()).hexdigest()


def load_benchmark(name: str) -> list[Item]:
    """All items of a mathematics benchmark: question and gold.

    Raises UserError for a missing or other edition, and where neither the folder nor the hub has it.
    """
    benchmark = BENCHMARKS.get(name)
    if not isinstance(benchmark, Mathematics):
        raise unknown("benchmark", name, [key for key, known in BENCHMARKS.items() if isinstance(known, Mathematics)])
    rows, source = read_rows(name)
    try:
        items = [benchmark.item(row) for row in rows]
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{source} has rows without what {name} needs ({error!r}). {remedy(name)}") from None
    check_number(items, benchmark.items, source, name)
    if benchmark.sha256 is None:
        LOG.warning("%s: edition not checked, no hash is known; that of what was read is %s.", name, digest(items))
    elif digest(items) != benchmark.sha256:
        raise UserError(
            f"{source} is another edition of {name}: questions or answers differ from those hashed here. {remedy(name)}"
        )
    return items


def check_number(items: list[Item], wanted: int, source: str, name: str) -> None:
    """UserError where a benchmark has another number of items than it should."""
    if len(items) != wanted:
        raise UserError(f"{source} has {len(items)} items, and {name} has {wanted}. {remedy(name)}")


def remedy(name: str) -> str:
    """What to do where a benchmark cannot be had."""
    known = BENCHMARKS[name]
    hashed = isinstance(known, Mathematics) and known.sha256
    copied = f"a copy of {name}/test.jsonl from {QWEN}" if hashed else f"the hub's {known.dataset} as JSON lines"
    terms = "accept its terms on the hub, then `hf auth login`; or " if known.gated else ""
    return f"Remedy: {terms}set {FOLDER} to a folder that holds benchmarks/{known.files or f'{name}.jsonl'}, {copied}."


def read_rows(name: str) -> tuple[list[Row], str]:
    """The rows of a benchmark and where they came from: the folder that ACM_DATA names, else the hub."""
    if folder := os.environ.get(FOLDER):
        return from_folder(Path(folder) / "benchmarks" / f"{name}.jsonl", remedy(name))
    return from_hub(BENCHMARKS[name], remedy(name))


def from_folder(path: Path, remedy: str) -> tuple[list[Row], str]:
    """The rows of a JSONL file, and its name. UserError for a file that is missing or not JSON lines."""
    if not path.is_file():
        raise UserError(f"{path} does not exist (the environment variable {FOLDER} names the folder). {remedy}")
    try:
        rows = [parse_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except ValueError as error:
        raise UserError(f"{path} is not JSON lines: {error}. {remedy}") from None
    return rows, str(path)


def from_hub(benchmark: Benchmark, remedy: str) -> tuple[list[Row], str]:
    """The rows of a data set of the hub, and its name. UserError where it cannot be had."""
    import datasets  # takes seconds

    source = f"the hub's {benchmark.dataset}"
    try:
        found = datasets.load_dataset(
            benchmark.dataset, benchmark.config, split=benchmark.split, revision=benchmark.revision
        )
    except Exception as error:  # no network, a renamed data set, a missing split: the remedy is the same
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{source} cannot be loaded ({first}). {remedy}") from None
    return list(found), source
