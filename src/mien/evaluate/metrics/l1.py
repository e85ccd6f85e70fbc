"""L1: mean absolute difference of RGB values, in grey levels 0..255."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def l1(reference: NDArray[np.uint8], output: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference of two images uint8 [H, W, 3], over all pixels and the three channels.

    0..255.
    """
    return float(np.abs(reference.astype(np.float64) - output).mean())
