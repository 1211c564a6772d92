"""The embedded model family: word problems, a tokenizer, a training recipe, checkpoints of 1.3 M parameters."""

from pathlib import Path

HERE = Path(__file__).parent
CHECKPOINTS = HERE / "checkpoints"
BENCHMARKS = HERE / "benchmarks"
