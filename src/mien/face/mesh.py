"""MediaPipe's face mesh, the rigid head fitted to it, and FFHQ framing.

The mesh has 478 points, in pixels of the image it was found in, x to the right, y down, z away from the camera at
the scale of x. The rigid subset leaves out brows, lids, mouth and chin, so that an expression cannot move the crop
(the paper, Sec. 3.2). `canonical_face.npz` is a neutral mean shape that `mien.train.data` computes from training faces:
it gives what a mesh does not, the place of the mouth without an expression.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MissingPackageError
from mien.face.requirement import MESH_FILE, MESH_INSTALL

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

# Points that a face's expression hardly moves: eye corners, nose bridge and base, forehead, temples, cheekbones.
RIGID = np.array(
    [33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 10, 109, 338, 67, 297, 103, 332]
    + [54, 284, 21, 251, 162, 389, 127, 356, 234, 454, 116, 345, 117, 346, 111, 340]
)
EYE_CORNERS = np.array([[33, 133], [362, 263]])  # viewer's left eye, then right
MOUTH_CORNERS = np.array([61, 291])

FACE_OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148]
FACE_OVAL += [176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
LIPS_OUTER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
LIPS_INNER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191]
EYES = (
    [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246],
    [362, 382, 381, 380, 374, 373, 390, 249, 263, 466, 388, 387, 386, 385, 384, 398],
)
BROWS = (
    [70, 63, 105, 66, 107, 55, 65, 52, 53, 46],
    [300, 293, 334, 296, 336, 285, 295, 282, 283, 276],
)
IRISES = ([468, 469, 470, 471, 472], [473, 474, 475, 476, 477])
NOSE = [168, 122, 174, 198, 49, 48, 219, 64, 98, 97, 2, 326, 327, 294, 439, 278, 279, 420, 399, 351]


MESH_POINTS = 478


@dataclass(frozen=True)
class RigidHeadPose:
    """A similarity in 3D that carries the canonical face onto a mesh.

    Angles in degrees: yaw positive to the viewer's right, pitch positive up, roll positive clockwise on the screen.
    `points = scale * rotation @ canonical + translation`.
    """

    yaw: float
    pitch: float
    roll: float
    scale: float
    rotation: Array  # [3, 3]
    translation: Array  # [3]


def check_installed() -> None:
    """Raise MissingPackageError unless MediaPipe is here with the model file of its face mesh."""
    spec = find_spec("mediapipe")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    if not any((Path(folder) / MESH_FILE).is_file() for folder in folders):
        what = "is not installed" if spec is None else "is a release without the face mesh's model files"
        raise MissingPackageError(f"mediapipe, which finds the face, {what}: run `{MESH_INSTALL}`.")


class FaceMesh:
    """MediaPipe's face mesh, from files inside its wheel; nothing is fetched.

    `video=True` tracks from frame to frame (smoother, for clips); `False` treats each image alone. Raises
    MissingPackageError where the package is not installed.
    """

    def __init__(self, *, video: bool = False, max_faces: int = 1, min_confidence: float = 0.3) -> None:
        os.environ.setdefault("GLOG_minloglevel", "3")
        check_installed()
        import mediapipe

        self._mesh = mediapipe.solutions.face_mesh.FaceMesh(
            static_image_mode=not video,
            max_num_faces=max_faces,
            refine_landmarks=True,
            min_detection_confidence=min_confidence,
        )

    def __call__(self, image: Image) -> list[Array]:
        """`image`: RGB uint8 `[H, W, 3]`. Returns one `[478, 3]` array of pixels a face, none if there is none."""
        found = self._mesh.process(np.ascontiguousarray(image)).multi_face_landmarks or []
        height, width = image.shape[:2]
        size = np.array([width, height, width], dtype=np.float64)
        return [np.array([[p.x, p.y, p.z] for p in face.landmark]) * size for face in found]

    def reset(self) -> None:
        """Forget the face that was tracked (`video=True`): the next image is searched anew."""
        self._mesh.reset()

    def close(self) -> None:
        self._mesh.close()


@cache
def canonical_face() -> Array:
    """The neutral mean shape `[478, 3]`: centred on the rigid points, distance between the eyes' centres 1."""
    with resources.files("mien.face").joinpath("canonical_face.npz").open("rb") as file:
        return np.load(file)["points"].astype(np.float64)


def fit_similarity(source: Array, target: Array, weights: Array | None = None) -> tuple[float, Array, Array]:
    """Least-squares similarity (Umeyama 1991): scale s, rotation R `[D, D]`, translation t `[D]`, target = s R source +
    t."""
    w = np.ones(len(source)) if weights is None else weights
    w = w / w.sum()
    mean_source, mean_target = w @ source, w @ target
    a, b = source - mean_source, target - mean_target
    u, singular, vt = np.linalg.svd((b * w[:, None]).T @ a)
    sign = np.ones(source.shape[1])
    sign[-1] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / (w @ (a**2)).sum())
    return scale, rotation, mean_target - scale * rotation @ mean_source


def head_pose(mesh: Array, canonical: Array | None = None) -> RigidHeadPose:
    """Pose of the rigid head by fitting the canonical face's rigid points to the mesh `[478, 3]`."""
    shape = canonical_face() if canonical is None else canonical
    scale, rotation, translation = fit_similarity(shape[RIGID], mesh[RIGID])
    forward = rotation @ np.array([0.0, 0.0, -1.0])
    return RigidHeadPose(
        yaw=float(np.degrees(np.arctan2(forward[0], -forward[2]))),
        pitch=float(np.degrees(np.arcsin(np.clip(-forward[1], -1, 1)))),
        roll=float(np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0]))),
        scale=scale,
        rotation=rotation,
        translation=translation,
    )


def ffhq_quad(eye_left: Array, eye_right: Array, mouth: Array) -> Array:
    """FFHQ framing (Karras et al. 2019) from eye centres and mouth centre, each `[2]` in pixels.

    Returns the crop's corners `[4, 2]`: top left, bottom left, bottom right, top right.
    """
    eye_average = (eye_left + eye_right) / 2
    eye_to_eye = eye_right - eye_left
    eye_to_mouth = mouth - eye_average
    x = eye_to_eye - np.flipud(eye_to_mouth) * [-1, 1]
    x = x / max(float(np.hypot(*x)), 1e-9)
    x = x * max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = np.flipud(x) * [-1, 1]
    centre = eye_average + eye_to_mouth * 0.1
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def rigid_quad(mesh: Array, canonical: Array | None = None) -> Array:
    """FFHQ crop `[4, 2]` of a mesh `[478, 3]`, from the rigid head only: eyes and mouth are the canonical face's own,
    carried over by the head's pose, so that no expression can move the crop."""
    shape = canonical_face() if canonical is None else canonical
    pose = head_pose(mesh, shape)
    place = lambda points: (pose.scale * pose.rotation @ points.mean(0) + pose.translation)[:2]
    return ffhq_quad(place(shape[EYE_CORNERS[0]]), place(shape[EYE_CORNERS[1]]), place(shape[MOUTH_CORNERS]))


def quad_matrix(quad: Array, size: int) -> Array:
    """The 2x3 matrix from pixels of the frame to pixels of a `size` x `size` crop (pixel centres at integers)."""
    corners = quad[[0, 1, 3]].astype(np.float32)
    target = np.array([[0, 0], [0, size], [size, 0]], dtype=np.float32) - 0.5
    return cv2.getAffineTransform(corners, target).astype(np.float64)


def warp_crop(image: Image, quad: Array, size: int) -> Image:
    """Cut the quad `[4, 2]` out of an image, `-> [size, size, 3]`; outside the frame the border is mirrored.

    The image is area-averaged first where the crop is much smaller than the quad, so that nothing aliases.
    """
    side = float(np.hypot(*(quad[3] - quad[0])))
    shrink = max(int(side / size / 1.5), 1)
    if shrink > 1:
        height, width = image.shape[:2]
        small = (max(width // shrink, 1), max(height // shrink, 1))
        image = cast(Image, cv2.resize(image, small, interpolation=cv2.INTER_AREA))
        ratio = np.array([image.shape[1] / width, image.shape[0] / height])
        quad = (quad + 0.5) * ratio - 0.5
    crop = cv2.warpAffine(
        image, quad_matrix(quad, size), (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return cast(Image, crop)


def transform(points: Array, matrix: Array) -> Array:
    """Apply a 2x3 matrix to points `[..., 2 or more]`; only x and y are used."""
    return points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
