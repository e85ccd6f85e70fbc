"""Head pose in degrees, from the face mesh's rigid points (the same fit that stage 1 uses)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.face.mesh import head_pose

Array = NDArray[np.float64]

ANGLES = ("yaw", "pitch", "roll")


def angles(mesh: Array) -> Array:
    """Return yaw (positive to the viewer's right), pitch (positive up) and roll (positive clockwise) [3] in degrees."""
    pose = head_pose(mesh)
    return np.array([pose.yaw, pose.pitch, pose.roll])


def mean_error(reference: Array, output: Array) -> float | None:
    """Return the mean absolute difference in degrees of two series of angles [T], the short way round.

    None if none is known.
    """
    turn = (output - reference + 180) % 360 - 180
    seen = np.isfinite(turn)
    return float(np.abs(turn[seen]).mean()) if seen.any() else None
