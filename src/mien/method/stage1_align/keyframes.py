"""Stage 1, second part: key frames, and the crop that follows from registration to them (the paper, Sec. 3.2).

A frame is registered to the current key frame. Where the head has turned out of the plane, or the registration leaves
too much, an earlier key frame of a like pose is taken up again if there is one, and a new one is made otherwise: of
this frame while its registration still holds, of the frame before where it does not. If even that fails the mesh alone
says where the head went, and the frame becomes a key frame.

What keeps the crop still and in its place:
- the motion since the frame before is that of the registration to the frame before (`registration.neighbour`), which is
  the finer one; what the key frame says is followed slowly (`KEY_PULL`), which takes the drift away;
- of both a little (`STILL_SIDES`, `QUIET_SIDES`) counts as none, so that a head that does not move gives a crop that
  does not move at all;
- key frames that follow one another drift. The crop is held within `MAX_DRIFT` of where the mesh, averaged over
  `DRIFT_MEMORY_S` seconds, puts it, and goes back to where the first key frame put it when that is seen again. Such
  corrections are made only while the head moves, as a part of its motion, so that they cannot be seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mien.face import mesh as lm
from mien.method.stage1_align.crop_geometry import crop_from_quad, matrix_from_crop, wrap
from mien.method.stage1_align.registration import (
    Pyramid,
    Registration,
    Template,
    make_template,
    nearest_similarity,
    neighbour,
    pyramid,
    register,
)

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

NEW_KEY_TURN_DEG = 6.0  # of yaw or pitch from the key frame, by the mesh, after which another key frame is taken
REUSE_TURN_DEG = 3.0  # degrees within which an earlier key frame is taken up again
MAX_KEYS = 24  # key frames that are remembered
MIN_SUPPORT = 0.6  # least support of a registration that is believed
FIRM_SUPPORT = 0.75  # support from which on it is believed against the mesh
MAX_RESIDUAL_GREY = 12.0  # most robust rms residual, grey levels
MAX_RESIDUAL_GROWTH = 1.8  # and most of it against the key frame's first residual, plus two grey levels
# Difference, in parts of the crop, of the mesh's and the registration's motion since the last frame.
MAX_DISAGREEMENT_SIDES = 0.06
IMPLAUSIBLE_SIDES = 0.25  # such a difference is never believed
FAST_SIDES = 0.03  # motion by the mesh, in parts of the crop, from which on it is the first guess
STILL_SIDES = 0.04 / 256  # parts of the crop: as long as the key frame says no more than this, nothing moves
QUIET_SIDES = 0.02 / 256  # the same for the motion since the frame before
KEY_PULL = 0.1  # part of what the key frame says differently that is followed in a frame
KEY_SNAP_SIDES = 0.02  # parts of the crop: what it says beyond this is followed at once
# Centre x and y in parts of the crop, log of its side, roll in radians.
MAX_DRIFT = np.array([0.012, 0.012, 0.015, 0.012])
# The same in the short term, always enforced: a turning head of little texture can look like one that shrinks.
MAX_SHORT_DRIFT = np.array([0.04, 0.04, 0.025, 0.04])
DRIFT_MEMORY_S = 1.0  # seconds
CORRECTION_SHARE = 0.1  # corrections are at most this part of the head's own motion
MESH_MOTION_ERROR = 0.02  # how far, in parts of the crop, log and radians, the mesh's motion in one frame may be wrong
SHOT_JUMP_SIDES = 0.2  # a motion by the mesh alone of this part of the crop is another shot


@dataclass(frozen=True)
class Placed:
    """Where the crop of a frame is: `crop` `[4]`, the index of the key frame in force (its own where it became one),
    what the registration left in grey levels, and whether the face leapt so that all began anew."""

    crop: Array
    key_frame: int
    residual: float
    leapt: bool = False


@dataclass
class _Key:
    index: int
    template: Template
    yaw: float
    pitch: float
    floor: float | None = None  # residual of the first frame registered to it
    motion: Array = field(default_factory=lambda: np.eye(3))  # of the last frame registered to it

    def turn(self, pose: lm.RigidHeadPose) -> float:
        return max(abs(pose.yaw - self.yaw), abs(pose.pitch - self.pitch))


@dataclass(frozen=True)
class _Seen:
    """The frame before: what is needed to make a key frame of it after all."""

    index: int
    picture: Pyramid
    mesh: Array
    pose: lm.RigidHeadPose
    place: Array  # the head's crop `[4]` as the key frame has it
    by_mesh: Array  # the mesh's crop `[4]`


@dataclass(frozen=True)
class _Followed:
    """`place`: the crop `[4]` that the key frame now in force gives; `leap`: how far it is from what the key frame
    before would have given, which is drift and no motion; `sure` is False where only the mesh said so."""

    place: Array
    residual: float
    leap: Array
    sure: bool = True


def _less(difference: Array, size: float, dead: float) -> Array:
    """A difference `[4]` of this size, shortened by `dead`."""
    return difference * (max(0.0, 1.0 - dead / size) if size > 0 else 0.0)


class Stabiliser:
    """`stabiliser(index, frame, mesh)` for one frame after the other gives its crop."""

    def __init__(self, fps: float) -> None:
        self._forget = 1.0 / max(DRIFT_MEMORY_S * fps, 1.0)
        self.reset()

    def reset(self) -> None:
        """Start anew at the next frame, as after a cut."""
        self._keys: list[_Key] = []
        self._key: _Key | None = None
        self._seen: _Seen | None = None
        self._still = np.zeros(4)  # the head's crop without the leaps, after the dead zone
        self._leaps = np.zeros(4)  # sum of the leaps from key frame to key frame
        self._away = np.zeros(4)  # long-term average of the mesh's crop against the head's without the leaps
        self._offset = np.zeros(4)  # the correction in force
        self._expected = np.zeros(4)  # the head's crop by this frame's mesh and the long-term average
        self._lately: deque[Array] = deque(maxlen=4)  # what the last frames' crops were off from that
        self._side = 1.0  # of the first crop: distances are in parts of it

    def __call__(
        self, index: int, frame: Image, mesh: Array, is_face: Callable[[], bool] = lambda: True
    ) -> Placed | None:
        """`frame`: RGB uint8 `[H, W, 3]`; `mesh` `[478, 3]` in its pixels. `is_face` is asked where the registration
        fails and only the mesh says where the head is: a mesh can also be fitted to a hand. None if it says no.
        """
        pose = lm.head_pose(mesh)
        by_mesh = crop_from_quad(lm.rigid_quad(mesh))
        if self._seen is None:
            self._start(index, frame, mesh, pose, by_mesh)
            return Placed(by_mesh, index, 0.0)
        seen = self._seen
        moved = seen.place + self._difference(by_mesh, seen.by_mesh)
        fast = self._size(self._difference(moved, seen.place)) > FAST_SIDES
        # Around the last place unless the head has left it: a standing picture has standing pixels.
        picture = pyramid(frame, moved if fast else seen.place)
        self._expected = by_mesh - self._away + self._leaps
        found = self._follow(index, picture, mesh, pose, moved, fast, is_face)
        if found is None:
            return None
        if not found.sure and self._size(self._difference(moved, seen.place)) > SHOT_JUMP_SIDES:
            self.reset()
            self._start(index, frame, mesh, pose, by_mesh)
            return Placed(by_mesh, index, 0.0, leapt=True)
        self._lately.append(self._difference(found.place, self._expected))
        step = self._step(seen, picture, found) if found.sure else None
        self._settle(found, by_mesh, step)
        self._seen = _Seen(index, picture, mesh, pose, found.place, by_mesh)
        assert self._key is not None
        return Placed(self._still + self._offset, self._key.index, found.residual)

    def _start(self, index: int, frame: Image, mesh: Array, pose: lm.RigidHeadPose, by_mesh: Array) -> None:
        picture = pyramid(frame, by_mesh)
        self._side = float(np.exp(by_mesh[2]))
        self._add_key(index, picture, mesh, pose, by_mesh)
        self._seen = _Seen(index, picture, mesh, pose, by_mesh, by_mesh)
        self._still = by_mesh

    def _add_key(self, index: int, picture: Pyramid, mesh: Array, pose: lm.RigidHeadPose, place: Array) -> _Key:
        key = _Key(index, make_template(picture, place, mesh), pose.yaw, pose.pitch)
        # The first key frame stays: it is what the framing goes back to.
        self._keys = self._keys[:1] + self._keys[1:][-(MAX_KEYS - 2) :] + [key]
        self._key = key
        return key

    def _follow(
        self,
        index: int,
        picture: Pyramid,
        mesh: Array,
        pose: lm.RigidHeadPose,
        moved: Array,
        fast: bool,
        is_face: Callable[[], bool],
    ) -> _Followed | None:
        """Register to the key frame, to another one, to the frame before, or follow the mesh; see the module."""
        seen, key = self._seen, self._key
        assert seen is not None and key is not None
        found = self._attempt(key, picture, moved, moved if fast else None)
        if found is None and not fast:
            found = self._attempt(key, picture, moved, moved)
        if found is not None:
            place, result = found
            key.motion = result.homography
            if key.floor is None:
                key.floor = result.residual
            if key.turn(pose) > NEW_KEY_TURN_DEG or result.residual > MAX_RESIDUAL_GROWTH * key.floor + 2.0:
                again = self._again(picture, pose, place, moved)
                if again is not None:
                    return _Followed(again[0], again[1], self._difference(again[0], place))
                self._add_key(index, picture, mesh, pose, place)
            return _Followed(place, result.residual, np.zeros(4))
        again = self._again(picture, pose, moved, moved)
        if again is not None:
            # Nothing tells drift from motion here but the mesh: what it cannot account for is drift.
            apart = self._difference(again[0], moved)
            most = MESH_MOTION_ERROR * np.array([self._side, self._side, 1.0, 1.0])
            return _Followed(*again, apart - np.clip(apart, -most, most))
        if key.index != seen.index:
            key = self._add_key(seen.index, seen.picture, seen.mesh, seen.pose, seen.place)
            found = self._attempt(key, picture, moved, moved)
            if found is not None:
                key.motion, key.floor = found[1].homography, found[1].residual
                return _Followed(found[0], found[1].residual, np.zeros(4))
        if not is_face():
            return None
        self._add_key(index, picture, mesh, pose, moved)
        return _Followed(moved, 0.0, np.zeros(4), sure=False)

    def _attempt(
        self, key: _Key, picture: Pyramid, moved: Array, start: Array | None
    ) -> tuple[Array, Registration] | None:
        """Register to a key frame from its last motion, or from the crop `start`; None if the result is no good."""
        to_frame = matrix_from_crop(key.template.crop)
        initial = key.motion if start is None else np.linalg.inv(to_frame) @ matrix_from_crop(start)
        result = register(key.template, picture, initial)
        if result.support < MIN_SUPPORT or result.residual > MAX_RESIDUAL_GREY or result.overlap < 0.6:
            return None
        place = nearest_similarity(to_frame @ result.homography, key.template)
        # The median of a few frames, so that one bad mesh does not pull.
        off = self._difference(place, self._expected)
        lately = np.median([*self._lately, off], axis=0)
        most = MAX_SHORT_DRIFT * np.array([self._side, self._side, 1.0, 1.0])
        place = self._expected + off - (lately - np.clip(lately, -most, most))
        apart = self._size(self._difference(place, moved))
        if apart > IMPLAUSIBLE_SIDES or (apart > MAX_DISAGREEMENT_SIDES and result.support < FIRM_SUPPORT):
            return None
        return place, result

    def _again(self, picture: Pyramid, pose: lm.RigidHeadPose, near: Array, moved: Array) -> tuple[Array, float] | None:
        """An earlier key frame of a like pose, if the frame can be registered to it."""
        others = [key for key in self._keys if key is not self._key and key.turn(pose) < REUSE_TURN_DEG]
        for key in sorted(others, key=lambda k: k.turn(pose))[:2]:
            found = self._attempt(key, picture, moved, near)
            if found is not None and (key.floor is None or found[1].residual < MAX_RESIDUAL_GROWTH * key.floor + 2.0):
                self._key, key.motion = key, found[1].homography
                return found[0], found[1].residual
        return None

    def _step(self, seen: _Seen, picture: Pyramid, found: _Followed) -> Array | None:
        """The motion since the frame before by registration to it, None where it does not hold."""
        place, support = neighbour(seen.picture, seen.place, seen.mesh, picture, found.place - found.leap)
        step = self._difference(place, seen.place)
        apart = self._size(step - self._difference(found.place - found.leap, seen.place))
        return step if support >= MIN_SUPPORT and apart < KEY_SNAP_SIDES else None

    def _settle(self, found: _Followed, by_mesh: Array, step: Array | None) -> None:
        """The motion `step` since the frame before, dead zones, and the correction towards what the key frames and
        the mesh say in the long term. Without a `step` the key frame's word counts in full."""
        self._leaps = self._leaps + found.leap
        smooth = found.place - self._leaps
        if step is None:
            step = self._difference(smooth, self._still)
            step = _less(step, self._size(step), STILL_SIDES)
        else:
            step = _less(step, self._size(step), QUIET_SIDES)
            off = self._difference(smooth, self._still + step)
            size = self._size(off)
            step = step + max(KEY_PULL, 1.0 - KEY_SNAP_SIDES / max(size, KEY_SNAP_SIDES)) * _less(
                off, size, STILL_SIDES
            )
        if step.any():
            self._still = self._still + step
        self._away = self._away + self._forget * (self._difference(by_mesh, smooth) - self._away)
        # The key frames say `leaps`; the mesh lets them be as long as they are within the bounds.
        bound = MAX_DRIFT * [self._side, self._side, 1.0, 1.0]
        against = self._away - self._leaps
        wanted = self._leaps + against - np.clip(against, -bound, bound) - self._offset
        most, size = CORRECTION_SHARE * self._size(step), self._size(wanted)
        if most > 0 and size > 0:
            self._offset = self._offset + wanted * min(CORRECTION_SHARE, most / size)

    @staticmethod
    def _difference(crop: Array, other: Array) -> Array:
        return np.array([*(crop[:3] - other[:3]), wrap(crop[3] - other[3])])

    def _size(self, difference: Array) -> float:
        """How much the picture moves, in parts of the first crop, about half way to the crop's edge."""
        return float(np.hypot(np.hypot(*difference[:2]) / self._side, np.hypot(*difference[2:]) / 4))
