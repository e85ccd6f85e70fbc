"""The embedded pack's encoder into W+: e4e's idea (Tov et al. 2021), one base code and small offsets a row.

Coarse rows read 4x4 features, middle rows 8x8, fine rows 16x16, as the feature pyramid of pSp and e4e does, at a
size that a laptop's CPU runs at hundreds of frames a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets.convolution import Conv3x3
from mien.nets.resnet import LeakyResidual

INPUT_SIZE = 128


@dataclass(frozen=True)
class EncoderConfig:
    """Width of the encoder's first feature map, and the W+ that it writes.

    `coarse`, `middle`: how many rows, from the first, are read from 4x4 and then from 8x8 features; the rest from
    16x16.
    """

    num_ws: int
    w_dim: int
    width: int = 32
    coarse: int = 4
    middle: int = 4


class _Head(nn.Module):
    """A feature map to some rows of W+: squeeze the channels, keep the places, two linear layers."""

    def __init__(self, channels: int, squeeze: int, side: int, hidden: int, rows: int, w_dim: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.hidden = nn.Linear(squeeze * side * side, hidden)
        self.out = nn.Linear(hidden, rows * w_dim)
        self.rows, self.w_dim = rows, w_dim

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.hidden(F.leaky_relu(self.squeeze(x), 0.2).flatten(1)), 0.2)
        return self.out(x).float().view(-1, self.rows, self.w_dim)


class Encoder(nn.Module):
    """Images `[N, 3, H, W]` in [-1, 1] -> `w_plus [N, num_ws, w_dim]`; any size is resampled to 128x128 first."""

    w_mean: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        widths = (w, 2 * w, 4 * w, 8 * w, 8 * w)  # at 64, 32, 16, 8 and 4 pixels a side
        self.stem = nn.Conv2d(3, widths[0], 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(LeakyResidual(x, 0.2) for x in widths)
        self.down = nn.ModuleList(Conv3x3(a, b, stride=2) for a, b in pairwise(widths))
        fine = config.num_ws - config.coarse - config.middle
        self.coarse = _Head(widths[4], widths[4], 4, 16 * w, 1 + config.coarse, config.w_dim)
        self.middle = _Head(widths[3], 48, 8, 12 * w, config.middle, config.w_dim)
        self.fine = _Head(widths[2], 16, 16, 12 * w, fine, config.w_dim)
        self.register_buffer("w_mean", torch.zeros(config.num_ws, config.w_dim))

    def split(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The base code `[N, w_dim]` and the offsets `[N, num_ws, w_dim]` of e4e."""
        if image.shape[-1] != INPUT_SIZE:
            mode = {"mode": "area"} if image.shape[-1] > INPUT_SIZE else {"mode": "bilinear", "align_corners": False}
            image = F.interpolate(image, (INPUT_SIZE, INPUT_SIZE), **mode)
        x = self.blocks[0](F.leaky_relu(self.stem(image), 0.2))
        maps = []
        for down, block in zip(self.down, self.blocks[1:], strict=True):
            x = block(F.leaky_relu(down(x), 0.2))
            maps.append(x)
        coarse = self.coarse(maps[3])
        offsets = torch.cat([coarse[:, 1:], self.middle(maps[2]), self.fine(maps[1])], dim=1)
        return coarse[:, 0], offsets

    def forward(self, image: Tensor) -> Tensor:
        base, offsets = self.split(image)
        return self.w_mean + base[:, None] + offsets
