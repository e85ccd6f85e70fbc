"""A face that is made to look elsewhere."""

from __future__ import annotations

import numpy as np

from factories.faces import face, mesh, mesh_of
from mien.face.gaze_warp import LARGEST, sample_gaze_offsets, warp_gaze_in_crop
from mien.face.measures import gaze_direction
from mien.face.mesh import EYES, IRISES, rigid_quad, warp_crop
from tolerances import FLOAT32_GEOMETRY


def test_irises_move_in_the_picture_as_the_landmarks_say_and_nothing_else_does() -> None:
    crop = warp_crop(face(), rigid_quad(mesh()), 256)
    landmarks = mesh_of(crop)[:, :2].astype(np.float32)
    offsets = sample_gaze_offsets(np.random.RandomState(1), 8, 1.0)
    moved = [found for offset in offsets if (found := warp_gaze_in_crop(crop, landmarks, offset)) is not None]
    assert len(moved) == 8
    pictures, meshes = np.stack([picture for picture, _ in moved]), np.stack([points for _, points in moved])
    irises = [i for iris in IRISES for i in iris]
    rest = np.setdiff1d(np.arange(478), irises)
    assert np.allclose(meshes[:, rest], landmarks[rest], atol=FLOAT32_GEOMETRY)
    right = lambda these: np.array([gaze_direction(points, 256)[0] for points in these])
    asked = right(meshes) - right(landmarks[None])
    assert np.ptp(asked) > LARGEST[0] / 2
    seen = np.stack([mesh_of(picture)[:, :2] for picture in pictures])
    assert np.corrcoef(right(seen), asked)[0, 1] > 0.9
    changed = np.abs(pictures.astype(int) - crop).max(-1) > 8
    assert 0 < changed.mean() < 0.02


def test_a_closed_eye_has_no_iris_to_move() -> None:
    crop = warp_crop(face(), rigid_quad(mesh()), 256)
    landmarks = mesh_of(crop)[:, :2].astype(np.float32)
    for eye in EYES:
        landmarks[list(eye), 1] = landmarks[list(eye), 1].mean()
    assert warp_gaze_in_crop(crop, landmarks, np.array([0.1, 0.0])) is None
