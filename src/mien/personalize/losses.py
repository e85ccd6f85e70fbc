"""The losses of personalisation: pyramid, features, locality."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.nets.generator import Generator
from mien.nets.perceptual import PerceptualNetwork
from mien.personalize.options import PivotLocalityOptions

LOCALITY_SIZE = 256  # pixels at which PTI's locality compares


def pyramid_loss(x: Tensor, y: Tensor, weight: Tensor, levels: int = 3) -> Tensor:
    """L1 and gradient L1 over a pyramid plus L2, weighted `[N, 1, h, w]`; a scalar."""
    weight = F.interpolate(weight, x.shape[-2:], mode="bilinear") if weight.shape[-1] != x.shape[-1] else weight
    total = ((x - y) * weight).square().mean() * 2
    for level in range(levels):
        d = (x - y) * weight
        total = total + (d.abs().mean() + d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()) / levels
        if level < levels - 1:
            x, y, weight = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2), F.avg_pool2d(weight, 2)
    return total


def feature_loss(seen: list[Tensor], wanted: list[Tensor], weight: Tensor) -> Tensor:
    """Mean weighted difference of two lists of the perceptual network's maps, a scalar."""
    total = weight.new_zeros(())
    for f, g in zip(seen, wanted, strict=True):
        mask = F.interpolate(weight, f.shape[-2:], mode="area")
        total = total + ((f - g).square().sum(1, keepdim=True) * mask).mean()
    return total


def pivot_locality_loss(
    generator: Generator, original: Generator, perceptual: PerceptualNetwork, pivot: Tensor, other: Tensor,
    options: PivotLocalityOptions,
) -> Tensor:  # fmt: skip
    """PTI's locality regularisation (Roich et al. 2021, Eq. 4 to 6): both generators at a latent `options.distance`
    away from the `pivot [L, D]` towards an `other [L, D]` (at the other, where that is nearer), compared by L2 and
    perceptual distance."""
    toward = other - pivot
    share = (options.distance / toward.norm().clamp_min(1e-6)).clamp_max(1.0)
    latents = (pivot + share * toward)[None]
    size = min(LOCALITY_SIZE, original.resolution)
    with torch.no_grad():
        wanted = original.picture(original.styles(latents), size)
        wanted_maps = perceptual.features(wanted)
    image = generator.picture(generator.styles(latents), size)
    l2 = (image - wanted).square().mean()
    distance = feature_loss(perceptual.features(image), wanted_maps, image.new_ones(1, 1, size, size))
    return options.l2 * l2 + options.perceptual * distance


def resized(mask: Tensor, size: int) -> Tensor:
    if size < mask.shape[-1]:
        return F.interpolate(mask, (size, size), mode="area")[0, 0]
    return F.interpolate(mask, (size, size), mode="bilinear")[0, 0]
