"""Warped views: a portrait moved by known motions and by the embedded pack's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from factories import EXAMPLES
from factories.faces import face, mesh, mesh_of
from mien.face import mesh as lm
from mien.face.masks import region_labels
from mien.face.measures import gaze_direction
from mien.face.mesh import rigid_quad, warp_crop
from mien.media.images import to_bytes
from mien.media.still_images import read_image
from mien.method.avatar import Avatar
from mien.method.stage1_align.align import align_image
from mien.packs.pack import Pack
from mien.reenact.warp_portrait import (
    WarpedPortraits,
    inverse_warp,
    lip_colour,
    rigid_brows,
    smooth_outside_face,
    warp_portrait,
)


def test_points_that_stay_leave_a_picture_where_it_is_and_a_shift_takes_its_middle_along() -> None:
    points = np.random.RandomState(0).rand(300, 2) * 0.4 + 0.3
    border = np.array([(x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if {x, y} & {0.0, 1.0}])
    places, area = inverse_warp(points, points)
    at = (np.arange(64) + 0.5) / 64
    np.testing.assert_allclose(places, np.stack(np.meshgrid(at, at), -1), atol=1e-4)
    np.testing.assert_allclose(area, 1, atol=1e-3)
    target = np.concatenate([points + [0.04, -0.02], border])
    places, _ = inverse_warp(target, np.concatenate([points, border]))
    moved = np.stack(np.meshgrid(at, at), -1) - places
    np.testing.assert_allclose(moved[32, 32], [0.04, -0.02], atol=2e-3)
    assert np.abs(moved[[0, 0, -1, -1], [0, -1, 0, -1]]).max() < 0.01


def test_moves_are_even_at_the_edge_of_a_face_and_as_they_were_within() -> None:
    at = ((np.arange(64) + 0.5) / 64).astype(np.float32)
    still = np.stack(np.meshgrid(at, at), -1)
    fingers = np.where(np.arange(64) // 3 % 2, 0.05, 0.0).astype(np.float32)[:, None].repeat(64, 1)
    places = still + np.stack([fingers, np.zeros_like(fingers)], -1)
    away = np.hypot(*(np.mgrid[:64, :64] - 31.5))
    made = smooth_outside_face(places, torch.from_numpy(away < 20).float()[None, None]) - still
    assert np.allclose(made[away < 10, 0], fingers[away < 10], atol=1e-6)
    edge = (away > 18) & (away < 24)
    assert made[edge, 0].std() < 0.35 * fingers[edge].std()
    assert abs(made[edge, 0].mean() - fingers[edge].mean()) < 0.005
    assert np.allclose(smooth_outside_face(still, torch.ones(1, 1, 64, 64)), still)


def test_brows_move_whole() -> None:
    moves = np.zeros((478, 2))
    for brow in lm.BROWS:
        moves[brow[:5], 1], moves[brow[5:], 1] = -6, -2
    moves[1] = 3, 1
    whole = rigid_brows(moves)
    assert all((whole[brow] == [0, -4]).all() for brow in lm.BROWS) and (whole[1] == [3, 1]).all()
    assert (moves[lm.BROWS[0][0]] == [0, -6]).all()
    upper, lower = (mesh()[[brow[i] for brow in lm.BROWS], :2] for i in (1, 8))  # of one pair
    assert (
        np.linalg.norm(upper - lower, axis=1).max()
        < 20
        < np.linalg.norm(upper - mesh()[lm.BROWS[0][5], :2], axis=1).max()
    )


def test_lips_of_a_render_take_the_colour_of_the_portraits() -> None:
    portrait = warp_crop(face(), rigid_quad(mesh()), 256)
    own = mesh_of(portrait)[:, :2] - 0.5
    lips = region_labels(own.astype(float), 256, 1.0) == 6
    grey = portrait.copy()
    grey[lips] = 0.5 * portrait[lips] + 0.5 * np.array([120, 120, 120])
    found = warp_portrait(portrait, own, grey, grey[None])
    far, near = (np.abs(lip_colour(x, own) - lip_colour(portrait, own)).max() for x in (grey, found.images[0]))
    assert near < far / 3


def test_irises_move_as_far_as_the_drivers_do() -> None:
    portrait = warp_crop(face(), rigid_quad(mesh()), 256)
    own = mesh_of(portrait)[:, :2] - 0.5
    wanted = np.array([[0.3, 0.0], [0.42, 0.0], [0.36, 0.0], [np.nan, np.nan], [0.36, 0.02]])
    still = np.repeat(portrait[None], 5, 0)
    found, left = (warp_portrait(portrait, own, portrait, still, driver) for driver in (wanted, None))
    assert found.frames.tolist() == list(range(5))
    where = np.stack([gaze_direction(mesh_of(picture)[:, :2], 256) for picture in found.images])
    assert 0.05 < where[1, 0] - where[0, 0] < 0.16 and abs(where[3, 0] - where[2, 0]) < 0.01
    asked = np.stack([gaze_direction(points, 256) for points in found.landmarks])
    assert np.allclose(asked[1] - asked[0], [0.12, 0], atol=0.01) and asked[4, 1] > asked[2, 1] + 0.01
    assert np.array_equal(found.images[3], left.images[3]) and np.array_equal(left.images[0], left.images[1])
    few = warp_portrait(portrait, own, portrait, still[:2], wanted[:2])  # what is usual is not known
    assert np.array_equal(few.images, left.images[:2])


def test_a_face_that_moves_as_another_picture_of_it_does_becomes_that_picture() -> None:
    size, quad = 256, rigid_quad(mesh())
    at_rest = warp_crop(face(), quad, size)
    raised = warp_crop(face(), quad + [0.0, 12.0], size)  # the face is further up by so many pixels of the photograph
    found = warp_portrait(at_rest, mesh_of(at_rest)[:, :2], at_rest, np.stack([raised, np.zeros_like(raised)]))
    assert found.frames.tolist() == [0]  # a render that shows no face is left out
    inner = (slice(70, 200), slice(80, 176))
    error = lambda a: float(np.abs(a[inner].astype(float) - raised[inner]).mean())
    assert error(found.images[0]) < 0.4 * error(at_rest)
    assert np.abs(mesh_of(found.images[0])[:, :2] - found.landmarks[0]).mean() < 2


@pytest.fixture(scope="module")
def turned(mini: Pack) -> tuple[np.ndarray, np.ndarray, WarpedPortraits]:
    """The example's portrait, and where the pack's renders of it turn it by 12 degrees and raise it by 8."""
    found = align_image(read_image(EXAMPLES / "portrait.png"), mini.resolution)
    with torch.no_grad():
        w = mini.encoder(torch.from_numpy(found.crops[:]).permute(0, 3, 1, 2) / 127.5 - 1)
        start = torch.tensor([[float(found.yaw[0]), float(found.pitch[0])]])
        front = mini.flow(w, start, torch.zeros(1, 2))[0]
        angles = start + torch.tensor([[0.0, 0.0], [12.0, 0.0], [0.0, 8.0]])
        renders = to_bytes(
            mini.generator.synthesis(Avatar(mini.generator, mini.flow, mini.channels, front).latents(angles))
        )
    return found.crops[0], renders, warp_portrait(found.crops[0], found.landmarks[0], renders[0], renders[1:])


def test_a_portrait_turns_as_the_renders_do_and_stays_as_sharp_as_it_is(
    turned: tuple[np.ndarray, np.ndarray, WarpedPortraits],
) -> None:
    portrait, renders, found = turned
    nose = lambda points: points[1] - points[[234, 454]].mean(0)
    before, render = nose(mesh_of(portrait)[:, :2]), nose(mesh_of(renders[0])[:, :2])
    sharp = lambda image: float(cv2.Laplacian(image.astype(np.float32), cv2.CV_32F).std())
    for picture, moved in zip(found.images, renders[1:], strict=True):
        there = nose(mesh_of(moved)[:, :2]) - render
        here = nose(mesh_of(picture)[:, :2]) - before
        assert np.abs(there).max() > 4 and np.linalg.norm(here - there) < 0.5 * np.linalg.norm(there)
        assert sharp(picture) > 0.75 * sharp(portrait) > sharp(moved)
    border = np.r_[0, -1]
    assert np.abs(found.images[:, border].astype(int) - portrait[border]).mean() < 8  # what is behind stays
