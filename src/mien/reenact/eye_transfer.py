"""Eye transfer: composite a portrait's own irises, sclera and lids into a render of the same person.

A generator paints the eyes that it has learned, in its own colours, and where its channels go beyond what it was
trained for it may paint an eye black. An iris looks the same wherever it is turned, so the portrait's is used. For each
eye (`EyeCompositor.apply`):

1. Sclera, lids and lashes are clamped from below to a shade of the portrait's colours.
2. The portrait's iris, scaled to the render's, is pasted within the render's lids.
3. What the portrait's lids hide of it is filled by the mean colour at the same distance from the centre.

The paper has no counterpart.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.face import mesh as lm
from mien.face.masks import region_labels

EYE_LABELS = (3, 4)  # of `region_labels`: sclera and iris
RINGS = 12  # bins of the radial colour profile of an iris
IRIS_EDGE_RADII = 1.1  # where an iris ends: the mesh's points lie just within it
EYE_REACH_RADII = 4.0  # pixels of an opening that are farther from an iris belong to the other eye
SCLERA_FROM_RADII = 1.2  # sclera begins there, clear of the iris's edge
# Mean height of the opening at which lids count as shut and as open: of nearly shut lids the mesh sees more than is open.
SHUT_RADII, OPEN_RADII = 0.5, 1.0
LASH_RADII = 0.35  # width of the rim around an opening in which lashes are
EDGE_SIGMA_PX = 0.7  # softness of masks


@dataclass(frozen=True)
class EyeTransferOptions:
    """How a portrait's eyes are composited.

    `min_iris_visible`: share of the iris disc that the portrait must show; below it the render's iris stays. The shades
    are the darkest that sclera, lids and lashes may be, as a share of the portrait's colours.
    """

    min_iris_visible: float = 0.35
    sclera_shade: float = 0.6
    lid_shade: float = 0.85
    lash_shade: float = 0.3


@dataclass(frozen=True)
class EyeGeometry:
    """One eye of an image: `centre_px [2]` (x, y) and `radius_px` of its iris; `opening_radii`: mean height between the
    lids over the radius."""

    centre_px: NDArray[np.float64]
    radius_px: float
    opening_radii: float

    @staticmethod
    def of(landmarks: NDArray[np.floating], side: int) -> EyeGeometry:
        """From mesh `landmarks [478, 2]` in pixels; `side`: 0 or 1, as in `mien.face.mesh.EYES`."""
        iris, lids = landmarks[lm.IRISES[side]].astype(np.float64), landmarks[lm.EYES[side]].astype(np.float32)
        radius = float(np.linalg.norm(iris[1:] - iris[0], axis=1).mean())
        width = float(np.linalg.norm(lids[0] - lids[len(lids) // 2]))
        return EyeGeometry(iris[0], radius, float(cv2.contourArea(lids)) / max(width * radius, 1e-6))

    @property
    def openness(self) -> float:
        """From 0 (shut) to 1 (open)."""
        return float(np.clip((self.opening_radii - SHUT_RADII) / (OPEN_RADII - SHUT_RADII), 0, 1))

    def distance_radii(self, size: int) -> NDArray[np.float32]:
        """Distance of each pixel from the centre, in radii, `[size, size]`."""
        rows, columns = np.mgrid[:size, :size]
        distance = np.hypot(columns - self.centre_px[0], rows - self.centre_px[1]) / self.radius_px
        return np.asarray(distance, np.float32)


@dataclass(frozen=True)
class SourceEye:
    """One eye of the portrait: its geometry, mean colour of its lids `[3]`, colour at each distance from the centre
    `[RINGS, 3]`, and `visible`: the share of its iris disc that is seen."""

    geometry: EyeGeometry
    lid_colour: NDArray[np.float32]
    radial_profile: NDArray[np.float32]
    visible: float


class EyeCompositor:
    """The eyes of a portrait, to be set into renders of the same person."""

    def __init__(
        self,
        portrait: NDArray[np.uint8],
        landmarks: NDArray[np.floating],
        options: EyeTransferOptions = EyeTransferOptions(),
    ) -> None:
        """`portrait` uint8 `[S, S, 3]`, its mesh `landmarks [478, 2]` in pixels."""
        size = len(portrait)
        self._options = options
        self._portrait = portrait.astype(np.float32)
        opening = np.isin(region_labels(landmarks.astype(np.float64), size, 1.0), EYE_LABELS)
        self._seen = _soft(opening)
        geometries = [EyeGeometry.of(landmarks, side) for side in range(2)]
        distances = [eye.distance_radii(size) for eye in geometries]
        self._eyes = [self._source_eye(eye, opening, d) for eye, d in zip(geometries, distances, strict=True)]
        sclera = self._seen * (np.minimum(*distances) > SCLERA_FROM_RADII)
        lids = np.mean([eye.lid_colour for eye in self._eyes], 0)
        self._sclera_colour = _mean_colour(self._portrait, sclera) if sclera.sum() > 4 else lids

    def apply(self, image: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Set these eyes into `image` uint8 `[S, S, 3]`, whose mesh is `landmarks [478, 2]` in pixels.

        An iris of which the portrait shows too little stays the image's own. Nothing changes but the eyes and the lids
        around them.
        """
        out = image.astype(np.float32)
        openings = np.isin(region_labels(landmarks.astype(np.float64), len(image), 1.0), EYE_LABELS)
        for side, source in enumerate(self._eyes):
            eye = EyeGeometry.of(landmarks, side)
            distance = eye.distance_radii(len(image))
            opening = openings & (distance < EYE_REACH_RADII)
            out = self._lift_shadows(out, opening, eye, source)
            edge = ((IRIS_EDGE_RADII - distance) * eye.radius_px + 0.5).clip(0, 1)
            weight = _soft(opening) * edge * eye.openness
            if weight.any() and source.visible >= self._options.min_iris_visible:
                out += (self._iris(source, eye, distance) - out) * weight[..., None]
        return out.round().clip(0, 255).astype(np.uint8)

    def _source_eye(self, eye: EyeGeometry, opening: NDArray[np.bool_], distance: NDArray[np.float32]) -> SourceEye:
        lids, _ = _lids_and_rim(opening & (distance < EYE_REACH_RADII), eye.radius_px)
        visible = float((self._seen * (distance < 1)).sum() / (np.pi * eye.radius_px**2))
        return SourceEye(eye, _mean_colour(self._portrait, lids), self._radial_profile(distance), visible)

    def _lift_shadows(
        self, image: NDArray[np.float32], opening: NDArray[np.bool_], eye: EyeGeometry, source: SourceEye
    ) -> NDArray[np.float32]:
        """Step 1: clamp lids, the line of lashes of shut lids, and sclera from below."""
        options = self._options
        lids, rim = (mask[..., None] for mask in _lids_and_rim(opening, eye.radius_px))
        lower_edge = _soft(np.roll(opening, 1, 0) & ~np.roll(opening, -1, 0))
        lashes = (2 * lower_edge).clip(0, 1)[..., None]
        lid_shade = options.lid_shade * source.lid_colour
        lash_shade = lid_shade + (options.lash_shade * source.lid_colour - lid_shade) * lashes
        for shade, mask in (
            (lid_shade, lids),
            (lash_shade, rim * (1 - eye.openness)),
            (options.sclera_shade * self._sclera_colour, _soft(opening)[..., None] * eye.openness),
        ):
            image += (np.maximum(image, shade) - image) * mask
        return image

    def _iris(self, source: SourceEye, eye: EyeGeometry, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Steps 2 and 3: the portrait's iris at the place and size of the render's `eye`, `[S, S, 3]`."""
        ratio = source.geometry.radius_px / eye.radius_px
        affine = np.array([[ratio, 0, 0], [0, ratio, 0]])
        affine[:, 2] = source.geometry.centre_px - ratio * eye.centre_px
        pasted, seen = (
            cv2.warpAffine(a, affine, distance.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            for a in (self._portrait, self._seen)
        )
        hidden = source.radial_profile[np.minimum(distance / IRIS_EDGE_RADII * RINGS, RINGS - 1).astype(np.int64)]
        return np.asarray(pasted * seen[..., None] + hidden * (1 - seen[..., None]), np.float32)

    def _radial_profile(self, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean colour at each distance from the centre, `[RINGS, 3]`; where nothing is seen, the next inner ring's."""
        ring = (distance / IRIS_EDGE_RADII * RINGS).astype(np.int64)
        colours = np.zeros((RINGS, 3), np.float32)
        for number in range(RINGS):
            weight = self._seen * (ring == number)
            colours[number] = _mean_colour(self._portrait, weight) if weight.sum() > 0.5 else colours[number - 1]
        return colours


def _lids_and_rim(opening: NDArray[np.bool_], radius_px: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The lids around an opening, and the opening with the rim in which lashes are, each `[S, S]` in [0, 1]."""
    grown = lambda px: _soft(cv2.dilate(opening.astype(np.uint8), np.ones((2 * px + 1, 2 * px + 1), np.uint8)))
    lash_px = max(round(LASH_RADII * radius_px), 1)
    rim = grown(lash_px)
    return grown(lash_px + max(round(radius_px), 1)) * (1 - rim), rim


def _soft(mask: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), EDGE_SIGMA_PX), np.float32)


def _mean_colour(image: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean colour `[3]` under a weight `[S, S]`."""
    return np.asarray((image * weight[..., None]).sum((0, 1)) / weight.sum().clip(1e-6), np.float32)
