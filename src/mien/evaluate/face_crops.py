"""Whose face a puppet should have: crops of the portrait, or of the video, that puppeteering was given."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError
from mien.evaluate.frames import Frame, count_frames, frames
from mien.face.mesh import FaceMesh, rigid_quad, warp_crop
from mien.media.still_images import IMAGE_SUFFIXES, read_image

Array = NDArray[np.float64]
SIZE = 256
MOST = 16  # frames of a video


def face_crop(frame: Frame, mesh: Array) -> Frame:
    """Cut a frame's face in FFHQ framing, uint8 [256, 256, 3]. `mesh` [478, 3] in pixels."""
    return warp_crop(frame, rigid_quad(mesh), SIZE)


def portrait_crops(path: str | Path, mesher: FaceMesh, panel: int | None = None) -> NDArray[np.uint8]:
    """Cut face crops [N, 256, 256, 3]: of an image, or of up to 16 frames spread over a video or a folder of images.

    `panel`: the square of a side-by-side video that is meant.

    Raises VideoError when it cannot be read, InputError when it shows no face.
    """
    path = Path(path)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        images = iter([read_image(path)])
    else:
        images = islice(frames(path, size=2 * SIZE, step=max(count_frames(path) // MOST, 1), panel=panel), MOST)
    found = [(image, mesher(image)) for image in images]
    crops = [face_crop(image, meshes[0]) for image, meshes in found if meshes]
    if not crops:
        raise InputError(f"{path} shows no face, so nothing can be compared with it.")
    return np.stack(crops)
