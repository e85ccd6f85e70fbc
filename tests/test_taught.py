"""Channels that tuning teaches: what the landmarks say, which channels are idle, and what alpha becomes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_pack

from mien.models.stylegan2 import SynthesisLayer, ToRGB
from mien.nets.stylespace import Channel
from mien.stages.regions import regions
from mien.stages.taught import FARTHEST, GAZE_DOWN, GAZE_RIGHT, gaze, idle, taught, tell

EYES = ((33, 133, 468), (362, 263, 473))  # left corner, right corner, iris, as the viewer sees them


def eyes(angle: float, shifts: list[tuple[float, float]]) -> np.ndarray:
    """Landmarks `[T, 478, 2]` whose irises are moved to the right and down by shares of the eye's width of 20 pixels,
    in a head rolled by `angle`."""
    flat = np.random.RandomState(0).rand(1, 478, 2).repeat(len(shifts), 0) * 64
    for k, (left, right, iris) in enumerate(EYES):
        flat[:, left], flat[:, right] = (10 + 30 * k, 30), (30 + 30 * k, 30)
        flat[:, iris] = [(20 + 30 * k + 20 * x, 30 + 20 * y) for x, y in shifts]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return flat @ turn.T


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_gaze_is_the_iris_between_the_corners_whatever_the_roll(angle: float) -> None:
    found = gaze(eyes(angle, [(0.0, 0.0), (0.04, 0.0), (0.0, -0.024)]), np.zeros(3, bool))
    moved = found - found[0]
    assert np.allclose(moved[1], (0.04 / GAZE_RIGHT, 0), atol=1e-6)
    assert np.allclose(moved[2], (0, -0.024 / GAZE_DOWN), atol=1e-6)


def test_gaze_goes_straight_across_a_blink() -> None:
    found = gaze(eyes(0.0, [(0.0, 0.0), (9.0, 9.0), (0.08, 0.0)]), np.array([False, True, False]))
    assert np.allclose(found[1], (found[0] + found[2]) / 2)
    assert np.isfinite(gaze(eyes(0.0, [(0.0, 0.0)]), np.array([True]))).all(), "eyes that are never open"


def test_only_channels_that_show_nothing_are_idle() -> None:
    pack = tiny_pack()
    generator, channels = pack.generator, (Channel(6, 0, "gaze", 0.5), Channel(6, 1, "gaze", 0.5))
    conv = [m for m in generator.modules() if isinstance(m, SynthesisLayer | ToRGB)][6].conv
    with torch.no_grad():
        conv.weight[:, 1] = 0.0
        conv.weight[:, 0] *= 20.0
    latent = torch.randn(generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(0))
    assert idle(generator, channels, latent, torch.ones(1, 1, 64, 64)) == [1]


def test_idle_gaze_channels_carry_what_is_measured_and_others_keep_their_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pack = tiny_pack()
    landmarks = eyes(0.0, [(0.0, 0.0), (0.02, 0.0), (0.5, 0.0), (0.0, 0.012)])
    areas = regions(landmarks, 64)
    latent = torch.zeros(pack.generator.num_ws, pack.generator.w_dim)
    gazes = [i for i, c in enumerate(pack.channels) if c.attribute == "gaze"]
    monkeypatch.setattr("mien.stages.taught.idle", lambda *_: list(range(30)))
    values = taught(pack.generator, pack.channels, latent, 0, landmarks, np.zeros(4, bool), areas)
    told = torch.nonzero(~values[0].isnan())[:, 0].tolist()
    assert told == [i for i in gazes if i < 30], "gaze channels, and only the idle ones"
    right, down = values[:, told[0]] / pack.channels[told[0]].scale, values[:, told[1]] / pack.channels[told[1]].scale
    assert torch.allclose(right, torch.tensor([0, 0.02 / GAZE_RIGHT, FARTHEST, 0]), atol=1e-5)
    assert torch.allclose(down, torch.tensor([0, 0, 0, 0.012 / GAZE_DOWN]), atol=1e-5)
    alpha = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    after = tell(alpha, values, 0)
    others = [i for i in range(32) if i not in told]
    assert torch.equal(after[:, others], alpha[:, others]) and torch.equal(after[0], alpha[0])
    assert torch.allclose(after[:, told] - after[0, told], values[:, told], atol=1e-6)
