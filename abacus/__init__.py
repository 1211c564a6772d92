"""abacus, the family of small models that the repository ships: checkpoints of 1.3 M parameters, and how they are made.

They solve arithmetic word problems. The package has the problems, the tokenizer and the training recipe.
"""

from pathlib import Path

HERE = Path(__file__).parent
CHECKPOINTS = HERE / "checkpoints"
BENCHMARKS = HERE / "benchmarks"
