"""The pivot, optimised: the difference brings renders nearer, the same every time, and moves an encoder by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mien.media.images import to_bytes
from mien.method.pivot import PivotOptions, moved_encoder, optimise_pivot, pivot_of_clip
from mien.method.stage2_invert import invert
from mien.packs.pack import Pack

OPTIONS = PivotOptions(steps=25, rate=0.1, size=64, frames=3)


def crops_of(pack: Pack, shift: float) -> np.ndarray:
    """Three pictures of one person, who is `shift` away from the first of the pack's people."""
    random = torch.Generator().manual_seed(0)
    person = pack.people[:1] + shift * torch.randn(1, *pack.people.shape[1:], generator=random)
    with torch.no_grad():
        frames = person + 0.05 * torch.randn(3, *pack.people.shape[1:], generator=random)
        return np.asarray(to_bytes(pack.generator.synthesis(frames)))


def distance(pack: Pack, w_plus: torch.Tensor, crops: np.ndarray) -> float:
    with torch.no_grad():
        return float(np.abs(to_bytes(pack.generator.synthesis(w_plus)).astype(float) - crops).mean())


def test_one_difference_brings_all_frames_of_a_person_nearer(pack: Pack) -> None:
    crops = crops_of(pack, 0.5)
    before = invert(pack.encoder, crops)
    offset = optimise_pivot(pack, pack.generator, before, crops, OPTIONS)
    assert offset.shape == before.shape[1:] and not offset.requires_grad
    assert distance(pack, before + offset, crops) < 0.9 * distance(pack, before, crops)
    assert torch.equal(offset, optimise_pivot(pack, pack.generator, before, crops, OPTIONS))
    held = optimise_pivot(pack, pack.generator, before, crops, replace(OPTIONS, hold=100.0))
    assert held.norm() < 0.5 * offset.norm()


def test_an_encoder_that_was_moved_answers_so_much_further(pack: Pack) -> None:
    crops = crops_of(pack, 0.5)
    found = pivot_of_clip(pack, pack.generator, pack.encoder, crops, OPTIONS).w_plus
    moved = moved_encoder(pack.encoder, found)
    assert torch.allclose(invert(moved, crops), invert(pack.encoder, crops) + found, atol=1e-5)
