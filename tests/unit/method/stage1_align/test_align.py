"""Stage 1 as a whole: still heads, moving heads, losses, cuts, several faces, and input that cannot be used."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from factories.faces import crop, face, mesh, mesh_of, moved, other_mouth
from mien.errors import FaceError, VideoError
from mien.face import mesh as lm
from mien.method.stage1_align.align import align, align_image, already_aligned
from mien.method.stage1_align.crop_geometry import apply, crop_from_quad, matrix_from_crop, quad_from_crop
from mien.method.stage1_align.keyframes import MAX_DRIFT, Stabiliser
from mien.method.stage1_align.registration import motion_matrix
from tolerances import DEGREES, PIXELS

SIZE = 64


def swaying(count: int) -> list[np.ndarray]:
    """Motions in normalised crop coordinates: a smooth walk of shift, scale and roll, beginning with none."""
    t = np.arange(count) / 8
    walk = np.stack([0.12 * np.sin(t), 0.08 * (1 - np.cos(t)), 0.04 * np.sin(t / 2), 0.06 * np.sin(t)], 1)
    return [motion_matrix(row, "similarity") for row in walk]


def hidden(image: np.ndarray) -> np.ndarray:
    covered = image.copy()
    low, high = mesh()[:, :2].min(0).astype(int) - 12, mesh()[:, :2].max(0).astype(int) + 12
    covered[low[1] : high[1], low[0] : high[0]] = 90
    return covered


def test_a_still_head_with_a_moving_mouth_does_not_move_the_crop() -> None:
    frames = [other_mouth(face(), 3 + 13 * abs(np.sin(k)), eyes=k % 3 == 1) for k in range(10)]
    found = align(frames, 25.0, size=SIZE)
    assert (found.quads == found.quads[0]).all() and (found.roll == found.roll[0]).all()
    by_mesh = np.stack([lm.rigid_quad(mesh_of(frame)) for frame in frames[:3]])
    assert np.abs(by_mesh - by_mesh[0]).max() > 0.1, "the landmarks alone would move it"


def test_a_moving_head_is_followed() -> None:
    motions = swaying(16)
    ticks: list[int] = []
    found = align([moved(face(), motion) for motion in motions], 25.0, size=SIZE, tick=ticks.append)
    assert sum(ticks) == len(found) == 16 and not found.lost.any() and not len(found.cuts)
    start = matrix_from_crop(crop_from_quad(found.quads[0]))
    offset = np.linalg.inv(matrix_from_crop(crop())) @ start
    unit = 256 / np.exp(crop_from_quad(found.quads[0])[2])
    errors = []
    for motion, quad in zip(motions, found.quads, strict=True):
        true = apply(matrix_from_crop(crop()) @ motion @ offset, np.array([[-1, -1], [-1, 1], [1, 1], [1, -1.0]]))
        errors.append(np.square((quad - true) * unit).sum(1).mean())
    assert np.sqrt(np.mean(errors)) < 0.25, "pixels at 256, at the crop's corners"
    assert found.roll.max() - found.roll[0] == pytest.approx(np.degrees(0.06), abs=DEGREES), "clockwise is positive"
    assert found.landmarks.shape == (16, 478, 2) and (np.ptp(found.landmarks[:, 168], 0) < 2).all()


def test_noise_does_not_move_a_still_head() -> None:
    rng = np.random.default_rng(0)
    frames = [np.clip(face() + rng.normal(0, 3, face().shape), 0, 255).astype(np.uint8) for _ in range(6)]
    quads = align(frames, 25.0, size=SIZE).quads
    assert np.abs(quads - quads[0]).max() < 0.1


def test_corrections_wait_for_the_head_to_move() -> None:
    """A mesh that is off by 3 % of the crop: nothing on a still picture, back to the bound on a moving one."""
    side = float(np.exp(crop()[2]))
    wrong = mesh() + [0.03 * side, 0, 0]
    still = Stabiliser(fps=10)
    places = [placed.crop for k in range(12) if (placed := still(k, face(), mesh() if k == 0 else wrong))]
    assert (np.array(places) == places[0]).all()
    moving = Stabiliser(fps=10)
    to_frame = matrix_from_crop(crop())
    for k in range(60):
        motion = motion_matrix(np.array([0.1 * np.sin(k), 0.1 * np.cos(k) - 0.1]), "translation")
        whole = to_frame @ motion @ np.linalg.inv(to_frame)
        here = np.concatenate([apply(whole, (mesh() if k == 0 else wrong)[:, :2]), mesh()[:, 2:]], 1)
        placed = moving(k, moved(face(), motion), here)
        assert placed is not None
        away = (crop_from_quad(lm.rigid_quad(here)) - placed.crop)[0] / side
    assert away == pytest.approx(MAX_DRIFT[0], abs=0.004), "of 0.03 at the start"


@pytest.mark.parametrize(("gap", "lost"), [(3, False), (14, True)])
def test_short_losses_are_bridged_and_longer_ones_marked(gap: int, lost: bool) -> None:
    later = motion_matrix(np.array([0.2, 0.0]), "translation")
    frames = [face()] * 2 + [hidden(face())] * gap + [moved(face(), later)] * 2
    found = align(frames, 25.0, size=SIZE)
    middle = np.zeros(len(frames), bool)
    middle[2:-2] = True
    assert ((found.lost if lost else found.bridged) == middle).all()
    assert not (found.bridged if lost else found.lost).any() and not len(found.cuts)
    assert np.isfinite(found.landmarks).all() and np.isfinite(found.yaw).all()
    centres = found.quads.mean(1)[:, 0]
    if lost:
        assert (centres[1:-2] == centres[1]).all(), "held"
    else:
        assert (np.diff(centres[1:-1]) > 0).all(), "on its way"


def test_a_loss_at_the_start_and_at_the_end() -> None:
    found = align([hidden(face()), face(), hidden(face())], 25.0, size=SIZE)
    assert found.bridged.tolist() == [True, False, True] and (found.quads == found.quads[1]).all()


def test_a_cut_begins_a_new_key_frame() -> None:
    other = np.ascontiguousarray(255 - cv2.resize(face(), (300, 300)))
    scene = np.full((512, 512, 3), 40, np.uint8)
    scene[150:450, 20:320] = np.ascontiguousarray(cv2.resize(face(), (300, 300))[:, ::-1])
    scene[:140] = other[:140].mean()
    found = align([face()] * 3 + [scene] * 3, 25.0, size=SIZE)
    assert found.cuts.tolist() == [3] and found.key_frame.tolist() == [0, 0, 0, 3, 3, 3] and not found.lost.any()
    sides = np.exp([crop_from_quad(quad)[2] for quad in found.quads])
    assert sides[3] == pytest.approx(sides[0] * 300 / 512, rel=0.06)


def test_two_faces() -> None:
    small = cv2.resize(face(), (300, 300), interpolation=cv2.INTER_AREA)
    frame = np.zeros((512, 812, 3), np.uint8)
    frame[100:400, :300], frame[:, 300:] = small, face()
    sides = {n: np.exp(crop_from_quad(align([frame], 25.0, size=SIZE, face=n).quads[0])[2]) for n in (None, 1, 2)}
    assert sides[None] == pytest.approx(sides[2], rel=0.03) and sides[1] == pytest.approx(
        sides[2] * 300 / 512, rel=0.06
    )
    for wrong in (0, 3):
        with pytest.raises(FaceError, match="there are 2 faces"):
            align([frame], 25.0, size=SIZE, face=wrong)


def test_a_faces_number_outlasts_a_cut_from_frames_without_faces() -> None:
    two = np.zeros((512, 812, 3), np.uint8)
    two[100:400, :300], two[:, 300:] = cv2.resize(face(), (300, 300), interpolation=cv2.INTER_AREA), face()
    one = np.zeros_like(two)
    one[:, :512] = face()
    found = align([np.zeros_like(two), two, one], 1.0, size=SIZE, face=1)
    assert found.cuts.tolist() == [1, 2] and found.lost.tolist() == [True, False, False]
    sides = np.exp([crop_from_quad(quad)[2] for quad in found.quads])
    assert sides[1] == pytest.approx(sides[2] * 300 / 512, rel=0.06), "the left one of two, which is the smaller"


def test_a_small_face_in_a_large_frame() -> None:
    frame = np.full((900, 1400, 3), 128, np.uint8)
    frame[500:756, 1000:1256] = cv2.resize(face(), (256, 256), interpolation=cv2.INTER_AREA)
    quad = align_image(frame, SIZE).quads[0]
    wanted = quad_from_crop(crop()) / 2 + [1000, 500]
    assert np.abs(quad - wanted).max() < 4


def test_input_that_cannot_be_used() -> None:
    flat = np.full((200, 300, 3), 128, np.uint8)
    with pytest.raises(FaceError, match="no face was found in any of the clip's 3 frames"):
        align([flat] * 3, 25.0, size=SIZE)
    with pytest.raises(FaceError, match="in the image"):
        align_image(flat, SIZE)
    with pytest.raises(FaceError, match="3 frames"):
        already_aligned([flat] * 3, 25.0, size=SIZE)
    for run in (lambda frames: align(frames, 25.0, size=SIZE), lambda frames: already_aligned(frames, 25.0, size=SIZE)):
        with pytest.raises(VideoError, match="no frames"):
            run([])
        with pytest.raises(VideoError, match="change size"):
            run([face(), flat])


def test_frames_that_are_crops_already() -> None:
    cut = align_image(face(), 256)
    found = already_aligned([cut.crops[0]] * 2, 25.0, size=SIZE)
    assert found.crops.shape == (2, SIZE, SIZE, 3) and (found.roll == 0).all() and found.frame_size == (256, 256)
    assert (found.quads == np.array([[0, 0], [0, 256], [256, 256], [256, 0]]) - 0.5).all()
    full = cut.landmarks[0] / 4 - 0.375
    assert np.abs(found.landmarks[0] - full).max() < PIXELS, "a mesh of the crop is the mesh of the frame"
    blank = [np.full((256, 256, 3), 128, np.uint8)]
    gaps = already_aligned([cut.crops[0], *blank, cut.crops[0], *blank * 3], 4.0, size=SIZE)
    assert np.flatnonzero(gaps.bridged).tolist() == [1] and np.flatnonzero(gaps.lost).tolist() == [3, 4, 5]
