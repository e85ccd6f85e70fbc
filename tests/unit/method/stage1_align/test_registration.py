"""Registration against known motions of a real face whose mouth and eyes change."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from factories.faces import crop, face, mesh, mesh_of, moved, other_mouth
from mien.face import mesh as lm
from mien.method.stage1_align.crop_geometry import apply, crop_from_matrix, matrix_from_crop
from mien.method.stage1_align.registration import (
    MODELS,
    Level,
    Template,
    derivatives,
    make_template,
    motion_matrix,
    nearest_similarity,
    pyramid,
    register,
    rigid_mask,
)
from tolerances import FLOAT64_EXACT, SUBPIXEL

RANGE = np.array([0.08, 0.08, 0.05, 0.05, 0.05, 0.05, 0.04, 0.04])  # up to 10 px at 256, 3 degrees, 5 %, a turn
PARAMETERS = dict(zip(MODELS, (2, 4, 6, 8), strict=True))


@pytest.fixture(scope="module")
def template() -> Template:
    return make_template(pyramid(face(), crop()), crop(), mesh())


def error(found: np.ndarray, true: np.ndarray, template: Template) -> float:
    """rms over the rigid head, in pixels at 256x256."""
    points = template.levels[0].points
    return float(np.sqrt(np.square((apply(found, points) - apply(true, points)) * 128).sum(1).mean()))


@pytest.mark.parametrize("kind", ["similarity", "planar"])
def test_known_motion_is_found_and_better_than_by_landmarks(template: Template, kind: str) -> None:
    rng = np.random.default_rng(3)
    ours, theirs = [], []
    to_frame = matrix_from_crop(crop())
    for _ in range(5):
        true = motion_matrix(rng.uniform(-RANGE, RANGE)[: PARAMETERS[kind]], kind)
        frame = moved(other_mouth(face(), rng.uniform(3, 16), eyes=True), true)
        found = register(template, pyramid(frame, crop()))
        ours.append(error(found.homography, true, template))
        scale, rotation, shift = lm.fit_similarity(mesh()[lm.RIGID, :2], mesh_of(frame)[lm.RIGID, :2])
        by_landmarks = np.eye(3)
        by_landmarks[:2, :2], by_landmarks[:2, 2] = scale * rotation, shift
        theirs.append(error(np.linalg.inv(to_frame) @ by_landmarks @ to_frame, true, template))
    assert max(ours) < SUBPIXEL
    assert np.mean(ours) < np.mean(theirs) / 4


def test_the_same_picture_gives_no_motion_at_all(template: Template) -> None:
    found = register(template, pyramid(face(), crop()))
    assert np.abs(found.homography - np.eye(3)).max() < FLOAT64_EXACT
    assert found.residual == 0 and found.support == 1 and found.overlap == 1


def test_another_light_does_not_move_the_face(template: Template) -> None:
    true = motion_matrix(RANGE[:4] / 2, "similarity")
    darker = np.clip(moved(face(), true) * 0.8 + 12, 0, 255).astype(np.uint8)
    assert error(register(template, pyramid(darker, crop())).homography, true, template) < SUBPIXEL


def test_a_hand_over_part_of_the_forehead_is_left_out(template: Template) -> None:
    true = motion_matrix(-RANGE[:4] / 2, "similarity")
    frame = moved(face(), true)
    centre = mesh()[103, :2]
    cv2.circle(frame, [int(v) for v in centre], 22, (120, 160, 90), -1)
    found = register(template, pyramid(frame, crop()))
    assert error(found.homography, true, template) < 0.3
    assert found.support < 0.95, "and is seen in the support"


def test_what_is_no_face_is_not_supported(template: Template) -> None:
    noise = np.random.default_rng(0).integers(0, 256, face().shape, np.uint8)
    assert register(template, pyramid(cv2.GaussianBlur(noise, (0, 0), 3), crop())).support < 0.5
    outside = crop() + [5000.0, 0, 0, 0]
    assert (
        register(Template(outside, template.levels, template.anchors, template.hold), pyramid(face(), crop())).overlap
        < 0.3
    )


def test_the_mask_leaves_out_what_expressions_move() -> None:
    size = 256
    points = apply(np.linalg.inv(matrix_from_crop(crop())), mesh()[:, :2])
    mask = rigid_mask(points, size)
    inside = lambda ids: mask[tuple(((points[ids][:, ::-1] + 1) * size / 2).astype(int).T)]
    for moving in (lm.LIPS_OUTER, *lm.EYES, *lm.BROWS, [152, 148, 377]):
        assert not inside(moving).any()
    assert inside([168, 6, 197, 195, 5, 151, 9, 116, 345]).all(), "nose, forehead, cheekbones"
    assert 0.05 < mask.mean() < 0.25


@pytest.mark.parametrize("model", MODELS)
def test_derivatives_are_those_of_the_motion(model: str) -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-0.5, 0.5, (20, 2))
    slope = np.array([3.0, -2.0], np.float32)
    level = Level(points, np.zeros(20, np.float32), np.tile(slope, (20, 1)), 0.01)
    table = derivatives(level, model)
    assert table.shape == (20, PARAMETERS[model])
    for k in range(PARAMETERS[model]):
        step = np.zeros(PARAMETERS[model])
        step[k] = 1e-5
        change = (apply(motion_matrix(step, model), points) - points) @ slope / 1e-5
        assert np.allclose(change, table[:, k], atol=1e-3)


def test_the_nearest_similarity_of_a_similarity_is_itself(template: Template) -> None:
    wanted = crop_from_matrix(matrix_from_crop(crop()) @ motion_matrix(RANGE[:4], "similarity"))
    assert np.allclose(nearest_similarity(matrix_from_crop(wanted), template), wanted, atol=FLOAT64_EXACT)
