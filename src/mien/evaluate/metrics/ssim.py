"""SSIM (Wang et al. 2004) with a flat window, on each colour channel."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WINDOW = 7
K1, K2, PEAK = 0.01, 0.03, 255.0


def ssim(reference: NDArray[np.uint8], output: NDArray[np.uint8]) -> float:
    """Return the mean SSIM of two images uint8 [H, W, C], -1..1.

    Flat 7x7 windows that lie wholly inside the image, unbiased variances, the mean over windows and channels: what
    scikit-image's `structural_similarity` computes by default. The paper does not say which of the usual windows it
    takes; a Gaussian one gives values that differ in the second decimal.
    """
    x, y = reference.astype(np.float64), output.astype(np.float64)
    count = WINDOW**2
    unbiased = count / (count - 1)
    mean_x, mean_y = _mean(x), _mean(y)
    var_x = unbiased * (_mean(x * x) - mean_x * mean_x)
    var_y = unbiased * (_mean(y * y) - mean_y * mean_y)
    cov = unbiased * (_mean(x * y) - mean_x * mean_y)
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float((above / below).mean())


def _mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of all windows that fit into the image."""
    edge = WINDOW // 2
    return np.asarray(cv2.blur(image, (WINDOW, WINDOW)), np.float64)[edge:-edge, edge:-edge]
