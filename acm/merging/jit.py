"""numba, imported without scipy, which saves a fifth of a second of every merge's start.

numba looks for scipy twice: when it is imported, to check scipy's version, and when it loads its first function, to
learn whether np.convolve may use BLAS. The loops of `kernels.py` need neither. What else needs BLAS in numba looks for
scipy again by itself, so other users of numba in this process miss nothing.
"""

from __future__ import annotations

import sys

hidden = "scipy" not in sys.modules
if hidden:
    sys.modules["scipy"] = None  # type: ignore[assignment]  # so that an import of it fails
try:
    from numba import njit, types
    from numba.extending import overload
    from numba.np import arraymath  # numba's own module that looks for BLAS
finally:
    if hidden:
        del sys.modules["scipy"]

__all__ = ["arraymath", "njit", "overload", "types"]
