"""dlib's view of a face: the 68 landmarks of iBUG 300-W (Kazemi & Sullivan 2014) and 128 numbers of who it is.

Nothing of mien was trained on or fitted to these models, so they judge it independently. Lengths are over the distance
of the outer eye corners, so that the size of the face does not matter.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MienError

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]  # [H, W, 3] RGB

MEASURES = ("mouth_open", "mouth_width", "lids", "brows", "jaw", "yaw", "pitch", "gaze")
POINTS, NUMBERS = 68, 128
MODELS = "face_recognition_models"  # the package that holds dlib's model files
LANDMARK_MODEL = "shape_predictor_68_face_landmarks.dat"
IDENTITY_MODEL = "dlib_face_recognition_resnet_model_v1.dat"
# The landmarks are the mean over these boxes: moved to the right and down by shares of the detected one's side, and
# scaled. The detector's boxes lie on a coarse grid, and the landmarks of one box depend on its place.
BOXES = ((0.0, 0.0, 1.0), (-0.05, 0.0, 0.95), (0.05, 0.0, 1.05), (0.0, -0.05, 1.05), (0.0, 0.05, 0.95))

# Landmarks, left and right as the viewer sees them.
CHIN = (7, 8, 9)
BROW_LEFT, BROW_RIGHT = slice(17, 22), slice(22, 27)
NOSE_TIP, NOSE_BASE = 30, 33
EYE_LEFT, EYE_RIGHT = (36, 39), (45, 42)  # outer corner, inner corner
LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))  # upper, lower
MOUTH = (48, 54)
LIPS = ((61, 67), (62, 66), (63, 65))  # inner, upper and lower
EYES = (slice(36, 42), slice(42, 48))  # around each, from the left corner
CLOSED_LIDS = 0.2  # opening of an eye over its width, under which no iris can be seen
IRIS_PERCENTILES = (5, 70)  # of an eye's brightness: all of the iris, none of it
EYE_SCALE = 4  # an eye is enlarged so often before its dark part is weighed


def model_folder() -> Path | None:
    """Find the folder of the models; None where a package is missing.

    The package is located and not imported: its own code needs `pkg_resources`, which setuptools no longer holds.
    """
    found = find_spec(MODELS)
    if find_spec("dlib") is None or found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "models"
    return folder if all((folder / name).is_file() for name in (LANDMARK_MODEL, IDENTITY_MODEL)) else None


class DlibFace:
    """dlib's detector (HOG), landmarks and face recognition. Raises MienError where a package is missing."""

    def __init__(self) -> None:
        folder = model_folder()
        if folder is None:
            raise MienError("dlib or its models are not installed.")
        import dlib

        self._dlib: Any = dlib
        self._detect = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(folder / LANDMARK_MODEL))
        self._identity = dlib.face_recognition_model_v1(str(folder / IDENTITY_MODEL))

    def points(self, frame: Frame) -> Array | None:
        """Find the largest face's landmarks [68, 2] in pixels of a frame uint8 [H, W, 3].

        None where no face is found.
        """
        frame = np.ascontiguousarray(frame)
        boxes = self._detect(frame, 0) or self._detect(frame, 1)  # enlarged twofold: faces of 40 pixels
        if not boxes:
            return None
        box = max(boxes, key=lambda box: box.area())
        centre, side = np.array([box.left() + box.right(), box.top() + box.bottom()]) / 2, box.width()
        found = []
        for right, down, scale in BOXES:
            low = centre + side * np.array([right, down]) - side * scale / 2
            moved = self._dlib.rectangle(*(round(float(v)) for v in (*low, *(low + side * scale))))
            found.append([(p.x, p.y) for p in self._landmarks(frame, moved).parts()])
        return np.mean(np.array(found, np.float64), axis=0)

    def embed(self, frame: Frame, points: Array) -> Array:
        """Embed the face: 128 numbers. dlib takes two faces for one person's where they are less than 0.6 apart."""
        low, high = points.min(0).round().astype(int), points.max(0).round().astype(int)
        parts = [self._dlib.point(*(int(v) for v in point)) for point in points.round()]
        box = self._dlib.rectangle(*(int(v) for v in (*low, *high)))
        shape = self._dlib.full_object_detection(box, parts)
        return np.array(self._identity.compute_face_descriptor(np.ascontiguousarray(frame), shape), np.float64)


def measures(frame: Frame, points: Array) -> Array:
    """Return the eight `MEASURES` [8] of landmarks [68, 2] in pixels, y down, of a frame uint8 [H, W, 3].

    Opening of the inner lips, width of the mouth, opening of the lids and height of the brows over the line of the
    eye's corners (means of both sides), length from the nose's base to the chin. Yaw and pitch are ratios and not
    degrees, of rigid points only: how far the nose's tip lies to the viewer's right of the eyes' middle, along the line
    of the eyes (over the distance of the outer eye corners); and how high it lies above the nose's base, across that
    line (over the height of the eyes above the base). They grow with yaw to the viewer's right and with pitch up. Gaze
    is where `iris` lies, mean of both eyes.
    """
    if points.shape != (POINTS, 2):
        raise ValueError(f"dlib gives {POINTS} points, not {points.shape}")
    left, right = points[EYE_LEFT[0]], points[EYE_RIGHT[0]]
    unit = max(float(np.hypot(*(right - left))), 1e-6)
    across = (right - left) / unit
    down = np.array([-across[1], across[0]])
    middle, tip, base = (left + right) / 2, points[NOSE_TIP], points[NOSE_BASE]
    brows = [
        (points[list(eye)].mean(0) - points[brow].mean(0)) @ down
        for eye, brow in ((EYE_LEFT, BROW_LEFT), (EYE_RIGHT, BROW_RIGHT))
    ]
    return np.array(
        [
            np.mean([_distance(points, *pair) for pair in LIPS]) / unit,
            _distance(points, *MOUTH) / unit,
            np.mean([_distance(points, *pair) for pair in LIDS]) / unit,
            np.mean(brows) / unit,
            np.hypot(*(points[list(CHIN)].mean(0) - base)) / unit,
            (tip - middle) @ across / unit,
            (base - tip) @ down / max(float((base - middle) @ down), 1e-6),
            np.mean([iris(frame, points[eye]) for eye in EYES]),
        ]
    )


def iris(frame: Frame, eye: Array) -> float:
    """Return where the iris lies between the left corner of an eye (0) and the right one (1), as the viewer sees them.

    It is the centre of what is dark within the eye's six landmarks [6, 2] in a frame uint8 [H, W, 3]. NaN where the
    lids are nearly shut or the eye is not in the frame.
    """
    width = _distance(eye, 0, 3)
    if _distance(eye, 1, 5) + _distance(eye, 2, 4) < 2 * CLOSED_LIDS * width:
        return float("nan")
    reach = int(np.ceil(0.8 * width))
    x, y = np.maximum((eye.mean(0) - reach).round().astype(int), 0)
    patch = frame[y : y + 2 * reach + 1, x : x + 2 * reach + 1]
    if min(patch.shape[:2]) < 2:
        return float("nan")
    grey = cv2.GaussianBlur(cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), width / 30)
    grey = cv2.resize(grey, None, fx=EYE_SCALE, fy=EYE_SCALE, interpolation=cv2.INTER_CUBIC)
    outline = (eye - [x, y] + 0.5) * EYE_SCALE - 0.5
    inside = cv2.fillPoly(np.zeros(grey.shape, np.uint8), [outline.round().astype(np.int32)], 1) > 0
    if not inside.any():
        return float("nan")
    dark, bright = np.percentile(grey[inside], IRIS_PERCENTILES)
    weight = np.where(inside, np.clip((bright - grey) / max(bright - dark, 1.0), 0, 1) ** 2, 0)
    rows, columns = np.nonzero(weight)
    if not len(rows):
        return float("nan")
    centre = np.average(np.stack([columns, rows], 1), axis=0, weights=weight[rows, columns])
    along = outline[3] - outline[0]
    return float((centre - outline[0]) @ along / (along @ along))


def _distance(points: Array, a: int, b: int) -> float:
    return float(np.hypot(*(points[a] - points[b])))
