"""Stage 1: a stabilised crop of one face from every frame (the paper, Sec. 3.2 "Preprocessing").

One pass over the frames; only the crops are kept, on disk, and the face's surroundings of at most half a second of
frames while the face is out of sight.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import FaceError, InputError, VideoError
from mien.face import mesh as lm
from mien.method.stage1_align.crop_geometry import crop_from_quad, quad_from_crop, wrap
from mien.method.stage1_align.keyframes import Stabiliser
from mien.method.stage1_align.tracking import FaceTracker, Window
from mien.method.types import FaceTrack
from mien.runtime.frame_store import CropFile

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

BRIDGE_SECONDS = 0.5  # a face out of sight for less than this is bridged
AT_ONCE = 64  # frames whose landmarks are worked on together
CUT_ALIKE = 0.5  # two frames whose thumbnails correlate less than this are of different shots
CUT_CHANGE = 10.0  # if they also differ by so many grey levels on average


@dataclass(frozen=True)
class AlignOptions:
    """`aligned`: the clip's frames are face crops in FFHQ framing already, so that the roll is 0; `face`: which face,
    from 1 at the left, None: the largest."""

    aligned: bool = False
    face: int | None = None

    def __post_init__(self) -> None:
        """Raise InputError where a face is asked for in crops, which show one."""
        if self.aligned and self.face is not None:
            raise InputError("crops that are aligned already show one face: a face's number is for whole frames.")


def _ignore(done: int) -> None:
    """The default `tick`."""


@dataclass
class _FrameState:
    """What is known of a frame."""

    crop: Array
    key_frame: int
    residual: float
    mesh: Array | None = None
    bridged: bool = False
    lost: bool = False


def align(
    frames: Iterable[Image],
    fps: float,
    *,
    size: int,
    face: int | None = None,
    tick: Callable[[int], None] = _ignore,
) -> FaceTrack:
    """Stabilised FFHQ-framed crops of one face (the paper, Sec. 3.2).

    A cut begins a new key frame and a new framing, of the largest face of the new shot: one person seen in several
    shots is one identity, and only the place in the frame jumps. The cuts are reported.

    `frames`: RGB uint8 `[H, W, 3]`, all of one size, read once. `fps`: frames a second, for the half second that is
    bridged. `size`: side of the crops in pixels. `face`: which face, counted from 1 from the left in the first frame
    that shows any; None takes the largest. `tick` is called with the number of frames done since the last call.

    Raises `VideoError` if there are no frames or they change size, `FaceError` if no frame shows a face or `face` is
    more than there are.
    """
    stabiliser, writer = Stabiliser(fps), _CropWriter(size, tick)
    cuts: list[int] = []
    frame_size: tuple[int, int] | None = None
    with closing(_LookAhead(FaceTracker(face), frames)) as ahead:
        for index, (frame, mesh, cut) in enumerate(ahead):
            frame_size = (frame.shape[1], frame.shape[0])
            if cut:
                cuts.append(index)
                writer.end_shot()
                stabiliser.reset()
            placed = None
            if mesh is not None:
                placed = stabiliser(index, frame, mesh, partial(ahead.is_same_face, frame, mesh))
            if placed is None:
                writer.wait(frame, BRIDGE_SECONDS * fps)
                continue
            if placed.leapt:
                cuts.append(index)
                writer.end_shot()
            writer.add(frame, _FrameState(placed.crop, placed.key_frame, placed.residual, mesh))
        writer.end_shot()
    if frame_size is None:
        raise VideoError("the clip has no frames")
    if not writer.seen:
        raise FaceError(f"no face was found in any of the clip's {len(writer.rows)} frames")
    return _collect(writer.crops, writer.rows, frame_size, cuts=cuts)


class _LookAhead:
    """Frames, their meshes (None without a face) and whether a shot begins with them. A second thread follows the face
    in frame t + 1 while t is worked on: exactly one ahead, so that the outcome does not hang on who is faster."""

    def __init__(self, tracker: FaceTracker, frames: Iterable[Image]) -> None:
        self._tracker, self._frames = tracker, iter(frames)
        self._cutter = _CutDetector()
        self._thread = ThreadPoolExecutor(1, "mien-track")

    def __iter__(self) -> Iterator[tuple[Image, Array | None, bool]]:
        size: tuple[int, ...] | None = None
        waiting: tuple[Image, Future[tuple[Array | None, bool]]] | None = None
        for frame in self._frames:
            if size is not None and frame.shape != size:
                raise VideoError("the clip's frames change size on the way")
            size = frame.shape
            following = self._thread.submit(self._follow, frame)
            if waiting is not None:
                yield waiting[0], *waiting[1].result()
            waiting = frame, following
        if waiting is not None:
            yield waiting[0], *waiting[1].result()

    def is_same_face(self, frame: Image, mesh: Array) -> bool:
        """`FaceTracker.is_same_face`, after what the second thread is at."""
        return self._thread.submit(self._tracker.is_same_face, frame, mesh).result()

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._tracker.close()

    def _follow(self, frame: Image) -> tuple[Array | None, bool]:
        cut = self._cutter(frame)
        if cut:
            self._tracker.forget()
        return self._tracker(frame), cut


class _CutDetector:
    """`detector(frame)`: does another shot begin with this frame? By thumbnails of the whole frames."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None

    def __call__(self, frame: Image) -> bool:
        step = max(min(frame.shape[:2]) // 180, 1)  # every so many pixels is enough, and cheap at 4K
        thin = np.ascontiguousarray(frame[::step, ::step, 1])
        small = cv2.resize(thin, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        if last is None or float(np.abs(small - last).mean()) < CUT_CHANGE:
            return False
        a, b = small - small.mean(), last - last.mean()
        return float((a * b).sum()) < CUT_ALIKE * float(np.linalg.norm(a) * np.linalg.norm(b)) + 1e-6


class _CropWriter:
    """The rows and crops so far, and the frames that wait for the face to come back."""

    def __init__(self, size: int, tick: Callable[[int], None]) -> None:
        self.crops = CropFile(size)
        self.rows: list[_FrameState] = []
        self.seen = False  # was there a face at all
        self.unseen = 0  # frames without a face since the last one with it
        self._tick = tick
        self._waiting: list[tuple[Image, Window]] = []
        self._before: _FrameState | None = None  # the last row of this shot

    def add(self, frame: Image, row: _FrameState) -> None:
        """A frame that shows the face; those that waited for it are bridged in a straight line."""
        before = self._before or row
        step = row.crop - before.crop
        step[3] = wrap(step[3])
        for i, (part, window) in enumerate(self._waiting):
            between = before.crop + step * (i + 1) / (len(self._waiting) + 1)
            self._emit(part, _FrameState(between, before.key_frame, float("nan"), bridged=True), window)
        self._waiting.clear()
        self._emit(frame, row)
        self._before, self.seen, self.unseen = row, True, 0

    def wait(self, frame: Image, limit: float) -> None:
        """A frame without a face; after `limit` of them in a row it is lost, with those before it."""
        size = (frame.shape[1], frame.shape[0])
        window = Window(0, 0, *size)
        if self._before is not None:
            window = Window.around(self._before.crop[:2], 3 * float(np.exp(self._before.crop[2])), size)
        # A copy, so that a large frame is not kept for its small part.
        self._waiting.append((window.cut(frame).copy(), window))
        self.unseen += 1
        if self.unseen >= limit:
            self._give_up()

    def end_shot(self) -> None:
        """The shot ends: what waits keeps the last crop, and counts as bridged, for it is less than half a second."""
        last = self._before
        if last is None:
            self._give_up()
        else:
            for part, window in self._waiting:
                self._emit(part, _FrameState(last.crop, last.key_frame, float("nan"), bridged=True), window)
            self._waiting.clear()
        self._before, self.unseen = None, 0

    def _give_up(self) -> None:
        """Emit what waits, as lost: with the last crop, or the frame's middle where this shot has none yet."""
        for part, window in self._waiting:
            width, height = window.size
            middle = np.array([(width - 1) / 2, (height - 1) / 2, np.log(min(width, height)), 0.0])
            row = self._before or _FrameState(middle, len(self.rows), float("nan"))
            self._emit(part, _FrameState(row.crop, row.key_frame, float("nan"), lost=True), window)
        self._waiting.clear()

    def _emit(self, frame: Image, row: _FrameState, window: Window | None = None) -> None:
        corner = [window.left, window.top] if window else [0, 0]
        self.rows.append(row)
        self.crops.append(lm.warp_crop(frame, quad_from_crop(row.crop) - corner, self.crops.size))
        self._tick(1)


def _collect(
    crops: CropFile,
    rows: list[_FrameState],
    frame_size: tuple[int, int],
    quads: Array | None = None,
    cuts: Iterable[int] = (),
) -> FaceTrack:
    """Stack the rows; frames without a mesh take their landmarks and angles from the nearest frames that have one."""
    size = crops.size
    if quads is None:
        quads = np.stack([quad_from_crop(row.crop) for row in rows])
    seen = np.array([i for i, row in enumerate(rows) if row.mesh is not None])
    points = np.stack([lm.transform(rows[i].mesh, lm.quad_matrix(quads[i], size)) for i in seen])
    poses = [lm.head_pose(rows[i].mesh) for i in seen]
    angles = np.array([[pose.yaw, pose.pitch] for pose in poses])
    every = np.arange(len(rows))
    after = np.clip(np.searchsorted(seen, every), 0, len(seen) - 1)
    before = np.clip(np.searchsorted(seen, every, side="right") - 1, 0, len(seen) - 1)
    span = np.maximum(seen[after] - seen[before], 1)
    share = np.clip((every - seen[before]) / span, 0.0, 1.0)

    def blend(values: Array, part: slice = slice(None)) -> Array:
        a, b = values[before[part]], values[after[part]]
        return a + (b - a) * share[part].reshape(-1, *[1] * (values.ndim - 1))

    # Some frames at a time: of all at once the differences would take four times what is kept.
    landmarks = [blend(points, slice(i, i + AT_ONCE)).astype(np.float32) for i in range(0, len(rows), AT_ONCE)]
    turned = blend(angles)
    return FaceTrack(
        crops=crops,
        quads=quads,
        roll=np.degrees([row.crop[3] for row in rows]),
        key_frame=np.array([row.key_frame for row in rows], np.int64),
        residual=np.array([row.residual for row in rows]),
        bridged=np.array([row.bridged for row in rows]),
        lost=np.array([row.lost for row in rows]),
        landmarks=np.concatenate(landmarks),
        yaw=turned[:, 0],
        pitch=turned[:, 1],
        frame_size=frame_size,
        cuts=np.array(list(cuts), np.int64),
    )


def align_image(image: Image, size: int, face: int | None = None) -> FaceTrack:
    """`align` for one RGB uint8 image `[H, W, 3]`: T = 1. Raises `FaceError` if there is no face, or no `face`-th."""
    tracker = FaceTracker(face)
    try:
        mesh = tracker(image)
    finally:
        tracker.close()
    if mesh is None:
        raise FaceError("no face was found in the image")
    crop = crop_from_quad(lm.rigid_quad(mesh))
    crops = CropFile(size, [lm.warp_crop(image, quad_from_crop(crop), size)])
    return _collect(crops, [_FrameState(crop, 0, 0.0, mesh)], (image.shape[1], image.shape[0]))


def already_aligned(
    frames: Iterable[Image], fps: float, *, size: int, tick: Callable[[int], None] = _ignore
) -> FaceTrack:
    """For frames that are FFHQ-framed crops already (`--aligned`): the quad is the whole frame and roll is 0.

    Frames that are not square are stretched. Raises `VideoError` if there are no frames or they change size,
    `FaceError` if no frame shows a face.
    """
    mesher = lm.FaceMesh(video=True)
    crops = CropFile(size)
    rows: list[_FrameState] = []
    frame_size: tuple[int, int] | None = None
    try:
        for frame in frames:
            if frame_size is None:
                frame_size = (frame.shape[1], frame.shape[0])
            elif frame_size != (frame.shape[1], frame.shape[0]):
                raise VideoError("the clip's frames change size on the way")
            found = mesher(frame)
            mesh = found[0] - [0.5, 0.5, 0.0] if found else None
            rows.append(_FrameState(np.zeros(4), 0, 0.0, mesh, lost=mesh is None))
            crops.append(_resize(frame, size))
            tick(1)
    finally:
        mesher.close()
    if frame_size is None:
        raise VideoError("the clip has no frames")
    if all(row.lost for row in rows):
        raise FaceError(f"no face was found in any of the clip's {len(crops)} frames")
    for gone, run in itertools.groupby(rows, key=lambda row: row.lost):
        gap = list(run)
        if gone and len(gap) < BRIDGE_SECONDS * fps:
            for row in gap:
                row.lost, row.bridged = False, True
    width, height = frame_size
    whole = np.array([[0, 0], [0, height], [width, height], [width, 0]], np.float64) - 0.5
    return _collect(crops, rows, frame_size, np.repeat(whole[None], len(rows), 0))


def _resize(frame: Image, size: int) -> Image:
    if frame.shape[:2] == (size, size):
        return frame
    shrinking = min(frame.shape[:2]) >= size
    mode = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    return cv2.resize(frame, (size, size), interpolation=mode).astype(np.uint8, copy=False)
