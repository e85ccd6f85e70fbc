"""I3D (Carreira & Zisserman 2017) of Kinetics-400, the network behind the Frechet Video Distance: clips to 400 logits.

Padding is TensorFlow's "same", which puts the odd pixel behind. Names of tensors are those of the public port of the
weights (`rgb_imagenet.pt`, `i3d_pretrained_400.pt`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 224
LOGITS = 400

Triple = tuple[int, int, int]  # time, height, width

# Widths of a mixed block: 1x1x1; reduction and 3x3x3; reduction and 3x3x3; after the pooling.
_MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Poolings (kernel, stride) before the blocks of these names.
_POOLS: dict[str, tuple[Triple, Triple]] = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Zeros around `[N, C, T, H, W]` so that the result is the input's size over the stride, rounded up."""
    sides: list[int] = []
    for size, window, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        lacking = max((-(-size // step) - 1) * step + window - size, 0)
        sides += [lacking // 2, lacking - lacking // 2]
    return F.pad(x, sides)


class ConvUnit3D(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, width_in: int, width: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel: Triple = (kernel,) * 3
        self.stride: Triple = (stride,) * 3
        self.conv3d = nn.Conv3d(width_in, width, self.kernel, self.stride, bias=False)
        self.bn = nn.BatchNorm3d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))))


class MixedBlock(nn.Module):
    """Four branches beside each other."""

    def __init__(self, width: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce_a, three_a, reduce_b, three_b, pooled = widths
        self.b0 = ConvUnit3D(width, one)
        self.b1a, self.b1b = ConvUnit3D(width, reduce_a), ConvUnit3D(reduce_a, three_a, 3)
        self.b2a, self.b2b = ConvUnit3D(width, reduce_b), ConvUnit3D(reduce_b, three_b, 3)
        self.b3b = ConvUnit3D(width, pooled)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool3d(pad_same(x, (3, 3, 3), (1, 1, 1)), 3, 1)
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class Logits(nn.Module):
    """A 1x1x1 convolution with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, LOGITS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


class I3D(nn.Module):
    """Clips `[N, 3, T, 224, 224]` in [-1, 1], T of 9 or more -> logits `[N, 400]`, averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = ConvUnit3D(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = ConvUnit3D(64, 64)
        self.Conv3d_2c_3x3 = ConvUnit3D(64, 192, 3)
        width = 192
        for name, widths in _MIXED.items():
            self.add_module(name, MixedBlock(width, widths))
            width = widths[0] + widths[2] + widths[4] + widths[5]
        self.logits = Logits()

    def forward(self, clips: Tensor) -> Tensor:
        x = clips
        for name, module in self.named_children():
            if name in _POOLS:
                kernel, stride = _POOLS[name]
                x = F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)
            x = module(F.avg_pool3d(x, (2, 7, 7), 1) if name == "logits" else x)
        return x.mean((2, 3, 4))
