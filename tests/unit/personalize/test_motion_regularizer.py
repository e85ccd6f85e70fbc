"""Motion locality: a tuned generator has to go on moving as the pack's does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from factories.packs import tiny_pack
from mien.face import mesh as lm
from mien.packs.pack import Pack
from mien.personalize.motion_regularizer import EVERY, MotionRegularizer
from mien.personalize.training_data import TrainingData
from tolerances import FLOAT32_EXACT

TURN = EVERY // 2


@pytest.fixture
def data() -> TrainingData:
    pack = tiny_pack()
    landmarks = (lm.canonical_face()[None, :, :2] * 15 + [32, 30]).astype(np.float32)
    return TrainingData.of(pack, np.zeros((1, 64, 64, 3), np.uint8), landmarks)


def test_a_generator_that_moves_as_before_pays_nothing_and_another_one_does(data: TrainingData) -> None:
    identity = data.others[0]
    motion = MotionRegularizer(data, identity, 5.0, 0)
    before = motion(data.original, identity, TURN)
    assert before is not None and float(before) == pytest.approx(0, abs=1e-6)
    changed = copy.deepcopy(data.original)
    with torch.no_grad():
        for layer, block in zip(changed.layers, changed.blocks, strict=True):
            if not layer.to_rgb:
                block.conv.weight += 0.5 * torch.randn_like(block.conv.weight)
    after = motion(changed, identity, TURN)
    assert after is not None and float(after) > 1e-4
    assert float(motion(changed, identity, TURN)) == float(after), "the same numbers for the same step"
    assert float(motion(changed, identity, TURN + EVERY)) != float(after), "others for another"


def test_another_look_that_moves_alike_pays_nothing(data: TrainingData) -> None:
    identity = data.others[0]
    motion = MotionRegularizer(data, identity, 5.0, 0)
    lighter = copy.deepcopy(data.original)
    with torch.no_grad():
        for layer, block in zip(lighter.layers, lighter.blocks, strict=True):
            if layer.to_rgb:
                block.bias += 0.3
    assert float(motion(lighter, identity, TURN)) == pytest.approx(0, abs=FLOAT32_EXACT)


def test_mini_is_compared_in_pictures_not_in_sums(mini: Pack) -> None:
    with torch.no_grad():
        small = mini.generator.picture(mini.generator.styles(mini.people[:2]), 32)
        whole = F.interpolate(mini.generator.synthesis(mini.people[:2]), (32, 32), mode="area")
    assert float(10 * torch.log10(4 / (small - whole).square().mean())) > 28


def test_it_takes_its_turn_and_can_be_left_out(data: TrainingData) -> None:
    identity = data.others[0]
    motion = MotionRegularizer(data, identity, 5.0, 0)
    assert [motion(data.original, identity, n) is not None for n in range(EVERY)].count(True) == 1
    assert MotionRegularizer(data, identity, 0.0, 0)(data.original, identity, TURN) is None
