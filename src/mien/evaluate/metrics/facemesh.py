"""Eight measures of a face read off MediaPipe's mesh, and how well two clips' agree over time.

They are of our own making and stand in for nothing else: they are not OpenFace's action units, gaze or pose.
Lengths are over the distance of the outer eye corners, so that the size of the face does not matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError

Array = NDArray[np.float64]

MEASURES = ("mouth_open", "mouth_width", "eye_open", "brow", "gaze", "yaw", "pitch", "roll")
POINTS = 478

# Mesh points, named as the viewer sees them.
EYE_LEFT, EYE_RIGHT = (33, 133), (263, 362)  # outer corner, inner corner
IRIS_LEFT, IRIS_RIGHT = 468, 473
LIDS_LEFT, LIDS_RIGHT = (159, 145), (386, 374)  # upper, lower
BROW_LEFT, BROW_RIGHT = 105, 334
LIPS, MOUTH = (13, 14), (61, 291)  # inner lips up and down; corners
CHEEKS, NOSE, FOREHEAD, CHIN = (234, 454), 1, 10, 152


def measures(mesh: Array) -> Array:
    """The eight `MEASURES` [8] of one mesh [478, 2 or 3] in pixels, y down.

    Mouth opening and width, eye opening and brow height (means of both sides); gaze is the iris between the eye's
    corners, 0 at the viewer's left and 1 at the right; yaw, pitch and roll are ratios on the image and not degrees:
    the nose between the cheeks (-1..1), the nose between forehead and chin (0..1), the eye line's angle in radians.
    """
    p = mesh[:, :2]
    if p.shape != (POINTS, 2):
        raise ValueError(f"a mesh has {POINTS} points, not {p.shape}")
    unit = _distance(p, EYE_LEFT[0], EYE_RIGHT[0])
    gaze_left = (p[IRIS_LEFT, 0] - p[EYE_LEFT[0], 0]) / (p[EYE_LEFT[1], 0] - p[EYE_LEFT[0], 0] + 1e-6)
    gaze_right = (p[IRIS_RIGHT, 0] - p[EYE_RIGHT[1], 0]) / (p[EYE_RIGHT[0], 0] - p[EYE_RIGHT[1], 0] + 1e-6)
    nose = _distance(p, NOSE, CHEEKS[0]) - _distance(p, NOSE, CHEEKS[1])
    eye_line = p[EYE_RIGHT[0]] - p[EYE_LEFT[0]]
    return np.array(
        [
            _distance(p, *LIPS) / unit,
            _distance(p, *MOUTH) / unit,
            (_distance(p, *LIDS_LEFT) + _distance(p, *LIDS_RIGHT)) / 2 / unit,
            (_distance(p, BROW_LEFT, LIDS_LEFT[0]) + _distance(p, BROW_RIGHT, LIDS_RIGHT[0])) / 2 / unit,
            (gaze_left + gaze_right) / 2,
            nose / _distance(p, *CHEEKS),
            (p[NOSE, 1] - p[FOREHEAD, 1]) / (p[CHIN, 1] - p[FOREHEAD, 1]),
            np.arctan2(eye_line[1], eye_line[0]),
        ]
    )


def pearson(a: Array, b: Array) -> float | None:
    """Pearson's r over time of two series [T]; NaN in either leaves the moment out. None where one does not move."""
    if a.shape != b.shape:
        raise InputError(f"the series differ in length: {a.shape} against {b.shape}.")
    seen = np.isfinite(a) & np.isfinite(b)
    if seen.sum() < 3:
        return None
    x, y = a[seen] - a[seen].mean(), b[seen] - b[seen].mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    # A face that does not move has rounding errors and no correlation.
    still = min(np.abs(x).max(), np.abs(y).max()) < 1e-9
    return None if still else float(np.clip(x @ y / size, -1, 1))


def _distance(points: Array, a: int, b: int) -> float:
    return float(np.hypot(*(points[a] - points[b])))
