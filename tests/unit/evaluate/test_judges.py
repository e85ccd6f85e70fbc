"""Judges that nothing was fitted to: dlib's landmarks and identity, EfficientNet-Lite0's features."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from factories import faces
from factories.judges import seeded
from mien.evaluate.frames import resize
from mien.evaluate.judges import IDENTITY_FRAMES, JudgeModels, judge
from mien.evaluate.metrics import dlib_face, efficientnet
from mien.evaluate.metrics.dlib_face import MEASURES, measures
from mien.evaluate.metrics.efficientnet import feature_distance
from mien.evaluate.registry import METRICS
from mien.evaluate.result import Evaluation
from mien.nets.efficientnet_lite import EfficientNetLite

needs_dlib = pytest.mark.skipif(dlib_face.model_folder() is None, reason="NOT TESTED: dlib is missing (make judges)")
needs_weights = pytest.mark.skipif(
    efficientnet.weights_file() is None, reason="NOT TESTED: EfficientNet-Lite0's weights are missing (make judges)"
)


def face68() -> NDArray[np.float64]:
    """A plain face of 68 landmarks, its outer eye corners 100 pixels apart, level, the nose in the middle."""
    p = np.zeros((68, 2))
    angles = np.linspace(np.pi, 0, 17)
    p[:17] = np.stack([80 * np.cos(angles), 130 * np.sin(angles)], 1)
    p[17:22] = [[-60, -20], [-50, -25], [-40, -25], [-30, -25], [-20, -20]]
    p[22:27] = p[21:16:-1] * [-1, 1]
    p[27:31] = [[0, 0], [0, 12], [0, 24], [0, 36]]
    p[31:36] = [[-15, 45], [-8, 47], [0, 50], [8, 47], [15, 45]]
    p[36:42] = [[-50, 0], [-42, -4], [-34, -4], [-26, 0], [-34, 4], [-42, 4]]
    p[42:48] = [[26, 0], [34, -4], [42, -4], [50, 0], [42, 4], [34, 4]]
    p[48:60] = [[25 * np.cos(a), 75 + 8 * np.sin(a)] for a in np.linspace(np.pi, 3 * np.pi, 12, endpoint=False)]
    p[60:68] = [[-15, 75], [-8, 74], [0, 74], [8, 74], [15, 75], [8, 76], [0, 76], [-8, 76]]
    return p


def looking(points: NDArray[np.float64], gaze: float) -> NDArray[np.uint8]:
    """A picture of the eyes of landmarks `[68, 2]`, the irises at a share of the way between their corners."""
    frame = np.full((1000, 1000, 3), 180, np.uint8)
    for eye in (points[slice_] for slice_ in dlib_face.EYES):
        cv2.fillPoly(frame, [eye.round().astype(np.int32)], (255, 255, 255))
        centre = eye[0] + gaze * (eye[3] - eye[0])
        cv2.circle(
            frame, [int(v) for v in centre.round()], max(int(np.hypot(*(eye[3] - eye[0])) / 6), 1), (40, 30, 20), -1
        )
    return frame


BLANK = np.full((400, 400, 3), 180, np.uint8)


def geometry(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The measures that do not look at the picture."""
    return measures(BLANK, points)[:-1]


def test_gaze_is_where_the_dark_of_the_eye_is() -> None:
    points = 4 * face68() + [500, 300]
    found = [measures(looking(points, gaze), points)[MEASURES.index("gaze")] for gaze in (0.35, 0.5, 0.6)]
    assert found == pytest.approx([0.35, 0.5, 0.6], abs=0.03)
    shut = points.copy()
    shut[[37, 38, 43, 44]] += (0, 24)
    assert np.isnan(measures(looking(points, 0.5), shut)[-1])
    assert np.isnan(measures(looking(points, 0.5), points + 5000)[-1])


def test_each_measure_follows_its_own_points() -> None:
    still = geometry(face68())
    changes = {
        "mouth_open": (slice(65, 68), (0, 10)),
        "lids": ([37, 38, 43, 44], (0, 2)),
        "brows": (slice(17, 27), (0, -5)),
        "jaw": (slice(5, 12), (0, 10)),
    }
    for name, (where, move) in changes.items():
        p = face68()
        p[where] += move
        changed = {m for m, a, b in zip(MEASURES[:-1], still, geometry(p), strict=True) if abs(a - b) > 1e-9}
        assert changed == {name}
    assert still[MEASURES.index("mouth_width")] == pytest.approx(0.5, abs=0.01)
    assert still[MEASURES.index("yaw")] == pytest.approx(0, abs=1e-9)


def test_pose_ratios_grow_to_the_right_and_up_and_are_blind_to_roll_and_size() -> None:
    still = geometry(face68())
    right, up = face68(), face68()
    right[dlib_face.NOSE_TIP] += (5, 0)
    up[dlib_face.NOSE_TIP] -= (0, 5)
    assert geometry(right)[5] == pytest.approx(still[5] + 0.05)
    assert geometry(up)[6] > still[6] + 0.05
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    assert geometry(2.5 * face68() @ turn + 40) == pytest.approx(still)


def test_features_and_their_distance() -> None:
    network = seeded(EfficientNetLite())
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    near = np.clip(a.astype(int) + rng.integers(-8, 9, a.shape), 0, 255).astype(np.uint8)
    maps = network.features(torch.zeros(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    assert feature_distance(network.features, a, a) == pytest.approx(0, abs=1e-6)
    other = feature_distance(network.features, a, a[::-1].copy())
    assert (feature_distance(network.features, a, near) < other).all() and (other < 4).all()


def test_what_is_not_installed_is_said() -> None:
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    figures = judge(frames, frames, models=JudgeModels())
    assert set(figures.missing) == {metric.key for metric in METRICS if metric.judge}
    assert not figures.correlations and figures.identity_distance is None and figures.feature_distance is None
    result = Evaluation()
    figures.put_into(result)
    assert "not measured: needs dlib" in result.to_text() and not result.values


@needs_weights
def test_the_weights_know_a_cup_of_coffee() -> None:
    from skimage.data import coffee

    from mien.media.images import to_float
    from mien.packs.convert import checkpoint_layouts
    from mien.packs.convert.common import read_layout

    path = efficientnet.weights_file()
    assert path is not None
    network = read_layout(checkpoint_layouts.efficientnet_lite0, path)
    with torch.no_grad():
        logits = network(to_float(resize(np.asarray(coffee())[:, 100:500], 224)[None]))
    assert int(logits.argmax()) in (967, 968)  # espresso, cup


@needs_dlib
def test_dlib_against_a_face_that_opens_its_mouth() -> None:
    models = JudgeModels(dlib=JudgeModels.installed().dlib)
    size = 256
    crops = [resize(cv2.warpAffine(faces.face(), np.array([[1.0, 0, dx], [0, 1, dx / 2]]), (512, 512)), size)
             for dx in (-40.0, -44.0, -36.0, -48.0)]  # fmt: skip
    opened = [resize(faces.other_mouth(faces.face(), 2 + 8 * i), size) for i in range(4)]
    same = judge(crops, crops, models=models)
    assert same.faces == 4 and same.identity_distance == 0
    assert all(r == pytest.approx(1) for r in same.correlations.values())
    found = judge(opened, opened[::-1], models=models)
    assert found.correlations["mouth_open"] < 0
    assert found.identity_distance is not None and 0 < found.identity_distance < 0.6
    nobody = judge(opened, np.zeros((4, size, size, 3), np.uint8), models=models)
    assert nobody.faces == 0 and "face" in nobody.missing["dlib_mouth_open"] and nobody.identity_distance is None


@needs_dlib
def test_identity_against_a_portrait_and_over_a_long_clip() -> None:
    models = JudgeModels(dlib=JudgeModels.installed().dlib)
    frame = resize(faces.face(), 256)
    mirrored = np.ascontiguousarray(frame[:, ::-1])
    figures = judge([frame] * (IDENTITY_FRAMES // 4), [mirrored] * (IDENTITY_FRAMES // 4), frame[None], models)
    assert figures.identity_distance is not None and 0 < figures.identity_distance < 0.6
    assert "efficientnet_distance" not in figures.missing  # of another person's frames this means nothing
