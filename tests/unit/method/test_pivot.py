"""The pivot of an image, optimised: it is drawn nearer to the image, the same every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mien.media.images import to_bytes
from mien.method.pivot import PivotOptions, optimise_pivot
from mien.method.stage2_invert import invert
from mien.packs.pack import Pack

OPTIONS = PivotOptions(steps=25, size=64)


def distance(pack: Pack, w_plus: torch.Tensor, crop: np.ndarray) -> float:
    with torch.no_grad():
        return float(np.abs(to_bytes(pack.generator.synthesis(w_plus)).astype(float) - crop).mean())


def test_an_optimised_pivot_is_drawn_nearer_to_the_image(pack: Pack) -> None:
    random = torch.Generator().manual_seed(0)
    person = pack.people[:1] + 0.5 * torch.randn(1, *pack.people.shape[1:], generator=random)
    with torch.no_grad():
        crop = np.asarray(to_bytes(pack.generator.synthesis(person)))
    before = invert(pack.encoder, crop)
    found = optimise_pivot(pack, before, crop, OPTIONS)
    assert found.shape == before.shape and not found.requires_grad
    assert distance(pack, found, crop) < 0.9 * distance(pack, before, crop)
    assert torch.equal(found, optimise_pivot(pack, before, crop, OPTIONS))
    held = optimise_pivot(pack, before, crop, replace(OPTIONS, hold=100.0))
    assert (held - before).norm() < 0.5 * (found - before).norm()
