"""FVD_M of Table 2: the Frechet Video Distance of the mouth alone.

The paper does not define it. Ours: a square around the mouth, as wide as the outer eye corners are apart and at one
place throughout a clip (the median over its frames), so that the mouth moves in it and the detector's noise does not.
Each clip has its own square, since two people's mouths are not at the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.evaluate.frames import Frame
from mien.evaluate.metrics.facemesh import EYE_LEFT, EYE_RIGHT
from mien.evaluate.metrics.fvd import Fvd
from mien.face.mesh import LIPS_OUTER
from mien.nets.i3d import SIZE

Array = NDArray[np.float64]
SIDE = 1.0  # of the square, in distances of the outer eye corners


def mouth_square(meshes: Array) -> tuple[float, float, float] | None:
    """Return centre x, y and side in pixels of a clip's mouth square; None where no frame shows a face.

    `meshes` [T, 478, 3] in pixels, NaN where no face was found.
    """
    seen = meshes[np.isfinite(meshes).all((1, 2))]
    if not len(seen):
        return None
    x, y = np.median(seen[:, LIPS_OUTER, :2].mean(1), axis=0)
    eyes = seen[:, EYE_LEFT[0], :2] - seen[:, EYE_RIGHT[0], :2]
    return float(x), float(y), float(SIDE * np.median(np.hypot(eyes[:, 0], eyes[:, 1])))


def mouths(frames: Iterable[Frame], square: tuple[float, float, float]) -> Iterator[Frame]:
    """Cut the squares out of the frames, uint8 [224, 224, 3], bilinear; beyond the edge the frame is mirrored."""
    x, y, side = square
    scale = SIZE / side
    matrix = np.array([[scale, 0, (SIZE - 1) / 2 - scale * x], [0, scale, (SIZE - 1) / 2 - scale * y]])
    for frame in frames:
        cut = cv2.warpAffine(frame, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        yield np.asarray(cut, np.uint8)


def add_mouths(judge: Fvd, reference: Iterable[Frame], output: Iterable[Frame], meshes: tuple[Array, Array]) -> None:
    """Add the mouths of both clips to a Frechet Video Distance; nothing without a face in both."""
    squares = mouth_square(meshes[0]), mouth_square(meshes[1])
    if squares[0] is None or squares[1] is None:
        return
    for a, b in zip(mouths(reference, squares[0]), mouths(output, squares[1]), strict=False):
        judge.add(a[None], b[None])
