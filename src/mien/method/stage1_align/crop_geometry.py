"""The crop as four numbers, and its corners.

A crop is `[centre x, centre y, log(side), roll]`: the centre and the side in frame pixels (pixel centres at integers),
the roll in radians, positive clockwise on the screen. Inside a crop, normalised coordinates run from -1 to 1 between
its edges, x to the right and y down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CORNERS = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])  # as in a quad: from top left, down first


def crop_from_quad(quad: Array) -> Array:
    """The crop `[4]` nearest to a quad `[4, 2]` (a square, up to rounding)."""
    x = (quad[3] - quad[0] + quad[2] - quad[1]) / 2
    return np.array([*quad.mean(0), np.log(max(float(np.hypot(*x)), 1e-9)), np.arctan2(x[1], x[0])])


def quad_from_crop(crop: Array) -> Array:
    """Corners `[4, 2]` of a crop `[4]` in frame pixels: top left, bottom left, bottom right, top right."""
    return apply(matrix_from_crop(crop), CORNERS)


def matrix_from_crop(crop: Array) -> Array:
    """`[3, 3]` from normalised crop coordinates to frame pixels."""
    half = np.exp(crop[2]) / 2
    c, s = half * np.cos(crop[3]), half * np.sin(crop[3])
    return np.array([[c, -s, crop[0]], [s, c, crop[1]], [0.0, 0.0, 1.0]])


def crop_from_matrix(matrix: Array) -> Array:
    """The inverse of `matrix_from_crop`; `matrix` must be a similarity `[3, 3]`."""
    half = np.hypot(matrix[0, 0], matrix[1, 0])
    return np.array([matrix[0, 2], matrix[1, 2], np.log(2 * half), np.arctan2(matrix[1, 0], matrix[0, 0])])


def apply(matrix: Array, points: Array) -> Array:
    """A projective `[3, 3]` on points `[N, 2]`."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return moved[:, :2] / moved[:, 2:]


def wrap(angle: float) -> float:
    """An angle in radians brought into -pi..pi."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
