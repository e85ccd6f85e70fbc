"""Stages 4 and 5 at every n-th frame, on a tiny random pack: those between are corrected as their neighbours are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from factories.faces import areas
from factories.packs import tiny_pack
from mien.method.avatar import Avatar
from mien.method.losses import LossNetworks
from mien.method.problems import AttributeProblem, PoseProblem
from mien.method.solvers.registry import solve_attributes, solve_pose
from mien.method.stage4_pose import PoseOptions
from mien.method.stage5_attributes import AttributeOptions
from mien.method.thinning import Thinning
from mien.runtime.monitor import StageMonitor

FRAMES = 6
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("n", "count", "chosen"), [(2, 6, [0, 2, 4, 5]), (2, 5, [0, 2, 4]), (3, 1, [0]), (9, 2, [0, 1]), (1, 3, [0, 1, 2])]
)
def test_the_first_and_the_last_are_always_solved(n: int, count: int, chosen: list[int]) -> None:
    assert Thinning.every(n, count, CPU).chosen.tolist() == chosen


def test_between_them_values_are_linear() -> None:
    thinning = Thinning.every(3, 6, CPU)
    assert thinning.chosen.tolist() == [0, 3, 5]
    torch.testing.assert_close(thinning.spread(torch.tensor([0.0, 3.0, -1.0])), torch.tensor([0.0, 1, 2, 3, 1, -1]))
    assert thinning.spread(torch.ones(3, 4, 2)).shape == (6, 4, 2)
    assert torch.equal(Thinning.every(2, 1, CPU).spread(torch.tensor([[7.0, 8.0]])), torch.tensor([[7.0, 8.0]]))


def problems() -> tuple[PoseProblem, AttributeProblem]:
    """A head that turns and a face that changes steadily, measured and begun wrongly by as much in all frames."""
    pack = tiny_pack()
    avatar = Avatar(pack.generator, pack.flow, pack.channels, pack.people[0])
    angles = torch.stack([torch.linspace(-4, 4, FRAMES), torch.linspace(1, -1, FRAMES)], 1)
    scale = torch.tensor([c.scale for c in pack.channels])
    alpha = (
        torch.linspace(0.2, 1.2, FRAMES)[:, None]
        * torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
        * scale
    )
    look = LossNetworks(pack.perceptual, None, None)
    posed = pack.generator.synthesis(avatar.latents(angles))
    moved = pack.generator.synthesis_from_styles(avatar.styles(angles, alpha))
    pose = PoseProblem(avatar, pack.perceptual, posed, angles + torch.tensor([2.0, -1.5]), areas(FRAMES))
    never = torch.zeros(FRAMES, dtype=torch.bool)
    start = alpha - 0.5 * scale
    return pose, AttributeProblem(avatar, look, angles, moved, areas(FRAMES), start, never, moved[:1])


def test_what_is_not_solved_is_as_near_as_what_is() -> None:
    pose, attributes = problems()
    done: list[int] = []
    some = solve_pose(pose, PoseOptions(every=2), monitor=StageMonitor(done.append))
    assert sum(done) == FRAMES and some.angles.shape == (FRAMES, 2) and some.loss.shape == (FRAMES,)
    every = solve_pose(pose, PoseOptions())
    off = lambda angles: float((angles - pose.measured - torch.tensor([-2.0, 1.5])).abs().mean())
    assert off(some.angles) < 0.6 * off(pose.measured) and off(some.angles) < 1.3 * off(every.angles)

    done.clear()
    found = solve_attributes(attributes, AttributeOptions(every=2), monitor=StageMonitor(done.append))
    assert sum(done) == FRAMES and found.alpha.shape == (FRAMES, 32)
    render = lambda alpha: attributes.avatar.generator.synthesis_from_styles(
        attributes.avatar.styles(attributes.angles, alpha)
    )
    error = lambda alpha: (render(alpha) - attributes.targets[:]).square().mean((1, 2, 3))
    before, after = error(attributes.start), error(found.alpha)
    assert bool((after < 0.5 * before).all()), "frames 1 and 3 are not solved themselves"


def test_a_blink_between_keeps_its_gaze_straight_across() -> None:
    _, problem = problems()
    blink = torch.tensor([False, True, True, False, False, False])
    gaze = problem.avatar.gaze
    some = solve_attributes(replace(problem, blink=blink), AttributeOptions(every=2))
    assert bool(torch.isfinite(some.alpha).all())
    jump = (some.alpha[1] - some.alpha[0])[gaze].abs().max()
    assert float(jump) < float((some.alpha[3] - some.alpha[0])[gaze].abs().max()) + 1e-3
