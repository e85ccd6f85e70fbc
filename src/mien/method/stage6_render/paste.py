"""A rendered crop back into the frame it was cut from: edges blended, colours matched, nothing that flickers.

The colours are corrected by a smooth field over the crop: at its border the field is what the frame and the render
differ by there, so that no seam is left; over the face it is the mean of what they differ by, so that the skin keeps
the frame's colour but the face itself is not redrawn; between the two it is a membrane that they span (the solution of
a screened Laplace's equation): it falls to the face's value within an eighth of the crop, because a background that the
render has in another colour would otherwise tint the hair. The field is found on a coarse grid, where it is one matrix product, and follows its changes
over a few frames, so that no frame's noise shows as a flicker.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.face.mesh import quad_matrix, warp_crop

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Plane = NDArray[np.float32]

GRID = 32  # cells of the colour field along a side
RIM = 3  # cells at the border whose colours are matched
FACE_CENTRE, FACE_RADII = (0.0, 0.1), (0.33, 0.45)  # ellipse of the face in the crop, normalised: FFHQ framing
PULL = 0.07  # of the membrane to the face's value: it falls to 1/e in 1/sqrt(PULL) cells
FADE = 0.26  # share of half the crop's side over which it fades into the frame
FOLLOW = 0.15  # how much of a change the colour field follows in a frame
LEAP = 0.25  # a crop that moves by this part of its side belongs to another shot


class Paster:
    """`paster(frame, render, quad)` for one frame after the other. Keeps the colour field between frames."""

    def __init__(self) -> None:
        self._field: Plane | None = None
        self._quad: Array | None = None

    def __call__(self, frame: Image, render: Image, quad: Array) -> Image:
        """The frame with the render in it.

        `frame`: RGB uint8 `[H, W, 3]`. `render`: RGB uint8 `[S, S, 3]`, a crop of any size. `quad`: the corners
        `[4, 2]` of its place in frame pixels, top left, bottom left, bottom right, top right; the frame comes back as
        it is where they are not finite. `frame` is not changed.
        """
        side = float(np.hypot(*(quad[3] - quad[0])))
        if not np.isfinite(quad).all() or side < 2:
            self._field = self._quad = None
            return frame
        if self._quad is not None and float(np.abs(quad - self._quad).max()) > LEAP * side:
            self._field = None
        self._quad = quad
        field = colour_field(warp_crop(frame, quad, 4 * GRID), render)
        self._field = field if self._field is None else self._field + FOLLOW * (field - self._field)
        return blend(frame, render, quad, self._field)


def blend(frame: Image, render: Image, quad: Array, field: Plane | None = None) -> Image:
    """`render` into a copy of `frame` at `quad`, its colours moved by `field` `[G, G, 3]`, its edges faded."""
    height, width = frame.shape[:2]
    low = np.maximum(np.floor(quad.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(quad.max(0)).astype(int) + 1, [width, height])
    if (high - low < 1).any():  # the crop lies outside the frame
        return frame
    # Reduced first where the frame shows it much smaller, so that nothing aliases.
    side = float(np.hypot(*(quad[3] - quad[0])))
    size, least = render.shape[0], max(round(1.5 * side), 2)
    face = render
    if size > least:
        size = least
        face = cv2.resize(render, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    pixels = face.astype(np.float32)
    if field is not None:
        pixels = pixels + cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)
    matrix = quad_matrix(quad - low, size)
    target = (int(high[0] - low[0]), int(high[1] - low[1]))
    to_crop = cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(pixels, matrix, target, flags=cv2.INTER_CUBIC | to_crop, borderMode=cv2.BORDER_REPLICATE)
    # The weight is worked out where it is used: a small crop's own pixels would make steps of it in a large frame.
    x, y = np.meshgrid(np.arange(target[0], dtype=np.float32), np.arange(target[1], dtype=np.float32))
    u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + 0.5) * 2 / size - 1
    v = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + 0.5) * 2 / size - 1
    weight = fade(u, v)[..., None]
    result = frame.copy()
    part = result[low[1] : high[1], low[0] : high[0]]
    part[:] = np.clip(np.rint(moved * weight + part * (1 - weight)), 0, 255).astype(np.uint8)
    return result


def fade(u: NDArray[np.floating], v: NDArray[np.floating]) -> Plane:
    """Weight of the render at normalised crop coordinates: 1 inside, 0 from the edges on, smooth, corners rounded."""
    reach = np.sqrt(np.cbrt(np.square(u) ** 3 + np.square(v) ** 3))
    ramp = np.clip((1 - reach) / FADE, 0, 1).astype(np.float32)
    return ramp * ramp * (3 - 2 * ramp)


def colour_field(crop: Image, render: Image) -> Plane:
    """What must be added to the render to match the frame's own crop, both RGB uint8: smooth, `[GRID, GRID, 3]`."""
    cells = [
        cv2.resize(image, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float32) for image in (crop, render)
    ]
    difference = (cells[0] - cells[1]).reshape(-1, 3)
    rim, face, free, spread = _membrane()
    known = np.concatenate([difference[rim], difference[face].mean(0, keepdims=True)])
    field = np.empty_like(difference)
    field[rim], field[face], field[free] = difference[rim], known[-1], spread @ known
    return cv2.GaussianBlur(field.reshape(GRID, GRID, 3), (0, 0), 1.0).astype(np.float32, copy=False)


@cache
def _membrane() -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], Plane]:
    """Indices of the grid's rim, face and remaining cells, and the matrix `[free, rim + 1]` that gives the remaining
    cells from the rim's values and the face's one value: each is the mean of its neighbours, pulled to the face's."""
    centres = (np.arange(GRID) + 0.5) * 2 / GRID - 1
    u, v = np.meshgrid(centres, centres)
    index = np.arange(GRID * GRID).reshape(GRID, GRID)
    inner = np.zeros((GRID, GRID), bool)
    inner[RIM:-RIM, RIM:-RIM] = True
    ellipse = np.square((u - FACE_CENTRE[0]) / FACE_RADII[0]) + np.square((v - FACE_CENTRE[1]) / FACE_RADII[1]) < 1
    rim, face, free = index[~inner], index[ellipse], index[inner & ~ellipse]
    column = np.full(GRID * GRID, -1)
    column[rim] = np.arange(len(rim))
    column[face] = len(rim)
    place = np.full(GRID * GRID, -1)
    place[free] = np.arange(len(free))
    laplace = np.zeros((len(free), len(free)))
    known = np.zeros((len(free), len(rim) + 1))
    for row, cell in enumerate(free):
        laplace[row, row] = 4 + PULL
        known[row, -1] += PULL
        for neighbour in (cell - 1, cell + 1, cell - GRID, cell + GRID):
            if place[neighbour] >= 0:
                laplace[row, place[neighbour]] = -1
            else:
                known[row, column[neighbour]] += 1
    return rim, face, free, np.linalg.solve(laplace, known).astype(np.float32)
