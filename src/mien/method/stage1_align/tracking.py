"""Stage 1, first part: find one face in the frames of a clip and follow its mesh (the paper, Sec. 3.2).

A full-range detector (inside MediaPipe's wheel) finds faces that are small in the frame; the mesh itself then runs on
an enlarged window around the face, because its own detector misses small faces. The window stays where it is until the
face leaves its middle: a window that followed every wobble of the mesh would add to that wobble.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import FaceError
from mien.face import mesh as lm

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

WINDOW_PIXELS = 384  # longest side of the picture the mesh sees
FAR = 0.04  # a motion of this part of the face, and the mesh is found once more, starting from where it is now
WHOLE_FRAME = 640  # frames up to this size are given to the mesh whole
DETECTOR_PIXELS = 1280  # longest side of the picture the detector sees
FACE_IN_WINDOW = 0.5  # the window is made so that the face's box takes this part of it


@dataclass(frozen=True)
class Box:
    """A face's box in frame pixels."""

    left: float
    top: float
    width: float
    height: float
    score: float

    @property
    def centre(self) -> Array:
        return np.array([self.left + self.width / 2, self.top + self.height / 2])

    @property
    def extent(self) -> float:
        return max(self.width, self.height)


@dataclass(frozen=True)
class Window:
    """A part of the frame in whole pixels: `frame[top:bottom, left:right]`."""

    left: int
    top: int
    right: int
    bottom: int

    @staticmethod
    def around(centre: Array, side: float, frame_size: tuple[int, int]) -> Window:
        """A square of `side` pixels around `centre`, cut off at the frame's border."""
        width, height = frame_size
        low = np.floor(np.asarray(centre) - side / 2).astype(int)
        high = np.ceil(np.asarray(centre) + side / 2).astype(int)
        left, top = int(np.clip(low[0], 0, width - 2)), int(np.clip(low[1], 0, height - 2))
        return Window(left, top, int(np.clip(high[0], left + 2, width)), int(np.clip(high[1], top + 2, height)))

    @property
    def size(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top

    def cut(self, frame: Image) -> Image:
        return frame[self.top : self.bottom, self.left : self.right]


class Detector:
    """MediaPipe's full-range detector: faces of about 4 % of the frame's width and more; tiles for smaller ones."""

    def __init__(self, min_confidence: float = 0.4) -> None:
        os.environ.setdefault("GLOG_minloglevel", "3")
        import mediapipe

        self._detector = mediapipe.solutions.face_detection.FaceDetection(
            model_selection=1, min_detection_confidence=min_confidence
        )

    def __call__(self, frame: Image, *, every: bool = False) -> list[Box]:
        """`frame`: RGB uint8 `[H, W, 3]`. Boxes from left to right; tiles are tried where the whole frame has none, or
        to find `every` face: of two that stand apart the whole frame may show one."""
        height, width = frame.shape[:2]
        ratio = min(1.0, DETECTOR_PIXELS / max(height, width))
        small = frame
        if ratio < 1:
            size = (round(width * ratio), round(height * ratio))
            small = cast(Image, cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
        boxes = self._detect(small)
        if (every or not boxes) and min(small.shape[:2]) >= 256:
            boxes += [
                box
                for box in self._detect_tiles(small)
                if all(np.abs(box.centre - other.centre).max() > max(box.extent, other.extent) / 2 for other in boxes)
            ]
        sx, sy = width / small.shape[1], height / small.shape[0]
        boxes = [Box(b.left * sx, b.top * sy, b.width * sx, b.height * sy, b.score) for b in boxes]
        return sorted(boxes, key=lambda b: b.left)

    def _detect(self, image: Image) -> list[Box]:
        height, width = image.shape[:2]
        boxes = []
        for found in self._detector.process(np.ascontiguousarray(image)).detections or []:
            box = found.location_data.relative_bounding_box
            boxes.append(
                Box(box.xmin * width, box.ymin * height, box.width * width, box.height * height, found.score[0])
            )
        return boxes

    def _detect_tiles(self, image: Image) -> list[Box]:
        """Nine overlapping tiles of half the frame. Two boxes that share their middle are the same face."""
        height, width = image.shape[:2]
        kept: list[Box] = []
        for top in (0, height // 4, height // 2):
            for left in (0, width // 4, width // 2):
                tile = image[top : top + height // 2, left : left + width // 2]
                for box in self._detect(tile):
                    moved = Box(box.left + left, box.top + top, box.width, box.height, box.score)
                    if all(np.abs(moved.centre - other.centre).max() > other.extent / 2 for other in kept):
                        kept.append(moved)
        return kept

    def close(self) -> None:
        self._detector.close()


def choose_face(boxes: list[Box], face: int | None) -> Box:
    """The largest box, or the `face`-th from the left, counted from 1. Raises `FaceError` if there are not so many."""
    if face is None:
        return max(boxes, key=lambda b: b.width * b.height)
    if not 1 <= face <= len(boxes):
        there = "is 1 face" if len(boxes) == 1 else f"are {len(boxes)} faces"
        raise FaceError(f"face {face} was asked for, but there {there} in the first frame that shows any")
    return boxes[face - 1]


class FaceTracker:
    """Follows one face: `tracker(frame)` gives its mesh in frame pixels, or None where it cannot be seen.

    The face is the largest of the first frame that shows any, or the `face`-th from the left, counted from 1. After a
    loss the box nearest to the last place is taken up again.
    """

    def __init__(self, face: int | None = None) -> None:
        self._face = face
        self._mesh = lm.FaceMesh(video=True)
        self._detector = Detector()
        self._window: Window | None = None
        self._last: Array | None = None  # centre x, centre y, extent of the last mesh

    def __call__(self, frame: Image) -> Array | None:
        """`frame`: RGB uint8 `[H, W, 3]`. Returns `[478, 3]` or None. Raises `FaceError` for a bad `face` number."""
        size = (frame.shape[1], frame.shape[0])
        if self._window is not None:
            mesh = self._mesh_in(frame, self._window)
            if mesh is not None and self._last is not None and _apart(mesh, self._last) > FAR:
                mesh = self._mesh_in(frame, self._window)
            if mesh is not None and self._same_face(mesh):
                self._keep(mesh, size)
                return mesh
        box = self._find(frame)
        if box is None:
            self._window = None
            return None
        # The detector's box spans brows to chin, the mesh's box the forehead too: about a fifth more.
        self._set_window(box.centre, box.extent * 1.2, size)
        assert self._window is not None
        mesh = self._mesh_in(frame, self._window)
        if mesh is not None:  # the first mesh starts from a detector's box: a second one starts from the first
            mesh = self._mesh_in(frame, self._window)
        if mesh is None:
            self._window = None
            return None
        self._keep(mesh, size)
        return mesh

    def is_same_face(self, frame: Image, mesh: Array) -> bool:
        """Does the detector too see a face where the mesh is? If not, the face counts as lost from here on."""
        centre, extent = _extent(mesh)
        if any(float(np.hypot(*(box.centre - centre))) < 0.5 * extent for box in self._detector(frame)):
            return True
        self._window = None
        return False

    def forget(self) -> None:
        """Start anew at the next frame, as after a cut: the largest face, wherever it is, or the one with the number
        where no frame has shown a face yet."""
        if self._last is not None:
            self._face = None
        self._window = self._last = None

    def close(self) -> None:
        self._mesh.close()
        self._detector.close()

    def _find(self, frame: Image) -> Box | None:
        boxes = self._detector(frame, every=self._face is not None and self._last is None)
        if not boxes:
            return None
        last = self._last
        if last is None:
            return choose_face(boxes, self._face)
        # Near the last place and of about its size; a face elsewhere is somebody else unless nobody else is there.
        return min(
            boxes, key=lambda b: float(np.hypot(*(b.centre - last[:2])) + abs(b.extent * 1.2 - last[2])) / last[2]
        )

    def _mesh_in(self, frame: Image, window: Window) -> Array | None:
        part = window.cut(frame)
        width, height = window.size
        ratio = min(WINDOW_PIXELS / max(width, height), 4.0)
        if (ratio < 1 and max(width, height) > WHOLE_FRAME) or ratio > 1.5:
            mode = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
            size = (round(width * ratio), round(height * ratio))
            part = cast(Image, cv2.resize(part, size, interpolation=mode))
        found = self._mesh(part)
        if not found:
            return None
        scale = np.array([width / part.shape[1], height / part.shape[0], width / part.shape[1]])
        # MediaPipe measures from the picture's corner; pixel centres are at integers here.
        return found[0] * scale + np.array([window.left - 0.5, window.top - 0.5, 0.0])

    def _same_face(self, mesh: Array) -> bool:
        if self._last is None:
            return True
        return _apart(mesh, self._last) < 0.6 and 0.6 < _extent(mesh)[1] / self._last[2] < 1.67

    def _keep(self, mesh: Array, size: tuple[int, int]) -> None:
        centre, extent = _extent(mesh)
        self._last = np.array([*centre, extent])
        window = self._window
        assert window is not None
        if window == Window(0, 0, *size) and max(size) <= WHOLE_FRAME:
            return
        low, high = centre - extent / 2, centre + extent / 2
        side = max(window.size)
        margin = 0.1 * side
        inside = bool(
            (low[0] > window.left + margin or window.left == 0)
            and (low[1] > window.top + margin or window.top == 0)
            and (high[0] < window.right - margin or window.right == size[0])
            and (high[1] < window.bottom - margin or window.bottom == size[1])
        )
        if not inside or not 0.7 < extent / (FACE_IN_WINDOW * side) < 1.4:
            self._set_window(centre, extent, size)

    def _set_window(self, centre: Array, extent: float, size: tuple[int, int]) -> None:
        window = Window.around(centre, extent / FACE_IN_WINDOW, size)
        if max(size) <= WHOLE_FRAME and extent > 0.25 * max(size):
            window = Window(0, 0, *size)
        if window != self._window:
            self._mesh.reset()
        self._window = window


def _extent(mesh: Array) -> tuple[Array, float]:
    low, high = mesh[:, :2].min(0), mesh[:, :2].max(0)
    return (low + high) / 2, float((high - low).max())


def _apart(mesh: Array, last: Array) -> float:
    """How far a mesh is from the last one, `[centre x, centre y, extent]`, in parts of that extent."""
    return float(np.hypot(*(_extent(mesh)[0] - last[:2])) / last[2])
