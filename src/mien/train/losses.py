"""Losses of the autoencoder's renders beside the perceptual one: pixels, eyes and an adversary."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.face.masks import CLASSES


def sum_of(losses: Iterable[Tensor]) -> Tensor:
    """The sum of at least one loss."""
    return reduce(add, losses)


def attention(label: Tensor, valid: Tensor, size: int) -> Tensor:
    """Weight of each pixel `[N, 1, size, size]`: lowest for the background, highest for eyes and lips, 0 if invalid."""
    per_class = valid.new_tensor([0.6, 1.0, 2.0, 4.0, 4.0, 1.0, 3.0, 3.0])
    weight = per_class[label][:, None]
    weight = F.avg_pool2d(weight, 5, 1, 2, count_include_pad=False)
    weight = F.interpolate(weight, (size, size), mode="area" if size < 128 else "bilinear")
    return weight * (F.interpolate(valid, (size, size), mode="bilinear") > 0.98)


def pixel_loss(x: Tensor, y: Tensor, weight: Tensor, levels: int = 4) -> Tensor:
    """L1 of pixels and of horizontal and vertical gradients over a pyramid, weighted, a scalar."""
    total = x.new_zeros(())
    for level in range(levels):
        d = (x - y) * weight
        total = total + d.abs().mean()
        total = total + (d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean())
        if level < levels - 1:
            x, y, weight = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2), F.avg_pool2d(weight, 2)
    return total / levels


def eye_loss(x: Tensor, y: Tensor, label: Tensor) -> Tensor:
    """L1 of pixels and gradients in and around the eyes, a scalar; they are a hundredth of an image's area.

    `x`, `y` `[N, 3, S, S]`, `label [N, 128, 128]`.
    """
    eyes = ((label == CLASSES.index("eyes")) | (label == CLASSES.index("irises"))).float()[:, None]
    mask = F.interpolate(F.max_pool2d(eyes, 7, 1, 3), x.shape[-2:], mode="area" if x.shape[-1] < 128 else "bilinear")
    d = (x - y) * mask
    apart = d.abs().sum((1, 2, 3)) + d.diff(dim=2).abs().sum((1, 2, 3)) + d.diff(dim=3).abs().sum((1, 2, 3))
    return (apart / (3 * mask.sum((1, 2, 3))).clamp_min(1)).mean()


class PatchDiscriminator(nn.Module):
    """A patch discriminator at two scales: hinge loss on texture, not on layout."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.nets = nn.ModuleList()
        for _ in range(2):
            layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            for a, b in ((width, 2 * width), (2 * width, 4 * width)):
                layers += [nn.Conv2d(a, b, 4, 2, 1), nn.GroupNorm(8, b), nn.LeakyReLU(0.2)]
            layers += [nn.Conv2d(4 * width, 1, 3, 1, 1)]
            self.nets.append(nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.nets[0](x), self.nets[1](F.avg_pool2d(x, 2))]


def balance(losses: dict[str, Tensor], judged: Tensor, fake: Tensor) -> Tensor:
    """Factor of the adversary's loss at which its gradient at the renders is as long as that of the pixel losses."""
    pixels = sum_of(losses[k] for k in ("rec", "pair", "detail") if k in losses)
    norm = lambda loss: torch.autograd.grad(loss, fake, retain_graph=True)[0].norm()
    return norm(pixels) / norm(judged).clamp_min(1e-8)
