"""Whose face a puppet should have: crops of the portrait, or of the video, that puppeteering was given."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError
from mien.evaluate.frames import Frame, count_frames, panel_frames, whole_frames
from mien.face.mesh import FaceMesh, rigid_quad, warp_crop
from mien.media.still_images import IMAGE_SUFFIXES, read_image
from mien.method.stage1_align.tracking import FaceTracker

Array = NDArray[np.float64]
SIZE = 256
MOST = 16  # frames of a video


def face_crop(frame: Frame, mesh: Array) -> Frame:
    """Cut a frame's face in FFHQ framing, uint8 [256, 256, 3]. `mesh` [478, 3] in pixels."""
    return warp_crop(frame, rigid_quad(mesh), SIZE)


def portrait_crops(path: str | Path, mesher: FaceMesh, panel: int | None = None) -> NDArray[np.uint8]:
    """Cut face crops [N, 256, 256, 3]: of an image, or of up to 16 frames spread over a video or a folder of images.

    `panel`: the square of a side-by-side video that is meant. Of several faces the largest is taken.

    Raises VideoError when it cannot be read, InputError when it shows no face.
    """
    path = Path(path)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        images = iter([read_image(path)])
    else:
        whole = whole_frames(path) if panel is None else panel_frames(path, panel)
        images = islice(whole, 0, None, -(-count_frames(path) // MOST) or 1)
    tracker = FaceTracker()
    crops = []
    with closing(tracker):
        for image in images:
            tracker.forget()  # frames that are far apart say nothing of each other
            mesh = tracker(image)
            if mesh is None:  # its detector misses faces that fill the picture
                mesh = next(iter(mesher(image)), None)
            if mesh is not None:
                crops.append(face_crop(image, mesh))
    if not crops:
        raise InputError(f"{path} shows no face, so nothing can be compared with it.")
    return np.stack(crops)
