"""Jitter: how much a head trembles from frame to frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.evaluate.metrics.facemesh import EYE_LEFT, EYE_RIGHT
from mien.face.mesh import RIGID

Array = NDArray[np.float64]


def jitter(meshes: Array) -> float | None:
    """Return the mean length of the rigid points' second difference over time, in percent of the outer eye distance.

    `meshes` [T, 478, 2 or 3] in pixels, NaN where no face was found. Even movement counts nothing, trembling does.
    None for clips with no three faces in a row. A noisy detector trembles too, so compare with the reference's value.
    """
    points = meshes[..., :2]
    unit = np.hypot(*np.moveaxis(points[:, EYE_LEFT[0]] - points[:, EYE_RIGHT[0]], -1, 0))
    second = points[2:] - 2 * points[1:-1] + points[:-2]
    lengths = np.hypot(second[..., 0], second[..., 1])[:, RIGID].mean(1) / unit[1:-1]
    seen = np.isfinite(lengths)
    return float(100 * lengths[seen].mean()) if seen.any() else None
