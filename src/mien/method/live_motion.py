"""The 35 numbers of a frame in one pass, from its face mesh alone: stages 1, 4 and 5 without looking ahead.

Roll is the rigid head's. Yaw, pitch and alpha are linear in what the mesh shows (`mien.face.mesh_features`), relative
to the same face at rest. The linear map is fitted to the face that is to be driven (`fit_reader`): its own generator
draws it with random numbers, or with expressions that were seen of it, the mesh is found in the renders, and the
numbers are regressed on what it shows. The labels are exact, tuned weights are taken as they are, and any pack will
do. What the driver looks like at rest is learned while they speak (`RestShape`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mien.errors import FaceError
from mien.face.mesh import FaceMesh, head_pose
from mien.face.mesh_features import facing, features_at_rest, mesh_features
from mien.nets.styleflow import HeadPoseFlow

Array = NDArray[np.float64]
RIDGES = (
    0.003,
    0.01,
    0.03,
    0.1,
    0.3,
    1.0,
    3.0,
)  # squared error of a feature, in its unit, that is not the numbers' doing
KEPT = 300  # meshes that a face at rest is the median of
NEAR_FRONTAL = 15.0  # degrees: frames turned further say little of the face at rest


class RestShape:
    """A face at rest, facing the camera, from the frames of the first seconds: the median of what they show.

    `shape` `[478, 3]` is None before the first frame, which counts wherever it looks; of the others those that are near
    frontal do, the last `KEPT` of them. The estimate changes until `seconds` are over.
    """

    def __init__(self, seconds: float) -> None:
        self.shape: Array | None = None
        self._seconds, self._begin = seconds, -np.inf
        self._seen: deque[Array] = deque(maxlen=KEPT)
        self._count = 0

    def add(self, mesh: NDArray[np.floating], time: float) -> None:
        """Take account of a mesh `[478, 3]` seen at `time`, seconds."""
        if self._begin == -np.inf:
            self._begin = time
        if time - self._begin > self._seconds and self.shape is not None:
            self._seen.clear()
            return
        pose = head_pose(mesh.astype(np.float64))
        if self.shape is None or np.hypot(pose.yaw, pose.pitch) < NEAR_FRONTAL:
            self._seen.append(facing(mesh))
            self._count += 1
            # The median of many meshes costs more than a frame has; it hardly changes from one to the next.
            if self._count <= 8 or self._count % 8 == 0:
                self.shape = np.median(np.stack(self._seen), axis=0)


@dataclass(frozen=True)
class ReaderOptions:
    """`renders`: that the map is fitted to. Their channels are random with a standard deviation of `spread`, in the
    channels' units; or, where expressions of the face are known, those, weaker or stronger by a random factor of
    `stretch`, with a random part of standard deviation `jitter`. `turn`: standard deviation of yaw and pitch, degrees.
    `limit`: the largest offset that is read, units, where larger ones were not seen."""

    renders: int = 140
    spread: float = 1.2
    stretch: tuple[float, float] = (0.5, 1.3)
    jitter: float = 0.4
    limit: float = 3.6
    turn: tuple[float, float] = (12.0, 9.0)
    seed: int = 0


DEFAULTS = ReaderOptions()


@dataclass(frozen=True)
class MotionReader:
    """`reader(mesh, rest)` gives a frame's 35 numbers. `weight [FEATURES, 2 + C]`: of what the mesh shows, to yaw and
    pitch in degrees and alpha; `limit [C]`: the largest alpha. The driven face at rest is that of L_ID: alpha is 0.
    `rest [478, 3]`: its shape then, facing the camera: the driver's own where the driver is the person shown."""

    weight: Array
    flow: HeadPoseFlow
    limit: Array
    rest: Array

    @torch.no_grad()
    def __call__(self, mesh: NDArray[np.floating], rest: Array) -> Array:
        """R, Y, P in degrees and alpha `[35]`, of a mesh `[478, 3]` and the driver's `RestShape.shape`."""
        values = (mesh_features(mesh) - features_at_rest(rest)) @ self.weight
        angles = self.flow.clamp(torch.from_numpy(values[None, :2]).float())[0].double().numpy()
        alpha = np.clip(values[2:], -self.limit, self.limit)
        return np.concatenate([[head_pose(mesh.astype(np.float64)).roll], angles, alpha])


def fit_reader(
    paint: Callable[[Array], NDArray[np.uint8]], flow: HeadPoseFlow, scale: Array, expressions: Array,
    options: ReaderOptions = DEFAULTS, tick: Callable[[int], None] = lambda done: None,
) -> MotionReader:  # fmt: skip
    """Fit the reader for a face that `paint` draws from 35 numbers, uint8 RGB `[R, R, 3]`.

    `scale [C]`: the channels' units. `expressions [T, C]`: alpha of frames in which the face was seen, T = 0 where none
    are known. `tick` is called with the number of renders done since the last call. Raises FaceError where the face at
    rest, or most of the renders, show no face to the mesh.
    """
    random, mesher = np.random.default_rng(options.seed), FaceMesh(min_confidence=0.2)
    found = mesher(paint(np.zeros(3 + len(scale))))
    if not found:
        raise FaceError("no face is found in what this face's own generator draws")
    shape = facing(found[0])
    rest = features_at_rest(shape)
    features, numbers = [], []
    for _ in range(options.renders):
        angles = flow.clamp(torch.from_numpy(random.normal(0, options.turn)[None]).float())[0].double().numpy()
        alpha = _random_expression(random, scale, expressions, options)
        found = mesher(paint(np.concatenate([[0.0], angles, alpha])))
        if found:
            features.append(mesh_features(found[0]) - rest)
            numbers.append(np.concatenate([angles, alpha]))
        tick(1)
    mesher.close()
    if 2 * len(features) < options.renders:
        raise FaceError("no face is found in most of what this face's own generator draws")
    weight = ridge_regression(np.stack(features), np.stack(numbers))
    largest = np.abs(expressions).max(0, initial=0.0)
    return MotionReader(weight, flow, np.maximum(options.limit * scale, largest), shape)


def _random_expression(random: np.random.Generator, scale: Array, expressions: Array, options: ReaderOptions) -> Array:
    """Alpha `[C]` of one of the renders."""
    noise = scale * np.clip(random.standard_normal(len(scale)), -2.5, 2.5)
    if not len(expressions):
        return options.spread * noise
    seen: Array = expressions[random.integers(len(expressions))]
    return random.uniform(*options.stretch) * seen + options.jitter * noise


def ridge_regression(features: NDArray[np.floating], numbers: NDArray[np.floating]) -> Array:
    """The map `[F, K]` through the origin from `features [N, F]` to `numbers [N, K]`, in the dual, since F > N.

    Each number's ridge is the one of `RIDGES` that predicts it best where the sample itself is left out (PRESS, Allen
    1974).
    """
    x, y = features.astype(np.float64), numbers.astype(np.float64)
    values, vectors = np.linalg.eigh(x @ x.T)
    turned = vectors.T @ y
    best, weight = np.full(y.shape[1], np.inf), np.zeros((x.shape[1], y.shape[1]))
    for ridge in RIDGES:
        kept = values / (values + ridge * len(x))
        left_out = (y - vectors @ (kept[:, None] * turned)) / (1 - (vectors**2) @ kept)[:, None]
        error = (left_out**2).mean(0)
        better = error < best
        dual = vectors @ (turned / (values + ridge * len(x))[:, None])
        weight[:, better] = x.T @ dual[:, better]
        best[better] = error[better]
    return weight


class OneEuroFilter:
    """A low-pass filter whose cutoff rises with speed (Casiez et al. 2012): still where the face is, quick where it
    moves.

    `unit [N]`: the size of a usual motion of each number; `least`: the cutoff at rest, Hz; `slope`: Hz for each unit a
    second.
    """

    def __init__(self, unit: NDArray[np.floating], least: float = 2.0, slope: float = 1.0) -> None:
        self._unit, self._least, self._slope = np.asarray(unit, np.float64), least, slope
        self._last: tuple[float, Array, Array] | None = None

    def __call__(self, values: Array, time: float) -> Array:
        """The filtered `values [N]` at `time`, seconds; times increase."""
        if self._last is None:
            self._last = time, values, np.zeros_like(values)
            return values
        before, last, speed = self._last
        step = max(time - before, 1e-3)
        speed = speed + _share(1.0, step) * ((values - last) / step - speed)
        cutoff = self._least + self._slope * np.abs(speed) / self._unit
        out = last + _share(cutoff, step) * (values - last)
        self._last = time, out, speed
        return out

    def reset(self) -> None:
        """Forget what was."""
        self._last = None


def _share(cutoff: NDArray[np.floating] | float, step: float) -> NDArray[np.floating]:
    return np.asarray(1.0 / (1.0 + 1.0 / (2 * np.pi * cutoff * step)))


class LossEasing:
    """What is shown while the face is out of sight: held for `hold` seconds, then eased to neutral within `ease`, and
    back to what is seen within `back`. `neutral [35]`."""

    def __init__(self, neutral: Array, hold: float = 0.5, ease: float = 1.0, back: float = 0.3) -> None:
        self._neutral, self._hold, self._ease, self._back = neutral, hold, ease, back
        self._last, self._found_at = neutral, -np.inf
        self._from = neutral
        self._lost_at: float | None = None
        self._shown_at_loss = neutral

    def __call__(self, seen: Array | None, time: float) -> Array:
        """The numbers `[35]` to show at `time`, seconds; `seen`: those that were read, None without a face."""
        if seen is None:
            if self._lost_at is None:
                self._lost_at, self._shown_at_loss = time, self._last
            share = _smooth((time - self._lost_at - self._hold) / self._ease)
            self._last = self._shown_at_loss + share * (self._neutral - self._shown_at_loss)
            return self._last
        if self._lost_at is not None:
            self._lost_at, self._found_at, self._from = None, time, self._last
        share = _smooth((time - self._found_at) / self._back)
        self._last = self._from + share * (seen - self._from)
        return self._last


def _smooth(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)
