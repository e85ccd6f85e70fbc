"""The render back in the frame: where it belongs, with its colours, without seam or flicker."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mien
from factories import EXAMPLES
from factories.faces import crop, face
from mien.errors import InputError
from mien.face.mesh import warp_crop
from mien.method.stage1_align.crop_geometry import quad_from_crop
from mien.method.stage6_render.paste import Paster, blend, colour_field, fade
from mien.method.stage6_render.placement import paste, placement_from_quads
from tolerances import FLOAT32_GEOMETRY

SIZE = 256


def quad(roll: float = 0.0) -> np.ndarray:
    return quad_from_crop(crop() + [0, 0, 0, np.radians(roll)])


def within(shape: tuple[int, ...], corners: np.ndarray, reach: float) -> np.ndarray:
    """Which pixels of a frame lie within `reach` (1 is the edge) of the middle of a square with these corners."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    points = np.stack([x, y], -1) - corners.mean(0)
    along = [(corners[3] - corners[0]) / 2, (corners[1] - corners[0]) / 2]
    u, v = (points @ axis / (axis @ axis) for axis in along)
    return np.maximum(np.abs(u), np.abs(v)) < reach


@pytest.mark.parametrize("roll", [0.0, 25.0])
def test_its_own_crop_changes_nothing(roll: float) -> None:
    place = quad(roll)
    frame = face()
    back = Paster()(frame, warp_crop(frame, place, SIZE), place)
    assert np.abs(back.astype(int) - frame)[within(frame.shape, place, 1)].mean() < 1.2
    assert (back == frame)[~within(frame.shape, place, 1.02)].all()
    assert (frame == face()).all(), "the frame itself is not changed"


def test_another_face_is_seen_where_the_crop_was() -> None:
    place = quad()
    mirrored = np.ascontiguousarray(warp_crop(face(), place, SIZE)[:, ::-1])
    back = warp_crop(Paster()(face(), mirrored, place), place, SIZE)
    middle = np.s_[80:200, 80:180]
    same = np.corrcoef(back[middle].ravel(), mirrored[middle].ravel())[0, 1]
    assert same > 0.98


def test_colours_are_matched_and_no_seam_is_left() -> None:
    place, frame = quad(), face()
    cast = np.clip(warp_crop(frame, place, SIZE) * [1.1, 0.9, 0.8] + [10, 0, -10], 0, 255).astype(np.uint8)
    plain = blend(frame, cast, place).astype(int) - frame
    matched = Paster()(frame, cast, place).astype(int) - frame
    inner = within(frame.shape, place, 0.5)
    assert np.abs(matched[inner].mean(0)).max() < 3 < np.abs(plain[inner].mean(0)).max()
    edge = within(frame.shape, place, 0.97) & ~within(frame.shape, place, 0.9)
    assert np.abs(matched[edge]).mean() < 2


def test_noise_of_the_frame_does_not_make_the_face_flicker() -> None:
    place, rng = quad(), np.random.default_rng(0)
    render = warp_crop(face(), place, SIZE)
    paster = Paster()
    flash = lambda k: np.clip(face() + rng.normal(0, 4, face().shape) + 6 * (-1) ** k, 0, 255)
    means = [
        paster(flash(k).astype(np.uint8), render, place)[within(face().shape, place, 0.4)].mean() for k in range(20)
    ]
    assert np.std(means[8:]) < 1.0, "of 6 grey levels of the frame's own flicker"


def test_another_shot_takes_its_own_colours_at_once() -> None:
    place, paster = quad(), Paster()
    render = warp_crop(face(), place, SIZE)
    paster(face(), render, place)
    dark = (face() * 0.5).astype(np.uint8)
    far = np.roll(dark, 200, axis=1)
    back = paster(far, render, place + [200.0, 0])
    fresh = Paster()(far, render, place + [200.0, 0])
    assert (back == fresh).all()


def test_nothing_is_pasted_where_the_face_was_lost_or_outside() -> None:
    render = np.zeros((SIZE, SIZE, 3), np.uint8)
    for nowhere in (np.full((4, 2), np.nan), np.tile(quad().mean(0), (4, 1)), quad() + 5000.0):
        assert (Paster()(face(), render, nowhere) == face()).all()
    corner = quad() - quad().mean(0)
    assert Paster()(face(), render, corner).shape == face().shape


def test_the_weight_is_smooth_and_ends_at_the_edge() -> None:
    u, v = np.meshgrid(np.linspace(-1, 1, 201), np.linspace(-1, 1, 201))
    weight = fade(u, v)
    assert weight[100, 100] == 1 and weight[0].max() == weight[:, -1].max() == 0
    assert np.abs(np.diff(weight, axis=0)).max() < 0.08


def test_the_colour_field_of_a_constant_difference_is_constant() -> None:
    render = np.full((64, 64, 3), 90, np.uint8)
    field = colour_field(np.full((128, 128, 3), 110, np.uint8), render)
    assert np.allclose(field, 20, atol=FLOAT32_GEOMETRY)


def test_a_background_of_another_colour_does_not_tint_the_hair() -> None:
    """The frame's rim is greener than the render's: near the head little of it is left."""
    render = np.full((128, 128, 3), 90, np.uint8)
    crop_of_frame = render.copy()
    rim = np.ones((128, 128), bool)
    rim[16:-16, 16:-16] = False
    crop_of_frame[rim, 1] += 60
    field = colour_field(crop_of_frame, render)
    assert field[16, 1, 1] > 50 and field[16, 8, 1] < 60 / 5 and abs(field[16, 16, 1]) < 1


def test_a_clip_that_ends_too_early_is_refused() -> None:
    """Else the video would stop where the clip does, with all of its sound."""
    frames = [face() for _ in range(2)]
    placement = placement_from_quads(
        np.stack([quad()] * 3), (frames[0].shape[1], frames[0].shape[0]), np.zeros(3, bool)
    )
    stream = replace(mien.load(EXAMPLES / "clip.mien"), placement=None)
    stream = replace(stream, frames=stream.frames[:3], placement=placement)
    faces = [warp_crop(frames[0], quad(), SIZE)] * 3
    with pytest.raises(InputError, match="ends before"):
        list(paste(faces, frames, stream, (frames[0].shape[1], frames[0].shape[0])))
