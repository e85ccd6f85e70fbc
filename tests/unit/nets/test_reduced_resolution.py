"""Small pictures for the losses: the sum so far where it is a picture, else the finished picture averaged down."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from factories.packs import tiny_pack
from mien.nets.generator import measured_rgb_valid_from


def test_sums_that_are_no_pictures_are_not_looked_at() -> None:
    pack = tiny_pack()
    generator = pack.generator
    assert measured_rgb_valid_from(generator, pack.people[:4]) == generator.resolution  # random weights
    styles = generator.styles(pack.people)
    wanted = F.interpolate(generator.synthesis(pack.people), (32, 32), mode="area")
    torch.testing.assert_close(generator.picture(styles, 32), wanted)
    torch.testing.assert_close(generator.picture(styles, 1024), generator.synthesis(pack.people))


def test_sums_that_are_pictures_are_cheap() -> None:
    pack = tiny_pack()
    generator = pack.generator
    with torch.no_grad():
        for block, layer in zip(generator.blocks, generator.layers, strict=True):
            if layer.to_rgb and layer.resolution > 16:
                block.conv.weight.mul_(1e-4)
                block.bias.zero_()
    generator.rgb_valid_from = measured_rgb_valid_from(generator, pack.people[:4], lowest=16)
    assert generator.rgb_valid_from == 16
    styles = generator.styles(pack.people)
    torch.testing.assert_close(generator.picture(styles, 32), generator.synthesis(pack.people, 32))


def test_it_takes_fewer_frames_where_pictures_are_large() -> None:
    generator = tiny_pack().generator
    assert generator.frames_at_once(16, 128) == 16
    generator.resolution = generator.rgb_valid_from = 1024
    assert generator.frames_at_once(16, 128) == 1
    generator.rgb_valid_from = 128
    assert generator.frames_at_once(16, 128) == 16
    assert generator.frames_at_once(16, 1024) == 1


def test_a_generator_is_used_at_its_own_sizes_only() -> None:
    generator = tiny_pack().generator
    assert generator.at(64) is generator
    with pytest.raises(ValueError, match="draws 64, not 32"):
        generator.at(32)
