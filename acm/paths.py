"""Where things lie, seen from the repository's root."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "profiles"
RUNS = ROOT / "runs"
REPORTS = ROOT / "reports"
FIGURES = ROOT / "figures"
TASKS = ROOT / "acm" / "tasks"
