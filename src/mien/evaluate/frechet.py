"""The Frechet distance between two sets of features: FID (Heusel et al. 2017) and FVD (Unterthiner et al. 2018).

Which network the features come from decides the metric's name; this is the arithmetic that both share.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError

Array = NDArray[np.float64]


class Moments:
    """Mean and covariance of features, taken in batch by batch with a memory of [D, D]."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Array = np.zeros(0)
        self._scatter: Array = np.zeros((0, 0))

    def add(self, features: NDArray[np.floating]) -> None:
        """Take in features [N, D]."""
        batch = np.asarray(features, np.float64)
        if not len(batch):
            return
        mean, total = batch.mean(0), self.count + len(batch)
        around = batch - mean
        if self.count == 0:
            self._mean, self._scatter = mean, around.T @ around
        else:  # Chan et al. 1979: joining two sets without a second pass
            step = mean - self._mean
            self._scatter += around.T @ around + np.outer(step, step) * self.count * len(batch) / total
            self._mean = self._mean + step * len(batch) / total
        self.count = total

    @property
    def mean(self) -> Array:
        """Mean [D]."""
        return self._mean

    @property
    def covariance(self) -> Array:
        """Unbiased covariance [D, D]. Raises InputError for fewer than two samples."""
        if self.count < 2:
            raise InputError("a Frechet distance needs at least two samples on each side.")
        return self._scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), 0 or more.

    The trace of the root is the sum of the singular values of C_a^(1/2) C_b^(1/2), which needs only roots of symmetric
    matrices and stays right where a covariance is singular (fewer samples than features).
    """
    root_a, root_b = _root(a.covariance), _root(b.covariance)
    cross = np.linalg.svd(root_a @ root_b, compute_uv=False).sum()
    step = a.mean - b.mean
    distance = step @ step + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    return max(float(distance), 0.0)


def _root(matrix: Array) -> Array:
    """Root of a symmetric matrix without negative eigenvalues (those that rounding makes are 0)."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
