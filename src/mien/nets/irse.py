"""IR-SE50 and IR-101: the residual backbones of ArcFace, e4e, ReStyle and CurricularFace (Deng et al. 2019).

24 or 49 units in four groups of widths 64, 128, 256 and 512, each group halving the size. Parameter names are those of
the official checkpoints, so that their state dicts load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

Units = tuple[tuple[int, int], ...]  # (width, units) of each group
UNITS: Units = ((64, 3), (128, 4), (256, 14), (512, 3))  # IR-SE50
UNITS_101: Units = ((64, 3), (128, 13), (256, 30), (512, 3))


def units_of(widths: Sequence[int]) -> Units:
    """The groups of a trunk whose units have these widths, in order."""
    return tuple((width, len(list(group))) for width, group in groupby(widths))


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate in (0, 1) computed from all channels' means."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(width // reduction, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(gate))


class ResidualUnit(nn.Module):
    """One residual unit `[N, in, H, W] -> [N, out, H / stride, W / stride]`."""

    def __init__(self, in_width: int, width: int, stride: int, squeeze: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer: nn.Module | None = None
        if in_width != width:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_width),
            nn.Conv2d(in_width, width, 3, padding=1, bias=False),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            *([SqueezeExcitation(width)] if squeeze else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut_layer is not None:
            shortcut = self.shortcut_layer(x)
        else:
            shortcut = x[:, :, :: self.stride, :: self.stride]
        return self.res_layer(x) + shortcut


def input_layer(channels: int, width: int = 64) -> nn.Sequential:
    """The stem: `[N, channels, H, W] -> [N, width, H, W]`."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))


def body(groups: Units = UNITS, squeeze: bool = True) -> nn.Sequential:
    """All units, with squeeze-and-excitation or without: `[N, C, H, W] -> [N, D, H / 16, W / 16]`, C and D the widths
    of the first and the last group."""
    units: list[nn.Module] = []
    width = groups[0][0]
    for group_width, count in groups:
        for i in range(count):
            units.append(ResidualUnit(width, group_width, 2 if i == 0 else 1, squeeze))
            width = group_width
    return nn.Sequential(*units)
