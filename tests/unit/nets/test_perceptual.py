"""What a pack's networks make of an image: capabilities, and one pass where networks are one."""

from __future__ import annotations

import torch

from factories.packs import tiny_pack
from mien.nets.lpips import LPIPS
from mien.packs.pack import Pack, StageSizes


def test_landmarks_are_read_beside_lpips_too() -> None:
    tiny = tiny_pack()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lpips, images = LPIPS("alex").eval(), torch.rand(2, 3, 64, 64) * 2 - 1
    pack = Pack("with lpips", {**tiny.networks, "lpips_alex": lpips}, tiny.configs, tiny.channels)
    seen = pack.perceptual.analyse(images, pack.parser, landmarks=True)
    logits, landmarks = pack.parser(images)
    assert seen.landmarks is not None and seen.logits is not None
    torch.testing.assert_close(seen.landmarks, landmarks)
    torch.testing.assert_close(seen.logits, logits)
    for found, wanted in zip(seen.features, lpips.features(images), strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_pack_says_what_it_can_do(tmp_path) -> None:
    pack = tiny_pack()
    assert pack.landmark_reader is pack.parser and pack.channels_absolute
    pack.channels_absolute, pack.stage_sizes = False, StageSizes(pose=32)
    pack.save(tmp_path / "relative.safetensors")
    loaded = Pack.load(tmp_path / "relative.safetensors")
    assert (loaded.channels_absolute, loaded.stage_sizes.pose) == (False, 32)
    pack.networks["parser"] = torch.nn.Identity()
    assert pack.landmark_reader is None
