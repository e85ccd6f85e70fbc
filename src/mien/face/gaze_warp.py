"""The image of a face with its irises moved, for training a pack and for warped portraits. The paper has none.

Along the line between the eye's
corners the iris is moved as it is, the sclera on one side of it is stretched and on the other compressed; lids and
corners stay. In the vertical, where lids cover part of the iris, it is stretched itself, so such moves are small.
Nothing but the gaze differs between the two images.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.face import mesh as lm
from mien.face.measures import POINTS

LARGEST = (0.18, 0.06)  # largest offsets to the side and down, in the eye's width between its corners
_EDGE = 0.8  # least distance of the iris's centre from a corner, in radii of the iris
_SOFT = 0.75  # width in pixels of the lids' edge in the mask

_at = {point: i for i, point in enumerate(POINTS)}
_UPPER = tuple([_at[p] for p in (eye[0], *reversed(eye[9:]), eye[8])] for eye in lm.EYES)
_LOWER = tuple([_at[p] for p in eye[:9]] for eye in lm.EYES)
_IRISES = tuple([_at[p] for p in iris] for iris in lm.IRISES)


def sample_gaze_offsets(random: np.random.RandomState, count: int, share: float) -> NDArray[np.float64]:
    """Random gaze offsets `[count, 2]`, right and down in the eye's width, for a `share` of the images; 0 for the
    others."""
    return random.uniform(-1, 1, (count, 2)) * LARGEST * (random.rand(count, 1) < share)


def _along(x: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Height of a lid's line through `points [K, 2]` at `x`."""
    order = np.argsort(points[:, 0], kind="stable")
    return np.interp(x, points[order, 0], points[order, 1])


def warp_gaze(
    image: NDArray[np.float32], label: NDArray[np.int64], points: NDArray[np.float32], right: float, down: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Move both irises by `right` and `down`, in the eye's width, as far as the eye's corners allow.

    `image [S, S, 3]`, `label [L, L]`, `points [len(POINTS), 2]` in [0, 1] of the crop's side; returns new ones of all
    three. A closed eye stays as it is.
    """
    size = image.shape[0]
    points = points.astype(np.float32).copy()
    grids = {n: np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).astype(np.float32) for n in (size, len(label))}
    maps = {n: grid.copy() for n, grid in grids.items()}
    masks = {n: np.zeros((n, n), np.float32) for n in grids}
    for upper, lower, iris in zip(_UPPER, _LOWER, _IRISES, strict=True):
        lids = points[upper + lower].astype(np.float64)
        start, end = float(points[upper[0], 0]), float(points[upper[-1], 0])
        centre = float(points[iris[0], 0])
        width = end - start
        radius = float(np.linalg.norm(points[iris[1:]] - points[iris[0]], axis=1).mean())
        opening = float(np.max(_along(lids[:, 0], lids[9:]) - _along(lids[:, 0], lids[:9])))
        low, high = start + _EDGE * radius, end - _EDGE * radius
        if width < 2.5 * radius or opening < 0.12 * width or not low < centre < high:
            continue
        now = float(np.clip(centre + right * width, low, high))
        goes = np.array([start - 1, start, now - radius, now + radius, end, end + 1])
        comes = np.array([start - 1, start, centre - radius, centre + radius, end, end + 1])
        # Near a corner the iris reaches beyond it, under the lids: the map must go on rising there.
        goes[1], comes[1] = min(start, goes[2] - 0.05 * width), min(start, comes[2] - 0.05 * width)
        goes[4], comes[4] = max(end, goes[3] + 0.05 * width), max(end, comes[3] + 0.05 * width)
        # Down: shares of the way from lid to lid, the same in all columns.
        ceiling = float(_along(np.array([centre]), lids[:9])[0])
        share = float(np.clip((float(points[iris[0], 1]) - ceiling) / opening, 0.25, 0.75))
        lower_share = float(np.clip(share + down * width / opening, 0.15, 0.85))
        for n, grid in grids.items():
            place = (grid.astype(np.float64) + 0.5) / n
            top, bottom = _along(place[0, :, 0], lids[:9]), _along(place[0, :, 0], lids[9:])
            inside = np.minimum(place[..., 1] - top, bottom - place[..., 1]) * n / _SOFT + 0.5
            inside *= (place[..., 0] > start) & (place[..., 0] < end)
            inside = np.clip(inside, 0, 1).astype(np.float32)
            moved = np.interp(place[..., 0], goes, comes) * n - 0.5
            height = np.maximum(bottom - top, 1e-6)
            level = np.interp((place[..., 1] - top) / height, [-1, 0, lower_share, 1, 2], [-1, 0, share, 1, 2])
            maps[n][..., 0] = np.where(inside > 0, moved, maps[n][..., 0])
            maps[n][..., 1] = np.where(inside > 0, (top + level * height) * n - 0.5, maps[n][..., 1])
            masks[n] = np.maximum(masks[n], inside)
        points[iris, 0] += now - centre
        points[iris, 1] += (lower_share - share) * opening
    warped = cv2.remap(image, maps[size][..., 0], maps[size][..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    soft = masks[size][..., None]
    around = maps[len(label)].round().astype(np.int64).clip(0, len(label) - 1)
    turned = np.where(masks[len(label)] > 0.5, label[around[..., 1], around[..., 0]], label)
    return image + soft * (warped - image), turned, points


def warp_gaze_in_crop(
    image: NDArray[np.uint8], landmarks: NDArray[np.floating], move: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.floating]] | None:
    """`warp_gaze` of an image uint8 `[S, S, 3]` and its mesh `[478, 2]` in pixels by `move [2]`, right and down; None
    where no iris can be moved."""
    chosen, size = list(POINTS), len(image)
    points = (landmarks[chosen] / size).astype(np.float32)
    none = np.zeros((2, 2), np.int64)  # labels are of no use here
    warped, _, moved = warp_gaze(image.astype(np.float32), none, points, *move.tolist())
    if np.array_equal(moved, points):
        return None
    mesh = landmarks.copy()
    mesh[chosen] = moved * size
    return warped.round().clip(0, 255).astype(np.uint8), mesh
