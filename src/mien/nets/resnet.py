"""Residual blocks (He et al. 2016): ResNet's, whose tensors have the names of the public checkpoints, and a plain one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets.convolution import Conv3x3

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for RGB in [0, 1]


class LeakyResidual(nn.Module):
    """`[N, width, H, W] -> [N, width, H, W]`: two 3x3 convolutions and a shortcut, leaky ReLU of `slope`, no norm."""

    def __init__(self, width: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.a = Conv3x3(width, width)
        self.b = Conv3x3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + 0.5 * self.b(F.leaky_relu(self.a(x), self.slope)), self.slope)


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    EXPANSION = 1

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_width, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which has the stride) and 1x1, to four times the width, and a shortcut."""

    EXPANSION = 4

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(in_width, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(in_width: int, width: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_width == width:
        return None
    return nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width))


def layers(block: type[Basic | Bottleneck], counts: tuple[int, int, int, int]) -> list[nn.Module]:
    """Stem (convolution, norm, ReLU, pooling) and the four stages, `[N, 3, H, W] -> [N, 512 * expansion, H/32,
    W/32]`."""
    found: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    found.append(nn.MaxPool2d(3, 2, 1))
    width = 64
    for i, count in enumerate(counts):
        stage = []
        for j in range(count):
            stage.append(block(width, 64 * 2**i, 2 if i and not j else 1))
            width = 64 * 2**i * block.EXPANSION
        found.append(nn.Sequential(*stage))
    return found


def normalise(images: Tensor) -> Tensor:
    """Images in [-1, 1] as networks that were trained on ImageNet take them."""
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (MEAN, STD))
    return ((images + 1) / 2 - mean) / std
