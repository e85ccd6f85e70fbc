"""The Frechet distance between two sets of features: FID (Heusel et al. 2017) and FVD (Unterthiner et al. 2018).

Which network the features come from decides the metric's name; this is the arithmetic that both share.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError

Array = NDArray[np.float64]


class Moments:
    """Mean and covariance of features, taken in batch by batch.

    Up to as many samples as there are features the samples themselves are kept, beyond that their scatter matrix:
    memory never grows beyond [D, D], and few samples are quickly dealt with.
    """

    def __init__(self) -> None:
        self.count = 0
        self._rows: list[Array] = []
        self._mean: Array = np.zeros(0)
        self._scatter: Array | None = None

    def add(self, features: NDArray[np.floating]) -> None:
        """Take in features [N, D]."""
        batch = np.asarray(features, np.float64)
        if not len(batch):
            return
        if self._scatter is None and self.count + len(batch) <= batch.shape[1]:
            self._rows.append(batch)
            self.count += len(batch)
            return
        if self._scatter is None:
            batch = np.concatenate([*self._rows, batch])
            self.count, self._rows = 0, []
            self._mean, self._scatter = np.zeros(batch.shape[1]), np.zeros((batch.shape[1],) * 2)
        mean, total = batch.mean(0), self.count + len(batch)
        around, step = batch - mean, mean - self._mean
        # Chan et al. 1979: joining two sets without a second pass
        self._scatter += around.T @ around + np.outer(step, step) * self.count * len(batch) / total
        self._mean = self._mean + step * len(batch) / total
        self.count = total

    @property
    def mean(self) -> Array:
        """The mean [D]."""
        return self._mean if self._scatter is not None else np.concatenate(self._rows).mean(0)

    def factor(self) -> Array:
        """Return a matrix F [K, D] with F^T F the unbiased covariance. Raises InputError for fewer than two samples."""
        if self.count < 2:
            raise InputError("a Frechet distance needs at least two samples on each side.")
        if self._scatter is None:
            return (np.concatenate(self._rows) - self.mean) / np.sqrt(self.count - 1)
        values, vectors = np.linalg.eigh(self._scatter / (self.count - 1))
        return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T  # rounding makes some values less than 0


def frechet_distance(a: Moments, b: Moments) -> float:
    """Return |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), 0 or more.

    With C_a = F_a^T F_a and C_b = F_b^T F_b the trace of the root is the sum of the singular values of F_a F_b^T: no
    root of a matrix that is not symmetric, and right for singular covariances too.
    """
    root_a, root_b = a.factor(), b.factor()
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    step = a.mean - b.mean
    distance = step @ step + np.square(root_a).sum() + np.square(root_b).sum() - 2 * cross
    return max(float(distance), 0.0)


class FeatureSets:
    """The features of two sets as they come in, and the distance of what has come so far."""

    def __init__(self) -> None:
        self._rows: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])

    def take(self, side: int, features: NDArray[np.floating]) -> None:
        """Take in features [N, D] of the reference (0) or the output (1)."""
        self._rows[side].append(np.asarray(features, np.float32))

    def features(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return all features [N, D] of both sides; None before any came."""
        if not self._rows[0] or not self._rows[1]:
            return None
        return np.concatenate(self._rows[0]), np.concatenate(self._rows[1])

    def value(self) -> float | None:
        """Return the distance, 0 or more; None for fewer than two samples."""
        found = self.features()
        return None if found is None else distance_of([found])


def distance_of(pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> float | None:
    """Return the distance between all references' features and all outputs'.

    None for fewer than two samples on a side.
    """
    sides = Moments(), Moments()
    for pair in pairs:
        for side, features in zip(sides, pair, strict=True):
            side.add(features)
    return frechet_distance(*sides) if min(side.count for side in sides) > 1 else None
