"""A person's own eyes where a render moves them: what is between its lids has a pack's colours, and a pack knows few eyes.

An iris looks the same wherever it looks: so the portrait's, a disc, is set over the render's, as large as the render's and within its
lids. What the portrait's lids hide of it has the mean colour of the same distance from the middle. And where channels go further than
the pack has seen, its renders may paint an eye and what is around it black: there it is lightened to what the portrait's white and lids are in the
shade, and lids that are shut to a line of lashes. The paper has no counterpart.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.face import mesh as lm
from mien.face.masks import region_labels

_LEAST = 0.35  # of an iris that the portrait has to show, for it to be known
_EYE = (3, 4)  # labels
_RINGS = 12  # distances from the middle that have a colour each
_EDGE = 1.1  # radii at which an iris ends: the mesh's points lie just within it
_SHUT, _OPEN = 0.5, 1.0  # openings, in radii: of nearly shut lids the mesh sees more than is open
_LASHES = 0.35  # radii around an opening
_WHITE_SHADE, _LID_SHADE, _LASH_SHADE = 0.6, 0.85, 0.3  # of the portrait's colours: no white, lid or lashes are darker


@dataclass(frozen=True)
class _Eye:
    """An eye of a picture: `middle [2]` and `radius` of its iris in pixels, the mean height of its `opening` in radii."""

    middle: NDArray[np.float64]
    radius: float
    opening: float

    @staticmethod
    def of(points: NDArray[np.floating], side: int) -> _Eye:
        """From the mesh `[478, 2]`."""
        iris, lids = points[lm.IRISES[side]].astype(np.float64), points[lm.EYES[side]].astype(np.float32)
        radius = float(np.linalg.norm(iris[1:] - iris[0], axis=1).mean())
        width = float(np.linalg.norm(lids[0] - lids[len(lids) // 2]))
        return _Eye(iris[0], radius, float(cv2.contourArea(lids)) / max(width * radius, 1e-6))

    def away(self, size: int) -> NDArray[np.float32]:
        """Distance of each pixel from the middle, in radii, `[size, size]`."""
        rows, columns = np.mgrid[:size, :size]
        distance = np.hypot(columns - self.middle[0], rows - self.middle[1]) / self.radius
        return np.asarray(distance, np.float32)


class OwnEyes:
    """The eyes of a `picture` uint8 `[S, S, 3]`, whose mesh is `landmarks [478, 2]` in pixels."""

    def __init__(self, picture: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> None:
        size = len(picture)
        self._picture = picture.astype(np.float32)
        label = region_labels(landmarks.astype(np.float64), size, 1.0)
        opening = np.isin(label, _EYE)
        self._seen = _soft(opening)
        self._eyes = [_Eye.of(landmarks, side) for side in range(2)]
        self._away = [eye.away(size) for eye in self._eyes]
        white = self._seen * (np.minimum(*self._away) > 1.2)
        self._lids = [
            _mean(self._picture, _around(opening & (away < 4), eye.radius)[0])
            for eye, away in zip(self._eyes, self._away, strict=True)
        ]
        self._white = _mean(self._picture, white) if white.sum() > 4 else np.mean(self._lids, 0)

    def within(self, image: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The `image` uint8 `[S, S, 3]`, whose mesh is `landmarks`, with these eyes between its lids. An iris that is hardly seen
        stays the image's."""
        out = image.astype(np.float32)
        label = np.isin(region_labels(landmarks.astype(np.float64), len(image), 1.0), _EYE)
        for side in range(2):
            eye = _Eye.of(landmarks, side)
            is_open = float(np.clip((eye.opening - _SHUT) / (_OPEN - _SHUT), 0, 1))
            away = eye.away(len(image))
            this = label & (away < 4)
            lids, rim = (x[..., None] for x in _around(this, eye.radius))
            lashes = (2 * _soft(np.roll(this, 1, 0) & ~np.roll(this, -1, 0))).clip(0, 1)[..., None]
            skin = _LID_SHADE * self._lids[side]
            for shade, where in (
                (skin, lids),
                (skin + (_LASH_SHADE * self._lids[side] - skin) * lashes, rim * (1 - is_open)),
                (_WHITE_SHADE * self._white, _soft(this)[..., None] * is_open),
            ):
                out += (np.maximum(out, shade) - out) * where
            weight = _soft(this) * ((_EDGE - away) * eye.radius + 0.5).clip(0, 1) * is_open
            if weight.any() and (iris := self._iris(side, eye, away)) is not None:
                out += (iris - out) * weight[..., None]
        return out.round().clip(0, 255).astype(np.uint8)

    def _iris(self, side: int, there: _Eye, away: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """This iris as if it were `there`, `[S, S, 3]`; None where too little of it is seen."""
        own = self._eyes[side]
        if (self._seen * (self._away[side] < 1)).sum() < _LEAST * np.pi * own.radius**2:
            return None
        ratio = own.radius / there.radius
        affine = np.array([[ratio, 0, 0], [0, ratio, 0]])
        affine[:, 2] = own.middle - ratio * there.middle
        size = away.shape[::-1]
        taken, seen = (
            cv2.warpAffine(a, affine, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            for a in (self._picture, self._seen)
        )
        hidden = self._rings(side)[np.minimum(away / _EDGE * _RINGS, _RINGS - 1).astype(np.int64)]
        return np.asarray(taken * seen[..., None] + hidden * (1 - seen[..., None]), np.float32)

    def _rings(self, side: int) -> NDArray[np.float32]:
        """Mean colour at each distance from the middle, `[_RINGS, 3]`; where nothing is seen, of the ring next to it."""
        ring = (self._away[side] / _EDGE * _RINGS).astype(np.int64)
        colours = np.zeros((_RINGS, 3), np.float32)
        for number in range(_RINGS):
            weight = self._seen * (ring == number)
            colours[number] = _mean(self._picture, weight) if weight.sum() > 0.5 else colours[number - 1]
        return colours


def _around(opening: NDArray[np.bool_], radius: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The lids around an opening, and the opening with its rim, where lashes are, each `[size, size]`."""
    grown = lambda by: _soft(cv2.dilate(opening.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)))
    lashes = max(round(_LASHES * radius), 1)
    rim = grown(lashes)
    return grown(lashes + max(round(radius), 1)) * (1 - rim), rim


def _soft(mask: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7), np.float32)


def _mean(picture: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean colour `[3]` under a weight `[S, S]`."""
    return np.asarray((picture * weight[..., None]).sum((0, 1)) / weight.sum().clip(1e-6), np.float32)
