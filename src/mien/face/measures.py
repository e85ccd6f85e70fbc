"""Measures of a face's landmarks, each defined once: expression, pose ratios, gaze, openness of the eyes.

The face parser, training, live driving and `mien evaluate` all measure by these functions. They are
differentiable, and the same for landmarks in pixels and in [0, 1].
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.face import mesh as lm

# Mesh points that the landmark head predicts, in this order.
POINTS: tuple[int, ...] = tuple(
    lm.LIPS_OUTER + lm.LIPS_INNER + lm.EYES[0] + lm.EYES[1] + lm.BROWS[0] + lm.BROWS[1]
) + tuple(lm.IRISES[0] + lm.IRISES[1] + lm.FACE_OVAL + [1, 4, 168, 6, 2, 98, 327])
_INDEX = {point: i for i, point in enumerate(POINTS)}
GAZE = 7  # column of `expression_measures`
CLOSED_LIDS = 0.15  # `eye_openness` under which no iris can be placed


def eye_openness(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Height over width of the lid opening, mean of both eyes, of meshes `[T, 478, 2]`: `[T]`."""
    p = landmarks.astype(np.float64)
    gap = lambda a, b: np.linalg.norm(p[:, a] - p[:, b], axis=1)
    return (gap(159, 145) / gap(33, 133).clip(1e-6) + gap(386, 374) / gap(362, 263).clip(1e-6)) / 2


def blinks(landmarks: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Frames `[T]` in which the eyes are closed or nearly so: under 45 % of the clip's usual opening, or 0.1."""
    openness = eye_openness(landmarks)
    return openness < max(0.1, 0.45 * float(np.median(openness)))


def gaze(points: Tensor) -> Tensor:
    """Gaze `[N, 2]` of landmarks `[N, len(POINTS), 2]`: the iris' place in the eye, mean of both, in the eye's width.

    First to the viewer's right from the left corner (0.5 is straight ahead), then down from the line between the
    corners.
    """
    at = lambda i: points[:, _INDEX[i]]
    down = torch.zeros_like(points[:, 0, 0])
    for (left, right), iris in zip(lm.EYE_CORNERS.tolist(), lm.IRISES, strict=True):
        width = (at(right)[:, 0] - at(left)[:, 0]).clamp_min(1e-3)
        down = down + 0.5 * (at(iris[0])[:, 1] - (at(left)[:, 1] + at(right)[:, 1]) / 2) / width
    return torch.stack([expression_measures(points)[:, GAZE], down], 1)


def gaze_direction(landmarks: NDArray[np.floating] | None, size: int) -> NDArray[np.float64]:
    """`gaze` `[2]` of a mesh `[478, 2]` in pixels of an image of side `size`; NaN without a mesh or with closed lids."""
    if landmarks is None or eye_openness(landmarks[None])[0] < CLOSED_LIDS:
        return np.full(2, np.nan)
    return gaze(mesh_points(landmarks[None], size))[0].double().numpy()


def mesh_points(landmarks: NDArray[np.floating], size: int) -> Tensor:
    """The `POINTS` of meshes `[N, 478, 2]` in pixels of crops of side `size`, in [0, 1]: float32 `[N, len(POINTS), 2]`."""
    return torch.from_numpy(np.ascontiguousarray(landmarks[:, list(POINTS)]).astype(np.float32) / size)


def expression_measures(points: Tensor) -> Tensor:
    """Expression `[N, 8]` of landmarks `[N, len(POINTS), 2]`; lengths are over the distance of the outer eye corners.

    Mouth opening, mouth width, lip height, left and right eye opening, left and right brow height, horizontal gaze
    (0 at the viewer's left corner of the eye, 1 at the right).
    """
    at = lambda i: points[:, _INDEX[i]]
    unit = (at(33) - at(263)).norm(dim=1).clamp_min(1e-3)
    distance = lambda a, b: (at(a) - at(b)).norm(dim=1) / unit
    gaze_left = (at(468)[:, 0] - at(33)[:, 0]) / (at(133)[:, 0] - at(33)[:, 0]).clamp_min(1e-3)
    gaze_right = (at(473)[:, 0] - at(362)[:, 0]) / (at(263)[:, 0] - at(362)[:, 0]).clamp_min(1e-3)
    measures = [distance(13, 14), distance(61, 291), distance(0, 17), distance(159, 145), distance(386, 374)]
    measures += [distance(105, 159), distance(334, 386), (gaze_left + gaze_right) / 2]
    return torch.stack(measures, dim=1)


def pose_measures(points: Tensor) -> Tensor:
    """Two ratios `[N, 2]` of landmarks `[N, len(POINTS), 2]` that grow with yaw and pitch.

    The nose tip's place between the cheeks (-1 to 1), and its height above the line through them over the face's width.
    """
    at = lambda i: points[:, _INDEX[i]]
    width = (at(234) - at(454)).norm(dim=1).clamp_min(1e-3)
    yaw = ((at(1) - at(234)).norm(dim=1) - (at(1) - at(454)).norm(dim=1)) / width
    pitch = ((at(234)[:, 1] + at(454)[:, 1]) / 2 - at(1)[:, 1]) / width
    return torch.stack([yaw, pitch], dim=1)


def nose_height(points: Tensor) -> Tensor:
    """Height `[N]` of the nose tip between forehead (0) and chin (1): another measure of pitch, larger looking down."""
    at = lambda i: points[:, _INDEX[i], 1]
    return (at(1) - at(10)) / (at(152) - at(10))


def eye_line_angle(points: Tensor) -> Tensor:
    """Angle `[N]` of the line through the outer eye corners in radians, positive clockwise on the screen."""
    line = points[:, _INDEX[263]] - points[:, _INDEX[33]]
    return torch.atan2(line[:, 1], line[:, 0])


def face_measures(points: Tensor) -> Tensor:
    """`expression_measures` and `pose_measures` `[N, 10]` of landmarks `[N, len(POINTS), 2]`."""
    return torch.cat([expression_measures(points), pose_measures(points)], dim=1)
