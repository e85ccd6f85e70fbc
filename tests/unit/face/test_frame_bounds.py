"""Where the frame ends within a crop, and what that does to masks and to the mesh's package."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from mien.errors import MissingPackageError
from mien.face.frame_bounds import FrameBounds
from mien.face.masks import OUTSIDE, ClipRegions
from mien.face.mesh import FaceMesh, quad_matrix


def square(left: float, top: float, side: float) -> np.ndarray:
    """A crop's corners, from its outer edges in frame pixels."""
    corners = np.array([[0, 0], [0, side], [side, side], [side, 0]]) + [left, top]
    return (corners - 0.5)[None]


def test_half_of_a_crop_that_begins_before_the_frame_lies_outside() -> None:
    bounds = FrameBounds(square(-50, 0, 100), (200, 100))
    within = bounds.within(slice(None), 64)[0, 0]
    assert bounds.cut and within.shape == (64, 64)
    assert (within[:, :31] == 0).all() and (within[:, 33:] == 1).all()


def test_a_turned_crop_agrees_with_the_warp() -> None:
    """A white frame, warped with black around it, is the mask."""
    import cv2

    turn = np.radians(20)
    about = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    quad = (square(-10, -30, 100)[0] - [40, 20]) @ about.T + [40, 20]
    white = np.ones((80, 120), np.float32)
    seen = cv2.warpAffine(white, quad_matrix(quad, 64), (64, 64), flags=cv2.INTER_LINEAR)
    within = FrameBounds(quad[None], (120, 80)).within(slice(None), 64)[0, 0].numpy()
    assert 0.3 < within.mean() < 0.95 and np.abs(within - seen).mean() < 0.02


def test_crops_within_the_frame_are_not_cut() -> None:
    assert not FrameBounds(square(0, 0, 100), (100, 100)).cut
    assert not FrameBounds(square(20, 10, 60), (100, 100)).cut


def test_masks_end_where_the_frame_does(landmarks: np.ndarray) -> None:
    both = np.repeat(landmarks[None], 2, 0)
    quads = np.concatenate([square(0, 0, 64), square(0, -32, 64)])  # the second one's upper half is outside
    whole, cut = ClipRegions(both, 64), ClipRegions(both, 64, bounds=FrameBounds(quads, (64, 64)))
    masks, free = cut.part(slice(None)), whole.part(slice(None))
    assert torch.equal(masks.face[0], free.face[0]) and not masks.eyes[1, :, :31].any()
    assert torch.allclose(masks.attention[1, 0, 0, 0], torch.tensor(0.6 * OUTSIDE))


@pytest.fixture
def landmarks() -> np.ndarray:
    """A canonical face in a crop of 64 pixels."""
    from mien.face.mesh import canonical_face

    points = canonical_face()[:, :2]
    return (points * 20 + 32).astype(np.float32)


def test_a_mesh_that_is_not_installed_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(MissingPackageError, match="--no-deps mediapipe"):
        FaceMesh()
