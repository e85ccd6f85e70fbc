"""The losses of tuning."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mien.personalize.losses import texture_loss


def test_texture_asks_how_strong_edges_are_and_not_where() -> None:
    random = torch.Generator().manual_seed(0)
    hair = torch.randn(1, 3, 1, 80, generator=random).expand(-1, -1, 64, -1) * 0.2  # strands from top to bottom
    here, beside = hair[..., 8:72], hair[..., 9:73]
    soft = F.avg_pool2d(here, (1, 9), 1, (0, 4))
    dots = torch.randn(1, 3, 64, 64, generator=random) * 0.2
    weight = torch.ones(1, 1, 16, 16)
    far = {
        name: float(texture_loss(x, here, weight)) for name, x in {"beside": beside, "soft": soft, "dots": dots}.items()
    }
    assert float(texture_loss(here, here, weight)) == 0.0
    assert far["beside"] < 0.4 * far["soft"], "moved by a pixel is nearer than blurred, which pixel losses turn round"
    assert float((beside - here).abs().mean()) > float((soft - here).abs().mean())
    assert far["dots"] > 2 * far["beside"], "dots are no strands"
    assert float(texture_loss(soft, here, torch.zeros(1, 1, 16, 16))) == 0.0
