"""PSNR of RGB images, peak 255, in dB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAME = 100.0  # dB of two images without a difference, where the formula has no finite value


def psnr(reference: NDArray[np.uint8], output: NDArray[np.uint8]) -> float:
    """10 log10(255^2 / MSE) of two images uint8 [H, W, 3], the error taken over all pixels and channels at once.

    A clip's value is the mean of its frames' values. At most `SAME` dB.
    """
    error = float(np.square(reference.astype(np.float64) - output).mean())
    return min(10 * float(np.log10(255**2 / error)), SAME) if error > 0 else SAME
