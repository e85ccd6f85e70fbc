"""Warped views: what the one image of a person looks like where the head turns and the face moves.

One image does not say how its face moves; the pack's generator knows where each point goes, but draws it soft and in
colours of its own. `warp_portrait` therefore moves the portrait itself, as the mesh moves between two renders of the
pack's generator, one in the portrait's pose and expression (`neutral`), one in the driver's. For each driving frame:

1. Mesh displacement from the neutral render to the driving one, added to the portrait's mesh.
2. Inverse warp by affine moving least squares (Schaefer et al. 2006), smoothed beyond the face's edge; the image's
   border stays.
3. Validity mask: not where the warp stretches, nor where lids and lips part.
4. Composite: the warped portrait where it is valid, elsewhere the render in the portrait's colours.
5. Irises turned as far as the driver's, about the usual gaze of each.
6. The portrait's own eyes within the render's lids (`mien.reenact.eye_transfer`).

`mien.reenact.portrait` tunes a generator to these images beside the portrait. The paper has no counterpart.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.face import mesh as lm
from mien.face.gaze_warp import warp_gaze_in_crop
from mien.face.masks import MASK_SIZE, Regions, dilate, region_labels, regions
from mien.face.measures import gaze_direction
from mien.reenact.eye_transfer import EyeCompositor, EyeTransferOptions

# "Sides" are lengths as a share of the crop's side, "mask px" are pixels of the masks of side `MASK_SIZE`.
MLS_SOFTENING_SIDES = 5 / 256  # control points nearer than this act as one: the mesh of a soft render trembles
MLS_FALLOFF_POWER = 2.0  # weights of control points fall with this power of the squared distance
MLS_CHUNK_PX = 1024  # places that are solved for at once
TONE_SIGMA_SIDES = 1 / 16  # distance over which a render's colours are corrected
LIP_LABEL = 6  # of `region_labels`
LIP_EDGE_SIGMA_SIDES = 1 / 170  # softness of the lips' edge
FACE_RIM_MASK_PX = 4  # how far in the edge of a face reaches
RIM_SIGMA_MASK_PX = (1.0, 4.0)  # across and down: over what displacements are smoothed at that edge and beyond
MIN_AREA_RATIO = 0.3  # a pixel that shows less than this share of its own area is a smear
MIN_GAZE_SAMPLES = 3  # views, for the usual gaze to be known

# Lids that shut and lips that part would drag the skin beside them along: they are no control points.
_SKIN = sorted(set(range(lm.MESH_POINTS)) - {i for ids in (*lm.EYES, *lm.IRISES, lm.LIPS_INNER) for i in ids})
_BROW_UPPER, _BROW_LOWER = [i for brow in lm.BROWS for i in brow[:5]], [i for brow in lm.BROWS for i in brow[:4:-1]]
_BORDER = np.array([(x, y) for x in np.linspace(0, 1, 17) for y in np.linspace(0, 1, 17) if {x, y} & {0.0, 1.0}])


@dataclass(frozen=True)
class ViewOptions:
    """`driver_gaze`: turn irises as far as the driver's (the pack's renders turn them less far). For how many frames views
    are made, each the farthest from those before it: `PortraitTuning.frames`."""

    driver_gaze: bool = True


@dataclass(frozen=True)
class WarpedPortraits:
    """`images` uint8 `[N, S, S, 3]`, their mesh `landmarks [N, 478, 2]` in pixels, and the index of the render that each
    was warped by, `frames [N]`."""

    images: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    frames: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def extended(self, images: NDArray[np.uint8], landmarks: NDArray[np.floating], first: int) -> WarpedPortraits:
        """With more images `[M, S, S, 3]` and their meshes `[M, 478, 2]`, whose frames are numbered from `first` on."""
        return WarpedPortraits(
            np.concatenate([self.images, images]),
            np.concatenate([self.landmarks, landmarks.astype(np.float32)]),
            np.concatenate([self.frames, first + np.arange(len(images))]),
        )

    @staticmethod
    def none(size: int) -> WarpedPortraits:
        """No views, of side `size`."""
        no_mesh = np.zeros((0, lm.MESH_POINTS, 2), np.float32)
        return WarpedPortraits(np.zeros((0, size, size, 3), np.uint8), no_mesh, np.zeros(0, np.int64))


def warp_portrait(
    portrait: NDArray[np.uint8],
    landmarks: NDArray[np.floating],
    neutral: NDArray[np.uint8],
    renders: NDArray[np.uint8],
    driver_gaze: NDArray[np.float64] | None = None,
    eyes: EyeTransferOptions | None = None,
) -> WarpedPortraits:
    """Warp a portrait as its renders move.

    Args:
        portrait: uint8 RGB `[S, S, 3]`, whose mesh is `landmarks [478, 2]` in pixels.
        neutral: render `[S, S, 3]` in the portrait's own pose and expression.
        renders: `[N, S, S, 3]` in those of the driver.
        driver_gaze: the driver's gaze `[N, 2]` (`mien.face.measures.gaze_direction`), NaN where it is unknown; None leaves irises
            where the renders have them (step 5).
        eyes: None leaves the renders' eyes (step 6).

    Returns the views; renders in which no face is found have none.
    """
    mesh, size = lm.FaceMesh(), len(portrait)
    start, found = _mesh_points(mesh, neutral), [_mesh_points(mesh, render) for render in renders]
    mesh.close()
    gaze_moves = gaze_correction([gaze_direction(points, size) for points in found], driver_gaze)
    compositor = EyeCompositor(portrait, landmarks, eyes) if eyes else None
    images, meshes, frames = [], [], []
    source = landmarks.astype(np.float64)
    for frame, (render, there) in enumerate(zip(renders, found, strict=True)):
        if start is None or there is None:
            continue
        # Steps 1 to 3: where everything goes, and where that can be trusted.
        target = source + rigid_brows(there - start)
        masks = regions(np.stack([target, there]).astype(np.float32), size)
        warped, area = _warp(portrait, source, target, masks.face[:1])
        valid = validity_mask(masks, area)
        # Step 4: the render, in the portrait's colours, everywhere else.
        lip_tone = lip_colour(portrait, landmarks) - lip_colour(neutral, start - 0.5)
        skin = valid * masks.rigid.amin(0, keepdim=True)
        image = composite(warped, render, valid, skin, _lip_mask(there - 0.5, size), lip_tone)
        # Steps 5 and 6: the eyes.
        image, turned = warp_gaze_in_crop(image, there, gaze_moves[frame]) or (image, there)
        images.append(compositor.apply(image, turned - 0.5) if compositor else image)
        meshes.append((target + turned - there).astype(np.float32))
        frames.append(frame)
    if not images:
        return WarpedPortraits.none(size)
    return WarpedPortraits(np.stack(images), np.stack(meshes), np.array(frames))


def rigid_brows(displacement: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mesh displacement `[478, 2]` with brows that keep their thickness: each upper point and the lower one under it
    move by their mean."""
    displacement = displacement.copy()
    mean = (displacement[_BROW_UPPER] + displacement[_BROW_LOWER]) / 2
    displacement[_BROW_UPPER] = displacement[_BROW_LOWER] = mean
    return displacement


def inverse_warp(
    target: NDArray[np.float64], source: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Affine moving least squares (Schaefer et al. 2006) from control points `target [K, 2]` back to `source [K, 2]`.

    Returns for each of 64x64 places the place in the portrait that it shows, `[64, 64, 2]`, and the share of its own
    area that it shows of it, `[64, 64]`. Points and places are in sides, (x, y).
    """
    places = _mask_grid().astype(np.float64).reshape(-1, 2)
    out, area = [], []
    for chunk in np.array_split(places, max(len(places) // MLS_CHUNK_PX, 1)):
        distance = np.square(chunk[:, None] - target).sum(-1)
        weight = (distance + MLS_SOFTENING_SIDES**2) ** -MLS_FALLOFF_POWER
        weight /= weight.sum(1, keepdims=True)
        centre, source_centre = weight @ target, weight @ source
        a, b = target - centre[:, None], source - source_centre[:, None]
        weighted = (weight[..., None] * a).transpose(0, 2, 1)
        affine = np.linalg.solve(weighted @ a + 1e-8 * np.eye(2), weighted @ b)
        out.append(source_centre + ((chunk - centre)[:, None] @ affine)[:, 0])
        area.append(np.linalg.det(affine))
    grid = (MASK_SIZE, MASK_SIZE)
    return np.concatenate(out).reshape(*grid, 2).astype(np.float32), np.concatenate(area).reshape(grid)


def smooth_outside_face(places: NDArray[np.float32], face: Tensor) -> NDArray[np.float32]:
    """Smooth the displacements of an inverse warp `places [64, 64, 2]` at the edge of the `face [1, 1, 64, 64]` and beyond.

    Where a portrait's far cheek is turned back, the outline's points lie close together there and would drag what is
    behind them in, each in its own direction. Smoothing runs down the cheek: across it, displacements differ as a head
    turns.
    """
    still = _mask_grid().astype(np.float32)
    eroded = -F.max_pool2d(-face, 2 * FACE_RIM_MASK_PX + 1, 1, FACE_RIM_MASK_PX)
    inner = F.avg_pool2d(eroded, 5, 1, 2)[0, 0, ..., None].numpy()
    displacement = places - still
    across, down = RIM_SIGMA_MASK_PX
    smooth = cv2.GaussianBlur(displacement, (0, 0), across, None, down)
    return np.asarray(still + displacement * inner + smooth * (1 - inner), np.float32)


def validity_mask(masks: Regions, area: NDArray[np.float64]) -> Tensor:
    """Where a warped portrait is right, `[1, 1, 64, 64]` in [0, 1].

    `masks`: of the warped mesh and the render's, two frames; `area [64, 64]`: as `inverse_warp` returns it.
    """
    opening = torch.maximum(dilate(masks.opening, 3), dilate(masks.lips, 1)).amax(0, keepdim=True)
    stretch = ((area - MIN_AREA_RATIO) / MIN_AREA_RATIO).clip(0, 1)
    unstretched = torch.from_numpy(stretch).float()[None, None]
    return F.avg_pool2d(unstretched, 5, 1, 2, count_include_pad=False) * (1 - opening)


def composite(
    warped: NDArray[np.uint8],
    render: NDArray[np.uint8],
    valid: Tensor,
    skin: Tensor,
    lips: NDArray[np.float32],
    lip_tone: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """The `warped` portrait where it is `valid`, elsewhere the `render` in the portrait's colours, uint8 `[S, S, 3]`.

    The render is corrected by the local mean difference of the two on `skin` around, on `lips [S, S, 1]` by `lip_tone
    [3]`. `valid`, `skin`: `[1, 1, 64, 64]`.
    """
    size = len(warped)
    mask, around = (cv2.resize(m[0, 0].numpy(), (size, size))[..., None] for m in (valid, skin))
    a, b = warped.astype(np.float32), render.astype(np.float32)
    blur = lambda x: cv2.GaussianBlur(x, (0, 0), size * TONE_SIGMA_SIDES)
    tone = blur((a - b) * around) / (blur(around)[..., None] + 1e-3)
    tone += (lip_tone - tone) * lips
    return (a * mask + (b + tone) * (1 - mask)).round().clip(0, 255).astype(np.uint8)


def gaze_correction(rendered: list[NDArray[np.float64]], driver: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """How far irises have to be turned for their gaze to vary about its median as the driver's does, `[N, 2]`.

    `rendered`: gaze `[2]` of N renders; `driver [N, 2]`. 0 where either is NaN, and everywhere where fewer than
    `MIN_GAZE_SAMPLES` are known.
    """
    here = np.array(rendered).reshape(-1, 2)
    out = np.zeros_like(here)
    if driver is None or (known := ~np.isnan(here + driver).any(1)).sum() < MIN_GAZE_SAMPLES:
        return out
    change = lambda x: x[known] - np.median(x[known], axis=0)
    out[known] = change(driver) - change(here)
    return out


def lip_colour(image: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean colour `[3]` of the lips of an image uint8 `[S, S, 3]` with mesh `landmarks [478, 2]` in pixels."""
    weight = _lip_mask(landmarks, len(image)).astype(np.float64)
    return np.asarray((image * weight).sum((0, 1)) / max(float(weight.sum()), 1e-6))


def _warp(
    portrait: NDArray[np.uint8], source: NDArray[np.float64], target: NDArray[np.float64], face: Tensor
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Step 2: the portrait warped from the mesh `source` to `target` (pixels), and the area ratio `[64, 64]`."""
    size = len(portrait)
    ends = (np.concatenate([points[_SKIN] / size, _BORDER]) for points in (target, source))
    places, area = inverse_warp(*ends)
    places = smooth_outside_face(places, face)
    grid = cv2.resize(places * size, (size, size), interpolation=cv2.INTER_CUBIC) - 0.5
    warped = cv2.remap(portrait, grid[..., 0], grid[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.uint8), area


def _mask_grid() -> NDArray[np.float64]:
    """Centres of the masks' pixels in sides, (x, y), `[64, 64, 2]`."""
    at = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE
    return np.stack(np.meshgrid(at, at), -1)


def _mesh_points(mesh: lm.FaceMesh, image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    found = mesh(np.ascontiguousarray(image))
    return found[0][:, :2].astype(np.float64) if found else None


def _lip_mask(landmarks: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """Soft mask of the lips, `[S, S, 1]`."""
    label = region_labels(landmarks.astype(np.float64), size, 1.0)
    lips = (label == LIP_LABEL).astype(np.float32)
    return cv2.GaussianBlur(lips, (0, 0), size * LIP_EDGE_SIGMA_SIDES)[..., None]
