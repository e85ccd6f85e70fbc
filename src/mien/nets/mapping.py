"""StyleGAN2's mapping network: normal noise to latents of W. Packs made from official checkpoints carry it.

`mien` encodes real faces and needs no random ones; sampling people serves to measure StyleSpace (units of channels,
index sensitivities) and to draw sample sheets.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEARNING_RATE_MULTIPLIER = 0.01


class Mapping(nn.Module):
    """`z [N, dim]`, standard normal -> `w [N, dim]`. `w_mean` is the centre of W that truncation pulls towards."""

    w_mean: Tensor

    def __init__(self, dim: int = 512, layers: int = 8) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(dim, dim) / LEARNING_RATE_MULTIPLIER for _ in range(layers))
        self.biases = nn.ParameterList(torch.zeros(dim) for _ in range(layers))
        self.register_buffer("w_mean", torch.zeros(dim))
        self.scale = LEARNING_RATE_MULTIPLIER / math.sqrt(dim)

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """`truncation` in [0, 1]: 1 leaves the samples, 0 makes all of them the mean."""
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = F.leaky_relu(F.linear(x, weight * self.scale, bias * LEARNING_RATE_MULTIPLIER), 0.2) * math.sqrt(2)
        return torch.lerp(self.w_mean, x, truncation)
