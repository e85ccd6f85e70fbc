"""Refinement draws what it gives back: a tiny random pack, seconds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from factories.packs import tiny_pack
from mien.method.avatar import Avatar
from mien.personalize import joint_refinement
from mien.personalize.generator_params import weights_for
from mien.personalize.joint_refinement import refine
from mien.personalize.options import RefinementOptions
from mien.personalize.training_data import TrainingData


def test_angles_are_drawn_within_the_flows_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pack, random = tiny_pack(), np.random.RandomState(0)
    drawn: list[Tensor] = []

    class Noting(Avatar):
        def styles(self, angles: Tensor, alpha: Tensor) -> list[Tensor]:
            drawn.append(angles.detach())
            return super().styles(angles, alpha)

    monkeypatch.setattr(joint_refinement, "Avatar", Noting)
    crops = random.randint(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    data = TrainingData.of(pack, crops, random.rand(4, 478, 2).astype(np.float32) * 64)
    limit = pack.flow.pose.limit
    found = refine(
        weights_for(pack.generator, None), data, pack.people[0], torch.full((4, 2), limit), torch.zeros(4, 32), None,
        RefinementOptions(steps=3, passes=0.0, angle_rate=20.0),
    )  # fmt: skip
    assert len(drawn) == 3 and all(float(angles.abs().max()) <= limit for angles in drawn)
    assert float(found.angles.abs().max()) <= limit
