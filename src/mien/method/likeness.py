"""How far pictures are from the faces that they are to show: a loss for latents and for encoders."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.nets.perceptual import distance_maps
from mien.packs.pack import Pack

PYRAMID = (1, 2, 4, 8)  # pixels that are averaged before pictures are compared
DISTANCE_SIZE = 32  # side of the maps of perceptual distance


@dataclass(frozen=True)
class LikenessWeights:
    """Weights, for images in [-1, 1]: of the mean absolute difference over a pyramid, of the perceptual distance, of one
    less the identity's cosine, and of landmarks (in sides of the picture)."""

    pixels: float = 1.0
    perceptual: float = 0.3
    identity: float = 0.5
    landmarks: float = 4.0


class LikenessLoss:
    """How far pictures are from `target [N, 3, S, S]`, by the networks of `pack`; terms whose network it lacks are left
    out."""

    def __init__(self, pack: Pack, target: Tensor, weights: LikenessWeights) -> None:
        self._perceptual, self._identity = pack.perceptual, pack.networks.get("identity")
        self._target, self._weights = target, weights
        with torch.no_grad():
            self._seen = self._perceptual.analyse(target, landmarks=True)
            self._person = None if self._identity is None else self._identity(target)

    def __call__(self, made: Tensor) -> Tensor:
        """The mean over pictures `made [N, 3, S, S]`."""
        weights, target = self._weights, self._target
        pixels = [(F.avg_pool2d(made, k) - F.avg_pool2d(target, k)).abs().mean() for k in PYRAMID]
        shown = self._perceptual.analyse(made, landmarks=True)
        distance = distance_maps(shown.features, self._seen.features, DISTANCE_SIZE).mean()
        loss = weights.pixels * torch.stack(pixels).mean() + weights.perceptual * distance
        if shown.landmarks is not None and self._seen.landmarks is not None:
            loss = loss + weights.landmarks * (shown.landmarks - self._seen.landmarks).abs().mean()
        if self._identity is not None and self._person is not None:
            loss = loss + weights.identity * (1 - F.cosine_similarity(self._identity(made), self._person)).mean()
        return loss
