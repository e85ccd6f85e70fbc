"""What a face mesh says apart from where the head is: the input of a regression to the 35 numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.face.measures import POINTS, face_measures, mesh_points
from mien.face.mesh import canonical_face, head_pose

_POINTS = list(POINTS)
ANGLES = 2  # yaw and pitch come first,
MEASURES = 10  # then `mien.face.measures.face_measures`, then the points
FEATURES = ANGLES + MEASURES + 3 * len(POINTS)
_DEGREES = 20.0  # unit of the angles
_DISTANCE = 0.05  # unit of the points, over the distance between the eyes' centres


def mesh_features(mesh: NDArray[np.floating]) -> NDArray[np.float32]:
    """Features `[FEATURES]` of a mesh `[478, 3]` in pixels, which its place, size and roll in the image do not change.

    Yaw and pitch of the rigid head; `face_measures` of the picture plane; the points `POINTS` with the rigid head's
    pose taken away, relative to the canonical face. All of order 1.
    """
    points = mesh.astype(np.float64)
    turn = np.radians(-head_pose(points).roll)
    points = points.copy()
    points[:, :2] @= np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    pose = head_pose(points)  # of the upright head: seen in a rolled image, a yaw is in part a pitch
    plane = (points[:, :2] - pose.translation[:2]) / pose.scale
    return _features(np.array([pose.yaw, pose.pitch]), plane, facing(points))


def facing(mesh: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mesh `[478, 3]` with the rigid head's pose taken away: facing the camera, in units of the canonical face."""
    pose = head_pose(mesh.astype(np.float64))
    return (mesh - pose.translation) @ pose.rotation / pose.scale


def features_at_rest(shape: NDArray[np.floating]) -> NDArray[np.float32]:
    """`mesh_features` of a shape `[478, 3]` as `facing` gives it, seen straight from the front."""
    return _features(np.zeros(2), shape[:, :2], shape)


def _features(
    angles: NDArray[np.floating], plane: NDArray[np.floating], shape: NDArray[np.floating]
) -> NDArray[np.float32]:
    measures = face_measures(mesh_points(plane[None], 1))[0].numpy()
    points = (shape - canonical_face())[_POINTS].ravel()
    return np.concatenate([angles / _DEGREES, 10 * measures, points / _DISTANCE]).astype(np.float32)
