"""A portrait carried along: what the one picture of a person looks like where the head turns and the face moves.

One picture does not say how this face looks when it moves; the pack's generator knows where things go, but is soft. So the
portrait itself is moved as the face mesh moves between two renders of the pack's generator: as sharp as the portrait, with its
own skin, brows and hair. What opens or shuts, eyes and mouth, and what would be smeared, is the render's own, in the portrait's
colours, with the portrait's irises (`mien.reenact.eye_transfer`). `mien.reenact.portrait` tunes to these pictures beside the portrait. The paper has no counterpart.
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
from mien.face.masks import MASK_SIZE, Regions, dilate, region_labels, regions
from mien.face.measures import gaze_direction
from mien.personalize.gaze_augmentation import elsewhere
from mien.reenact.eye_transfer import OwnEyes

_REACH = 5 / 256  # of the side: mesh points nearer than this act as one, for the mesh on a soft render trembles
_FALL = 2.0  # weights of mesh points fall with this power of the squared distance
_TONE = 1 / 16  # of the side: the colours of the render are mended over this distance
_LIPS, _LIP_EDGE = 6, 1 / 170  # their label; of the side: how soft their edge is
_RIM, _EVEN = 4, (1.0, 4.0)  # of 64: how far the edge of a face reaches in, and over what moves are evened out there
_STRETCHED = 0.3  # of its own area that a pixel shows: less is a smear
# Lids that shut and lips that part would pull along what is next to them.
_SKIN = sorted(set(range(lm.MESH_POINTS)) - {i for ids in (*lm.EYES, *lm.IRISES, lm.LIPS_INNER) for i in ids})
# A brow moves and bends, but keeps its thickness: its upper points, and the lower ones under them, go the same way.
_UPPER, _LOWER = [i for brow in lm.BROWS for i in brow[:5]], [i for brow in lm.BROWS for i in brow[:4:-1]]
# The picture's border stays: what is between it and the face, hair above all, gives way.
_BORDER = np.array([(x, y) for x in np.linspace(0, 1, 17) for y in np.linspace(0, 1, 17) if {x, y} & {0.0, 1.0}])
_AT_ONCE = 1024  # pixels
_FEWEST_GLANCES = 3  # pictures, for what is usual to be known


@dataclass(frozen=True)
class Carried:
    """`pictures` uint8 `[N, S, S, 3]`, their `landmarks [N, 478, 2]` in pixels, and `which [N]` of the renders each was moved
    by."""

    pictures: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    which: NDArray[np.int64]

    def and_others(self, pictures: NDArray[np.uint8], landmarks: NDArray[np.floating], first: int) -> Carried:
        """With pictures that need not be carried, numbered from `first` on."""
        return Carried(
            np.concatenate([self.pictures, pictures]),
            np.concatenate([self.landmarks, landmarks.astype(np.float32)]),
            np.concatenate([self.which, first + np.arange(len(pictures))]),
        )


def carried(
    picture: NDArray[np.uint8], landmarks: NDArray[np.floating], rest: NDArray[np.uint8], moved: NDArray[np.uint8],
    wanted: NDArray[np.float64] | None = None,
) -> Carried:  # fmt: skip
    """The `picture` uint8 `[S, S, 3]`, whose mesh is `landmarks [478, 2]`, moved as renders are: `rest [S, S, 3]`, which does what
    the picture does, and `moved [N, S, S, 3]`. Renders in which no face is found are left out. `wanted [N, 2]`: where the driver
    looks (`gaze_direction`), NaN where that is unknown; the irises move as far as those, for the pack's go half as far."""
    mesh, size = lm.FaceMesh(), len(picture)
    start, found = _points(mesh, rest), [_points(mesh, render) for render in moved]
    mesh.close()
    further = _further([gaze_direction(points, size) for points in found], wanted)
    pictures, meshes, which = [], [], []
    own = landmarks.astype(np.float64)
    eyes = OwnEyes(picture, landmarks)
    lips = _lip_colour(picture, landmarks) - _lip_colour(rest, start - 0.5) if start is not None else np.zeros(3)
    for number, (render, there) in enumerate(zip(moved, found, strict=True)):
        if start is None or there is None:
            continue
        target = own + _whole_brows(there - start)
        ends = (np.concatenate([points[_SKIN] / size, _BORDER]) for points in (target, own))
        places, area = _sources(*ends)
        masks = regions(np.stack([target, there]).astype(np.float32), size)
        places = _even_outside(places, masks.face[:1])
        grid = cv2.resize(places * size, (size, size), interpolation=cv2.INTER_CUBIC) - 0.5
        taken = cv2.remap(picture, grid[..., 0], grid[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        along = np.asarray(taken, np.uint8)
        carries = _believed(masks, area)
        skin = carries * masks.rigid.amin(0, keepdim=True)
        made = _with_its_own(along, render, carries, skin, _lips(there - 0.5, size), lips)
        made, looking = elsewhere(made, there, further[number]) or (made, there)
        pictures.append(eyes.within(made, looking - 0.5))
        meshes.append((target + looking - there).astype(np.float32))
        which.append(number)
    if not pictures:
        return Carried(moved[:0], np.zeros((0, *landmarks.shape), np.float32), np.zeros(0, np.int64))
    return Carried(np.stack(pictures), np.stack(meshes), np.array(which))


def _further(seen: list[NDArray[np.float64]], wanted: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """How much further irises have to go that are `seen` at N places, `[2]` each, to move about their middle as those that are
    `wanted [N, 2]` do: `[N, 2]`, 0 where either is NaN."""
    here = np.array(seen).reshape(-1, 2)
    out = np.zeros_like(here)
    if wanted is None or (known := ~np.isnan(here + wanted).any(1)).sum() < _FEWEST_GLANCES:
        return out
    change = lambda x: x[known] - np.median(x[known], axis=0)
    out[known] = change(wanted) - change(here)
    return out


def _points(mesh: lm.FaceMesh, image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    found = mesh(np.ascontiguousarray(image))
    return found[0][:, :2].astype(np.float64) if found else None


def _whole_brows(moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """How the mesh moves, `[478, 2]`, but for brows that get thicker."""
    moves = moves.copy()
    moves[_UPPER] = moves[_LOWER] = (moves[_UPPER] + moves[_LOWER]) / 2
    return moves


def _sources(
    target: NDArray[np.float64], source: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """For each of 64x64 places, where in the picture it comes from, `[64, 64, 2]` in sides, and how much of the picture's area it
    shows: affine moving least squares (Schaefer et al. 2006) from points `target [N, 2]` to `source [N, 2]`."""
    at = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE
    places = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    out, area = [], []
    for some in np.array_split(places, max(len(places) // _AT_ONCE, 1)):
        weight = (np.square(some[:, None] - target).sum(-1) + _REACH**2) ** -_FALL
        weight /= weight.sum(1, keepdims=True)
        middle, source_middle = weight @ target, weight @ source
        a, b = target - middle[:, None], source - source_middle[:, None]
        weighted = (weight[..., None] * a).transpose(0, 2, 1)
        turn = np.linalg.solve(weighted @ a + 1e-8 * np.eye(2), weighted @ b)
        out.append(source_middle + ((some - middle)[:, None] @ turn)[:, 0])
        area.append(np.linalg.det(turn))
    grid = (MASK_SIZE, MASK_SIZE)
    return np.concatenate(out).reshape(*grid, 2).astype(np.float32), np.concatenate(area).reshape(grid)


def _even_outside(places: NDArray[np.float32], face: Tensor) -> NDArray[np.float32]:
    """The places `[64, 64, 2]`, their moves evened out at the edge of the `face [1, 1, 64, 64]` and beyond: where a portrait's far
    cheek is turned back, its outline's points, close together there, pull what is behind it in like fingers."""
    at = (np.arange(MASK_SIZE, dtype=np.float32) + 0.5) / MASK_SIZE
    still = np.stack(np.meshgrid(at, at), -1)
    inner = F.avg_pool2d(-F.max_pool2d(-face, 2 * _RIM + 1, 1, _RIM), 5, 1, 2)[0, 0, ..., None].numpy()
    moves = places - still
    # Down the cheek: across it, moves differ as a head turns.
    even = cv2.GaussianBlur(moves, (0, 0), _EVEN[0], None, _EVEN[1])
    return np.asarray(still + moves * inner + even * (1 - inner), np.float32)


def _believed(masks: Regions, area: NDArray[np.float64]) -> Tensor:
    """Where what is carried is right, `[1, 1, 64, 64]`; `masks`: of both meshes."""
    shut = torch.maximum(dilate(masks.opening, 3), dilate(masks.lips, 1)).amax(0, keepdim=True)
    smeared = torch.from_numpy(((area - _STRETCHED) / _STRETCHED).clip(0, 1)).float()[None, None]
    return F.avg_pool2d(smeared, 5, 1, 2, count_include_pad=False) * (1 - shut)


def _lips(points: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """Where lips are, `[size, size, 1]`."""
    label = region_labels(points.astype(np.float64), size, 1.0)
    return cv2.GaussianBlur((label == _LIPS).astype(np.float32), (0, 0), size * _LIP_EDGE)[..., None]


def _lip_colour(picture: NDArray[np.uint8], points: NDArray[np.floating]) -> NDArray[np.float64]:
    weight = _lips(points, len(picture)).astype(np.float64)
    return np.asarray((picture * weight).sum((0, 1)) / max(float(weight.sum()), 1e-6))


def _with_its_own(
    along: NDArray[np.uint8], render: NDArray[np.uint8], carries: Tensor, skin: Tensor, lips: NDArray[np.float32],
    redder: NDArray[np.float64],
) -> NDArray[np.uint8]:  # fmt: skip
    """What was carried `along` where it is right (`carries`), elsewhere the render, its colours mended as far as they differ on
    the `skin` around, on `lips` by what lips differ in (`redder [3]`)."""
    size = len(along)
    mask, around = (cv2.resize(m[0, 0].numpy(), (size, size))[..., None] for m in (carries, skin))
    a, b = along.astype(np.float32), render.astype(np.float32)
    blur = lambda x: cv2.GaussianBlur(x, (0, 0), size * _TONE)
    tone = blur((a - b) * around) / (blur(around)[..., None] + 1e-3)
    tone += (redder - tone) * lips
    return (a * mask + (b + tone) * (1 - mask)).round().clip(0, 255).astype(np.uint8)
