"""smol, a family of really pretrained models that needs no hub: SmolLM2-135M-Instruct from PyPI, with two adapters.

The models solve word problems. `smol-fast` answers tersely; `smol-slow` writes the steps down and checks them. The
package has the adapters, the test items, and the recipe of both.
"""

from pathlib import Path

from acm.paths import RUNS

HERE = Path(__file__).parent
ADAPTERS = HERE / "adapters"
BENCHMARKS = HERE / "benchmarks"
FOLDER = RUNS / "smollm2"  # apart from runs/smol, so that `make clean` keeps what was made
