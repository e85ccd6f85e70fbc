"""Stages 4 and 5 where the input is bad, and with channels chosen for the clip: tiny random packs, seconds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from factories.faces import areas
from factories.packs import tiny_pack
from mien.media.images import to_bytes
from mien.method.avatar import Avatar
from mien.method.frame_quality import region_errors, unreliable_frames
from mien.method.losses import LossNetworks
from mien.method.problems import AttributeProblem, PoseProblem
from mien.method.stage4_pose import PoseOptions, fit_pose
from mien.method.stage5_attributes import AttributeOptions, fit_attributes, warm_start

FRAMES = 24
COVERED = slice(9, 13)


@pytest.fixture(scope="module")
def moving() -> tuple[Tensor, Tensor, Tensor]:
    """A head that keeps still while its channels swing: angles, alpha_t and the pictures of the tiny pack."""
    pack = tiny_pack()
    time = torch.linspace(0, 6, FRAMES)[:, None]
    scale = torch.tensor([c.scale for c in pack.channels])
    alpha = torch.sin(time + torch.arange(32)[None]) * scale
    angles = torch.zeros(FRAMES, 2)
    return angles, alpha, pack.generator.synthesis_from_styles(avatar().styles(angles, alpha))


def avatar() -> Avatar:
    pack = tiny_pack()
    return Avatar(pack.generator, pack.flow, pack.channels, pack.people[0])


def solved(angles: Tensor, frames: Tensor, start: Tensor) -> Tensor:
    pack = tiny_pack()
    look = LossNetworks(pack.perceptual, None, None)
    blink = torch.zeros(FRAMES, dtype=torch.bool)
    problem = AttributeProblem(avatar(), look, angles, frames, areas(FRAMES), start, blink, frames[:1])
    return fit_attributes(problem, AttributeOptions()).alpha


def test_covered_frames_leave_the_others_as_they_were(moving: tuple[Tensor, Tensor, Tensor]) -> None:
    angles, alpha, frames = moving
    hidden, start = frames.clone(), alpha * 0.8
    hidden[COVERED, :, 40:56, 20:44] = 0.0
    bad_start = start.clone()
    bad_start[COVERED] = 40.0  # an encoder that has lost the face
    clean, covered = solved(angles, frames, start), solved(angles, hidden, bad_start)
    pack = tiny_pack()
    scale = torch.tensor([c.scale for c in pack.channels])
    draw = lambda a: pack.generator.synthesis_from_styles(avatar().styles(angles, a))
    error = lambda a: (draw(a) - frames).square().mean((1, 2, 3))
    outside = torch.ones(FRAMES, dtype=torch.bool)
    outside[COVERED] = False
    before, after = error(clean)[outside], error(covered)[outside]
    lost = float(10 * torch.log10(after.mean() / before.mean()))
    assert lost < 1.0, "3.7 dB where neighbours were pulled along"
    assert bool(torch.isfinite(covered).all()) and float((covered / scale).abs().max()) <= 8.0 + 0.01


def test_profile_turns_stay_within_what_the_flow_knows() -> None:
    pack = tiny_pack()
    target = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    measured = torch.tensor([[70.0, 0.0], [85.0, -50.0], [-90.0, 40.0]])
    pose = fit_pose(PoseProblem(avatar(), pack.perceptual, target, measured, areas()), PoseOptions())
    assert bool(torch.isfinite(pose.angles).all())
    assert float(pose.angles.abs().max()) <= pack.flow.pose.limit
    assert bool((pose.loss <= pose.initial_loss + 1e-6).all())


def test_the_report_names_covered_frames() -> None:
    """Both ways in: a region of the crops that S_t does not explain, and a stage 5 that ended badly."""
    random = np.random.RandomState(0)
    made = torch.from_numpy(random.uniform(-0.5, 0.5, (FRAMES, 3, 64, 64)).astype(np.float32))
    crops = to_bytes(made + 0.1 * torch.from_numpy(random.normal(size=made.shape).astype(np.float32)))
    loss = torch.full((FRAMES,), 0.01) + 0.001 * torch.from_numpy(random.rand(FRAMES))
    assert unreliable_frames(loss, region_errors(crops, made, areas(FRAMES))) == []
    crops[COVERED, 40:56, 20:44] = 255
    loss[20] = 0.1
    assert unreliable_frames(loss, region_errors(crops, made, areas(FRAMES))) == [9, 10, 11, 12, 20]


def test_the_warm_start_of_many_frames_is_that_of_each() -> None:
    person, angles = avatar(), torch.linspace(-8, 8, 2 * FRAMES).view(FRAMES, 2)
    w_plus = tiny_pack().people[torch.arange(FRAMES) % len(tiny_pack().people)]
    found = warm_start(person, w_plus, angles)
    for t in (0, FRAMES - 1):
        with torch.no_grad():
            there = person.read(person.generator.styles(w_plus[t : t + 1]))
            here = person.read(person.generator.styles(person.latents(angles[t : t + 1])))
        torch.testing.assert_close(found[t : t + 1], there - here, rtol=1e-4, atol=1e-4)
