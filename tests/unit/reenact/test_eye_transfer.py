"""A portrait's own eyes within the lids of a render of the same person."""

from __future__ import annotations

import cv2
import numpy as np

from factories.faces import face, mesh, mesh_of
from mien.face import mesh as lm
from mien.face.masks import region_labels
from mien.face.mesh import rigid_quad, warp_crop
from mien.reenact.eye_transfer import EyeCompositor, EyeTransferOptions

SIZE = 256
BLUE = np.array([40.0, 90.0, 220.0])
SKIN, SCLERA = (205, 160, 140), (225, 220, 215)


def _face() -> tuple[np.ndarray, np.ndarray]:
    crop = warp_crop(face(), rigid_quad(mesh()), SIZE)
    return crop, mesh_of(crop)[:, :2] - 0.5


def _irises(points: np.ndarray, radii: float) -> np.ndarray:
    """Where irises are seen, `[256, 256]`, out to so many radii."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    seen = np.zeros((SIZE, SIZE), bool)
    for ids in lm.IRISES:
        middle = points[ids[0]]
        radius = np.linalg.norm(points[ids[1:]] - middle, axis=1).mean()
        seen |= np.hypot(columns - middle[0], rows - middle[1]) < radii * radius
    return seen & np.isin(region_labels(points.astype(float), SIZE, 1.0), (3, 4))


def _shut(points: np.ndarray, by: float) -> np.ndarray:
    """Upper lids that went down to a share `1 - by` of the opening."""
    shut = points.copy()
    for lids in lm.EYES:
        for lower, upper in zip(lids[1:8], lids[:8:-1], strict=True):
            shut[upper] += by * (points[lower] - points[upper])
    return shut


def test_an_iris_keeps_its_colour_where_the_other_picture_moves_it_and_all_else_stays() -> None:
    crop, points = _face()
    portrait = crop.copy()
    portrait[_irises(points, 1.1)] = BLUE
    moved = points.copy()
    moved[[i for ids in lm.IRISES for i in ids]] += [2.0, 0.0]  # they look 2 pixels to the right
    made = EyeCompositor(portrait, points).apply(crop, moved)
    here = _irises(moved, 0.6)
    assert np.abs(made[here] - BLUE).mean() < 30 < np.abs(crop[here] - BLUE).mean()
    label = cv2.dilate(
        np.isin(region_labels(points.astype(float), SIZE, 1.0), (3, 4)).astype(np.uint8), np.ones((25, 25))
    )
    assert np.array_equal(made[label == 0], crop[label == 0])
    # Where lids hide it in the portrait it has the colours that are seen.
    half = portrait.copy()
    half[: int(points[[468, 473], 1].mean()) - 1][_irises(points, 2)[: int(points[[468, 473], 1].mean()) - 1]] = (
        150,
        110,
        90,
    )
    lids = points.copy()
    for ids in lm.EYES:
        lids[ids, 1] = np.maximum(lids[ids, 1], points[[468, 473], 1].mean() - 1)
    again = EyeCompositor(half, lids).apply(crop, moved)
    assert np.abs(again[here] - BLUE).mean() < 30


def test_an_eye_that_was_painted_black_is_in_the_shade_at_most() -> None:
    crop, points = _face()
    eyes = np.isin(region_labels(points.astype(float), SIZE, 1.0), (3, 4))
    black = crop.copy()
    black[eyes] = 0
    made = EyeCompositor(crop, points).apply(black, points)
    white = eyes & ~_irises(points, 1.3)
    inner = cv2.erode(white.astype(np.uint8), np.ones((3, 3))) > 0
    assert made[inner].mean() > 0.5 * crop[inner].mean() > black[inner].mean()
    assert np.abs(made[_irises(points, 0.8)].astype(float) - crop[_irises(points, 0.8)]).mean() < 12


def test_lids_that_are_shut_have_no_iris_between_them_but_the_colour_of_skin() -> None:
    crop, points = _face()
    shut = _shut(points, 0.75)
    slit = np.isin(region_labels(shut.astype(float), SIZE, 1.0), (3, 4))
    black = crop.copy()
    black[slit] = 0
    portrait = crop.copy()
    portrait[_irises(points, 1.1)] = BLUE
    made = EyeCompositor(portrait, points).apply(black, shut)[slit].astype(float)
    assert (made[:, 2] < made[:, 0]).all()  # skin is red before it is blue
    assert 0.2 * crop.mean() < made.mean() < crop.mean()


def test_a_picture_whose_eyes_are_shut_leaves_the_irises_as_they_are() -> None:
    crop, points = _face()
    portrait = crop.copy()
    portrait[_irises(points, 1.1)] = BLUE
    made = EyeCompositor(portrait, _shut(points, 0.95)).apply(crop, points)
    pupils = _irises(points, 0.7)
    assert np.abs(made[pupils] - BLUE).mean() > 60


def synthetic_face(opening: float, iris: tuple[int, int, int], look_px: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A drawn face of flat colours, uint8 `[256, 256, 3]`, and its mesh: lids `opening` as far open as the mesh's."""
    points = lm.canonical_face()[:, :2] * 100 + [128, 100]
    for ids in lm.IRISES:
        points[ids, 0] += look_px
    points = _shut(points, 1 - opening)
    label = region_labels(points, SIZE, 1.0)
    image = np.full((SIZE, SIZE, 3), SKIN, np.uint8)
    image[label == 3], image[label == 4] = SCLERA, iris
    return image, points


def test_the_eyes_of_a_drawn_face_take_the_portraits_colours_to_where_the_render_looks() -> None:
    portrait, own = synthetic_face(1.0, (40, 90, 220))
    render, there = synthetic_face(0.8, (90, 60, 30), look_px=3.0)
    made = EyeCompositor(portrait, own).apply(render, there)
    label = region_labels(there, SIZE, 1.0)
    inner = cv2.erode((label == 4).astype(np.uint8), np.ones((3, 3))) > 0
    assert inner.sum() > 20
    assert (
        np.abs(made[inner].astype(float) - BLUE).max() < 60
    )  # all of the iris, what the portrait's lids hide of it too
    assert np.abs(made[label == 3].astype(float) - SCLERA).mean() < 20
    far = cv2.dilate(np.isin(label, (3, 4)).astype(np.uint8), np.ones((41, 41))) == 0
    assert np.array_equal(made[far], render[far])


def test_shades_and_the_least_iris_are_options() -> None:
    portrait, own = synthetic_face(1.0, (40, 90, 220))
    render, there = synthetic_face(1.0, (90, 60, 30))
    sclera = cv2.erode((region_labels(there, SIZE, 1.0) == 3).astype(np.uint8), np.ones((3, 3))) > 0
    iris = cv2.erode((region_labels(there, SIZE, 1.0) == 4).astype(np.uint8), np.ones((3, 3))) > 0
    render[sclera] = 0
    light, dark = (
        EyeCompositor(portrait, own, EyeTransferOptions(sclera_shade=shade)).apply(render, there)
        for shade in (0.9, 0.3)
    )
    assert light[sclera].mean() > 2 * dark[sclera].mean() > 0
    kept = EyeCompositor(portrait, own, EyeTransferOptions(min_iris_visible=1.0)).apply(render, there)
    assert np.abs(kept[iris].astype(float) - [90, 60, 30]).mean() < np.abs(kept[iris].astype(float) - BLUE).mean()
