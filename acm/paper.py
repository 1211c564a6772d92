"""Loads the numbers that the paper printed, and says which of our profiles and models each table belongs to.

The tables are CSV files. Their column ``source`` names who printed a number: ``acm-v1`` is the paper (arXiv
2505.14009v1), ``l2s-sister`` is arXiv 2503.20641, and ``evo-l2s-replication`` is arXiv 2604.06465. Accuracies are in
percent, lengths in tokens per response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acm.errors import unknown
from acm.paths import REPORTS

if TYPE_CHECKING:
    import pandas as pd

FOLDER = REPORTS / "paper-numbers"
# Number of a table in the paper → its name in the CSV files, the size of its models there, the profile that runs it.
TABLES = {
    "1": ("table1", "7b", "qwen-7b"),
    "2": ("table2", "1.5b", "qwen-1.5b"),
    "3": ("table3", "llama2-7b", "llama-2-7b"),
    "4": ("table4", "14b", "qwen-14b"),
    "5": ("table5", "32b", "qwen-32b"),
}
REFLECTIONS = {"6": ("1.5b", "qwen-1.5b"), "7": ("14b", "qwen-14b")}  # tables of reflections: models' size, profile


def load(name: str, **options: Any) -> pd.DataFrame:
    """One CSV file by its stem; UserError for a name that is none of them. options: of :func:`pandas.read_csv`."""
    import pandas as pd  # takes half a second, and most commands need none of it

    path = FOLDER / f"{name}.csv"
    if not path.is_file():
        raise unknown("table of the paper's numbers", name, (p.stem for p in FOLDER.glob("*.csv")))
    table: pd.DataFrame = pd.read_csv(path, **options)
    return table


def paper_name(method: str) -> str:
    """A parent's folder as the paper calls it: DeepSeek-R1-Distill-Qwen-7B is DeepSeek-R1-7B."""
    return method.replace("-Distill-Qwen", "").replace("CodeLlama-7b-hf", "CodeLlama-7b")


def printed_methods(profile: str) -> list[str]:
    """Methods that the paper's tables print for a profile, in their order. profile: its name, without variants."""
    scores, counts = load("published_scores").query("source == 'acm-v1'"), load("reflection_counts")
    tables = [scores[scores["table"] == table] for table, _, named in TABLES.values() if named == profile]
    tables += [counts[counts["size"] == size] for size, named in REFLECTIONS.values() if named == profile]
    return list(dict.fromkeys(method for table in tables for method in table["method"]))
