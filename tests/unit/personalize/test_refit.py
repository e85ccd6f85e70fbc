"""The re-fit of each frame: a tiny random pack, seconds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from factories.faces import areas
from factories.packs import tiny_pack
from mien.method.avatar import Avatar
from mien.packs.pack import Pack
from mien.personalize.refit import RefitOptions, RefitResult, refit_to_frames
from tolerances import CONVERGED

FRAMES = 20
DEGREES_PER_UNIT = RefitOptions().angle_unit_deg


@pytest.fixture(scope="module")
def shaken() -> tuple[Pack, Tensor, Tensor, Tensor, Tensor]:
    """Angles, alphas and pictures of them, alike as neighbouring frames are, and the same numbers shaken."""
    pack = tiny_pack()
    random = torch.Generator().manual_seed(4)
    scale = torch.tensor([c.scale for c in pack.channels])
    draw = lambda *size: torch.randn(*size, generator=random)
    angles = 4 * (draw(1, 2) + 0.2 * draw(FRAMES, 2))
    alpha = (draw(1, 32) + 0.2 * draw(FRAMES, 32)) * scale
    avatar = Avatar(pack.generator, pack.flow, pack.channels, pack.people[0])
    pictures = pack.generator.synthesis_from_styles(avatar.styles(angles, alpha), 64)
    off = torch.randn(FRAMES, 34, generator=random) * 0.3
    return pack, angles, alpha, pictures, off


def polished(shaken: tuple[Pack, Tensor, Tensor, Tensor, Tensor], fixed: Tensor, blink: Tensor) -> RefitResult:
    pack, angles, alpha, pictures, off = shaken
    scale = torch.tensor([c.scale for c in pack.channels])
    return refit_to_frames(
        Avatar(pack.generator, pack.flow, pack.channels, pack.people[0]), pack.perceptual,
        angles + DEGREES_PER_UNIT * off[:, :2], alpha + scale * off[:, 2:], pictures, areas(FRAMES), fixed, blink,
        RefitOptions(),
    )  # fmt: skip


def test_shaken_numbers_are_put_back(shaken: tuple[Pack, Tensor, Tensor, Tensor, Tensor]) -> None:
    none = torch.zeros(FRAMES, dtype=torch.bool)
    found = polished(shaken, none, none)
    assert float(found.loss.mean()) < 0.7 * float(found.initial_loss.mean())
    torch.testing.assert_close(found.alpha, found.alpha.half().float())


def test_covered_frames_and_gaze_at_blinks_stay(shaken: tuple[Pack, Tensor, Tensor, Tensor, Tensor]) -> None:
    pack, angles, alpha, _, off = shaken
    scale = torch.tensor([c.scale for c in pack.channels])
    fixed, blink = torch.zeros(FRAMES, dtype=torch.bool), torch.zeros(FRAMES, dtype=torch.bool)
    fixed[3], blink[7] = True, True
    found = polished(shaken, fixed, blink)
    start, turn = (alpha + scale * off[:, 2:]).half().float(), (angles + DEGREES_PER_UNIT * off[:, :2]).half().float()
    torch.testing.assert_close(found.alpha[3], start[3], atol=CONVERGED, rtol=CONVERGED)
    torch.testing.assert_close(found.angles[3], turn[3], atol=CONVERGED, rtol=CONVERGED)
    gaze = torch.tensor([c.attribute == "gaze" for c in pack.channels])
    torch.testing.assert_close(found.alpha[7, gaze], start[7, gaze], atol=CONVERGED, rtol=CONVERGED)
    assert float((found.alpha[7, ~gaze] - start[7, ~gaze]).abs().max()) > 0.01
