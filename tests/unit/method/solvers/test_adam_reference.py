"""The paper's plain form of stages 4 and 5, on a tiny random pack: it descends, and it keeps to Eq. 5, 7 and 8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from factories.faces import areas
from factories.packs import tiny_pack
from mien.errors import InputError
from mien.method.avatar import Avatar
from mien.method.index_sensitivity import Candidates, index_sensitivity
from mien.method.losses import LossNetworks
from mien.method.problems import AttributeProblem, PoseProblem
from mien.method.solvers.adam_reference import AdamAttributeOptions, AdamPoseOptions, learning_rates
from mien.method.solvers.registry import SOLVERS, solve_attributes, solve_pose, solver_named
from mien.method.stage4_pose import PoseOptions
from mien.method.stage5_attributes import AttributeOptions
from mien.method.types import Attributes
from mien.nets.stylespace import read_channels
from mien.packs.pack import Pack
from tolerances import CONVERGED

FRAMES = 3
# Fewer epochs than a real face takes: the tests are to be quick.
QUICK_POSE = {"gauss-newton": PoseOptions(), "reference": AdamPoseOptions(epochs=25)}
QUICK_ATTRIBUTES = {"gauss-newton": AttributeOptions(), "reference": AdamAttributeOptions(epochs=20, rate=0.15)}


class Case:
    """Frames that the pack can draw exactly: an identity latent, angles and offsets on its own channels."""

    def __init__(self) -> None:
        self.pack: Pack = tiny_pack()
        p = self.pack
        self.identity = p.people[0]
        self.angles = torch.tensor([[-4.0, 2.0], [-2.0, 1.0], [1.0, 0.0]])
        self.scale = torch.tensor([c.scale for c in p.channels])
        self.alpha = torch.randn(1, 32, generator=torch.Generator().manual_seed(0)) * self.scale
        self.alpha = self.alpha * torch.linspace(0.5, 1.5, FRAMES)[:, None]
        self.avatar = Avatar(p.generator, p.flow, p.channels, self.identity)
        self.posed = self.avatar.latents(self.angles)
        self.plain = p.generator.synthesis(self.posed)
        self.frames = self.render(self.alpha)

    def render(self, alpha: Tensor) -> Tensor:
        return self.pack.generator.synthesis_from_styles(self.avatar.styles(self.angles, alpha))

    def attributes(self, options: AttributeOptions | AdamAttributeOptions, blink: Tensor) -> Attributes:
        look = LossNetworks(self.pack.perceptual, self.pack.identity, self.pack.parser)
        start = torch.zeros(FRAMES, 32)
        return solve_attributes(
            AttributeProblem(self.avatar, look, self.angles, self.frames, areas(), start, blink, self.frames[:1]),
            options,
        )


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.mark.parametrize("name", SOLVERS)
def test_pose_comes_nearer_than_the_measured_angles(case: Case, name: str) -> None:
    measured = case.angles + torch.tensor([2.0, -1.5])
    problem = PoseProblem(case.avatar, case.pack.perceptual, case.plain, measured, areas())
    pose = solve_pose(problem, QUICK_POSE[name])
    assert pose.angles.shape == (FRAMES, 2) and torch.equal(pose.angles, pose.angles.half().float())
    assert float(pose.loss.mean()) < 0.5 * float(pose.initial_loss.mean())
    assert float((pose.angles - case.angles).abs().mean()) < float((measured - case.angles).abs().mean())


@pytest.mark.parametrize("name", SOLVERS)
def test_attributes_explain_the_frames(case: Case, name: str) -> None:
    found = case.attributes(QUICK_ATTRIBUTES[name], torch.zeros(FRAMES, dtype=torch.bool))
    assert found.alpha.shape == (FRAMES, 32) and bool(torch.isfinite(found.alpha).all())
    before = (case.render(torch.zeros(FRAMES, 32)) - case.frames).square().mean()
    after = (case.render(found.alpha) - case.frames).square().mean()
    assert float(after) < 0.3 * float(before)


def test_without_an_epoch_each_frame_stands_where_the_one_before_stood(case: Case) -> None:
    """Eq. 7: the values of the channels V are the frame before's, whatever the pose."""
    found = case.attributes(AdamAttributeOptions(epochs=0), torch.zeros(FRAMES, dtype=torch.bool))
    values = read_channels(case.pack.generator.styles(case.posed), case.pack.channels) + found.alpha
    np.testing.assert_allclose(values[1:], values[:1].expand(FRAMES - 1, -1), atol=CONVERGED)
    assert not found.alpha[0].any()


def test_gaze_keeps_its_values_through_a_blink(case: Case) -> None:
    blink = torch.tensor([False, True, False])
    found = case.attributes(AdamAttributeOptions(epochs=5), blink)
    gaze = [i for i, c in enumerate(case.pack.channels) if c.attribute == "gaze"]
    values = (read_channels(case.pack.generator.styles(case.posed), case.pack.channels) + found.alpha)[:, gaze]
    np.testing.assert_allclose(values[1], values[0], atol=CONVERGED)
    assert float((values[2] - values[1]).abs().max()) > 0.01


def test_learning_rates_are_those_of_eq_8(case: Case) -> None:
    p = case.pack
    rates = learning_rates(case.avatar, p.perceptual, case.angles, areas(), [0])
    by_attribute: dict[str, list[float]] = {}
    for channel, rate in zip(p.channels, rates.tolist(), strict=True):
        by_attribute.setdefault("mouth" if channel.attribute == "jaw" else channel.attribute, []).append(rate)
    assert min(by_attribute["mouth"]) == pytest.approx(np.exp(-1.5)) and max(rates) <= 1.0
    # Eyes and brows share a mask, and so a maximum.
    assert min(by_attribute["eyes"] + by_attribute["brows"]) == pytest.approx(np.exp(-1.5))


def test_sensitivity_is_eq_5_spelt_out(case: Case) -> None:
    p = case.pack
    masks = torch.cat([areas(1).mouth[0], areas(1).eyes[0]])
    styles = p.generator.styles(case.posed[:1])
    channel, deltas = p.channels[5], (-1.0, 0.5, 2.0)
    table = index_sensitivity(p.generator, p.perceptual, styles, masks, Candidates.of([channel]), deltas=deltas)
    gammas = [*table.inside[0], table.whole[0]]
    for mask, value in zip([*masks, torch.ones(64, 64)], gammas, strict=True):
        seen = []
        for delta in deltas:
            moved = [s.clone() for s in styles]
            moved[channel.layer][0, channel.index] += delta * channel.scale
            seen.append(p.perceptual.features(p.generator.synthesis_from_styles(moved) * mask))
        wanted = sum(
            sum(float((f - g).square().sum(1).mean()) for f, g in zip(a, b, strict=True)) / abs(y - x)
            for a, b, x, y in zip(seen, seen[1:], deltas, deltas[1:], strict=False)
        ) / len(deltas)
        assert float(value) == pytest.approx(wanted, rel=1e-3)


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(InputError, match="'newton'.*gauss-newton or reference"):
        solver_named("newton")
