"""What turns meshes into numbers without looking ahead."""

from __future__ import annotations

import numpy as np
import pytest

from factories.faces import face, mesh
from mien.errors import FaceError
from mien.face.mesh import canonical_face, rigid_quad, warp_crop
from mien.face.mesh_features import FEATURES, facing, features_at_rest, mesh_features
from mien.method.live_motion import LossEasing, OneEuroFilter, ReaderOptions, RestShape, fit_reader, ridge_regression
from mien.packs.pack import Pack


def turned(shape: np.ndarray, yaw: float, roll: float = 0.0) -> np.ndarray:
    """The shape in pixels, turned by yaw (to the viewer's right) and roll in degrees."""
    a, b = np.radians([yaw, roll])
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return shape @ (about_z @ about_y).T * 80 + [300, 200, 10]


def test_features_do_not_change_with_place_size_and_roll() -> None:
    mesh = turned(canonical_face(), 10)
    a = mesh_features(mesh)
    assert a.shape == (FEATURES,) and a.dtype == np.float32
    assert np.allclose(a, mesh_features(turned(canonical_face(), 10, roll=25)), atol=0.02)
    assert np.allclose(a, mesh_features(mesh * 2 + [5, 9, 0]), atol=1e-3)
    assert a[0] == pytest.approx(10 / 20, abs=1e-3) and a[1] == pytest.approx(0, abs=1e-3)


def test_features_at_rest_are_those_of_the_face_seen_from_the_front() -> None:
    front, aside = turned(canonical_face(), 0), turned(canonical_face(), 20)
    assert np.allclose(features_at_rest(facing(aside)), mesh_features(front), atol=1e-3)


def test_rest_is_the_median_of_the_first_seconds() -> None:
    rest, shape = RestShape(2.0), canonical_face()
    smile = shape.copy()
    smile[61, 0] -= 0.2
    for i in range(40):
        rest.add(turned(smile if i % 4 == 0 else shape, 0), i / 25)
    found = rest.shape
    assert found is not None and np.abs(found - shape).max() < 1e-6
    for i in range(40):
        rest.add(turned(smile, 0), 3 + i / 25)
    assert rest.shape is found


def test_rest_goes_on_changing_until_the_seconds_are_over() -> None:
    """Longer than the meshes that are kept."""
    rest, shape = RestShape(30.0), canonical_face()
    smile = shape.copy()
    smile[61, 0] -= 0.2
    for i in range(300 + 200):
        rest.add(turned(shape if i < 300 else smile, 0), i / 25)
    assert rest.shape is not None and np.abs(rest.shape - smile).max() < 1e-6


def test_one_euro_is_still_at_rest_and_quick_in_motion() -> None:
    random = np.random.default_rng(0)
    noise = OneEuroFilter(np.ones(1))
    out = [noise(0.05 * random.standard_normal(1), i / 25)[0] for i in range(200)]
    assert np.std(out[20:]) < 0.6 * 0.05
    step = OneEuroFilter(np.ones(1))
    out = [step(np.array([float(i >= 10)]), i / 25)[0] for i in range(14)]
    assert out[9] == 0 and out[11] > 0.85


def test_a_lost_face_is_held_eased_to_neutral_and_comes_back() -> None:
    neutral, seen = np.zeros(35), np.ones(35)
    easing = LossEasing(neutral, hold=0.5, ease=1.0, back=0.4)
    at = lambda first, last, value: [easing(value, i / 25)[0] for i in range(first, last)]
    assert at(0, 50, seen)[-1] == 1
    lost = np.array(at(50, 100, None))
    assert (lost[:12] == 1).all() and lost[-1] == 0 and np.abs(np.diff(lost)).max() < 0.08
    back = np.array(at(100, 120, seen))
    assert back[-1] == 1 and np.abs(np.diff(back)).max() < 0.2


def test_ridge_regression_finds_the_map_and_how_much_to_trust_it() -> None:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((3, 30))
    numbers = random.standard_normal((60, 3))
    numbers[:, 2] = random.standard_normal(60)
    features = numbers[:, :2] @ mixing[:2]  # the third number does not show
    weight = ridge_regression(features + 0.01 * random.standard_normal(features.shape), numbers)
    fresh = random.standard_normal((20, 3))
    read = fresh[:, :2] @ mixing[:2] @ weight
    assert np.allclose(read[:, :2], fresh[:, :2], atol=0.1)
    assert np.abs(read[:, 2]).mean() < 0.5


def test_a_face_that_the_mesh_does_not_see_is_said(pack: Pack) -> None:
    with pytest.raises(FaceError):
        fit_reader(lambda row: np.zeros((64, 64, 3), np.uint8), pack.flow, np.ones(32), np.zeros((0, 32)))


def test_renders_have_the_expressions_that_were_seen(pack: Pack) -> None:
    crop = warp_crop(face(), rigid_quad(mesh()), 256)
    drawn: list[np.ndarray] = []

    def paint(row: np.ndarray) -> np.ndarray:
        drawn.append(row)
        return crop

    scale, seen = np.full(32, 0.5), np.zeros((3, 32))
    seen[:, 4] = 5.0  # ten units
    options = ReaderOptions(renders=8, jitter=0.1)
    reader = fit_reader(paint, pack.flow, scale, seen, options)
    alpha = np.stack(drawn[1:])[:, 3:]
    assert (alpha[:, 4] > 0.4 * 5).all() and (alpha[:, 4] < 1.4 * 5).all()
    assert np.abs(np.delete(alpha, 4, 1)).max() < 0.3 * 0.5
    assert reader.limit[4] == 5.0 and reader.limit[0] == options.limit * 0.5
