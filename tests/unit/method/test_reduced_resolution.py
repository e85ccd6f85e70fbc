"""Small renders for the losses: the sum so far where it is a picture, else the finished picture averaged down."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from factories.packs import tiny_pack
from mien.method.reduced_resolution import as_seen


def test_sums_that_are_no_pictures_are_not_looked_at() -> None:
    pack = tiny_pack()
    seen = as_seen(pack.generator, pack.people, sizes=(16, 32))
    assert seen.through == {16: 64, 32: 64}  # random weights: every block changes everything
    wanted = F.interpolate(pack.generator.synthesis(pack.people), (32, 32), mode="area")
    torch.testing.assert_close(seen.synthesis(pack.people, 32), wanted)
    torch.testing.assert_close(seen.synthesis(pack.people), pack.generator.synthesis(pack.people))


def test_sums_that_are_pictures_are_cheap() -> None:
    pack = tiny_pack()
    last = pack.generator.blocks[-1]
    with torch.no_grad():
        last.conv.weight.zero_()
        last.bias.zero_()
        for block, layer in zip(pack.generator.blocks, pack.generator.layers, strict=True):
            if layer.to_rgb and layer.resolution > 16:
                block.conv.weight.mul_(1e-3)
    seen = as_seen(pack.generator, pack.people, sizes=(32,))
    assert seen.through == {32: 32}
    torch.testing.assert_close(seen.synthesis(pack.people, 32), pack.generator.synthesis(pack.people, 32))


def test_it_shares_its_weights_and_takes_fewer_frames_where_pictures_are_large() -> None:
    pack = tiny_pack()
    seen = as_seen(pack.generator, pack.people)
    assert seen.const is pack.generator.const and seen.through == {64: 64, 128: 128}
    seen.through, seen.resolution = {128: 1024}, 1024
    assert seen.frames_at_once(16, 128) == 1
    seen.through = {128: 128}
    assert seen.frames_at_once(16, 128) == 16
    assert pack.generator.resolution == 64
