"""Eight measures of a face read off MediaPipe's mesh, and how well two clips' agree over time.

They are of our own making and stand in for nothing else: they are not OpenFace's action units, gaze or pose.
Lengths are over the distance of the outer eye corners, so that the size of the face does not matter.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mien.errors import InputError
from mien.face.measures import POINTS as FACE_POINTS
from mien.face.measures import expression_measures, eye_line_angle, nose_height, pose_measures

Array = NDArray[np.float64]

MEASURES = ("mouth_open", "mouth_width", "eye_open", "brow", "gaze", "yaw", "pitch", "roll")
POINTS = 478

# Mesh points, named as the viewer sees them.
EYE_LEFT, EYE_RIGHT = (33, 133), (263, 362)  # outer corner, inner corner


def measures(mesh: Array) -> Array:
    """Return the eight `MEASURES` [8] of one mesh [478, 2 or 3] in pixels, y down.

    Mouth opening and width, eye opening and brow height (means of both sides); gaze is the iris between the eye's
    corners, 0 at the viewer's left and 1 at the right; yaw, pitch and roll are ratios on the image and not degrees:
    the nose between the cheeks (-1..1), the nose between forehead and chin (0..1), the eye line's angle in radians.
    """
    p = mesh[:, :2]
    if p.shape != (POINTS, 2):
        raise ValueError(f"a mesh has {POINTS} points, not {p.shape}")
    points = torch.from_numpy(np.ascontiguousarray(p[None, list(FACE_POINTS)]))
    expression, (yaw, _) = expression_measures(points)[0].tolist(), pose_measures(points)[0].tolist()
    opening, width, _, lid_left, lid_right, brow_left, brow_right, gaze = expression
    eye_open, brow = (lid_left + lid_right) / 2, (brow_left + brow_right) / 2
    pitch, roll = float(nose_height(points)[0]), float(eye_line_angle(points)[0])
    return np.array([opening, width, eye_open, brow, gaze, yaw, pitch, roll])


def pearson(a: Array, b: Array) -> float | None:
    """Return Pearson's r over time of two series [T]; NaN in either leaves the moment out.

    None where one does not move.
    """
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
