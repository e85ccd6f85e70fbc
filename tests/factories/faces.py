"""A real face for tests, moved and changed in known ways."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.data import astronaut

from mien.face import mesh as lm
from mien.face.masks import Regions
from mien.method.stage1_align.crop_geometry import crop_from_quad, matrix_from_crop
from mien.method.stage1_align.tracking import FaceTracker

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


def face() -> Image:
    return np.ascontiguousarray(astronaut())


def mesh_of(image: Image) -> Array:
    """The mesh `[478, 3]` of an image that shows a face."""
    tracker = FaceTracker()
    mesh = tracker(image)
    tracker.close()
    assert mesh is not None
    return mesh


@cache
def mesh() -> Array:
    return mesh_of(face())


def crop() -> Array:
    return crop_from_quad(lm.rigid_quad(mesh()))


def other_mouth(image: Image, opening: float, eyes: bool = False) -> Image:
    """The mouth covered by a dark ellipse `opening` pixels high, and the eyes by skin if `eyes`."""
    changed = image.copy()
    centre = mesh()[lm.LIPS_OUTER, :2].mean(0)
    cv2.ellipse(changed, [int(v) for v in centre], (15, int(opening)), 0, 0, 360, (70, 25, 25), -1)
    if eyes:
        for ids in lm.EYES:
            cv2.fillConvexPoly(changed, cv2.convexHull(mesh()[ids, :2].round().astype(np.int32)), (200, 150, 130))
    return changed


def moved(image: Image, motion: Array) -> Image:
    """The image with every point carried along by `motion` `[3, 3]` in normalised coordinates of the face's crop."""
    to_frame = matrix_from_crop(crop())
    whole = to_frame @ motion @ np.linalg.inv(to_frame)
    size = (image.shape[1], image.shape[0])
    return cv2.warpPerspective(image, whole, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101).astype(
        np.uint8
    )


def areas(count: int = 3) -> Regions:
    """Masks at fixed places, as of a face that fills the picture."""
    masks = torch.zeros(8, count, 1, 64, 64)
    masks[0, :, :, 40:56, 20:44] = 1  # mouth
    masks[1, :, :, 18:28, 12:52] = 1  # eyes
    masks[2, :, :, 20:26, 18:24] = 1  # pupils
    masks[3, :, :, 6:60, 8:56] = 1  # face
    masks[4] = masks[3] * (1 - masks[0]) * (1 - masks[1])
    return Regions(*masks, torch.ones(count, 1, 64, 64))
