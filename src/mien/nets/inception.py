"""Inception v3 as the Frechet Inception Distance uses it (Heusel et al. 2017): images to 2048 features.

The network of 2015 that FID is defined by differs from the common Inception v3 in its poolings: averages leave the
padding out, and the last block takes a maximum. Names of tensors are those of the public port of its weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 299

Kernel = int | tuple[int, int]
# A branch is its steps in order. A step is (name, width, kernel), padded to keep the size; a kernel below 0 goes by
# two without padding; two steps in brackets stand beside each other at the branch's end.
Step = tuple[str, int, Kernel]
Branch = list[Step | list[Step]]


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, width_in: int, width: int, kernel: Kernel, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        height, breadth = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, breadth // 2) if padded else 0
        self.conv = nn.Conv2d(width_in, width, (height, breadth), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches beside each other, the last of them a pooling: "mean", "max", or "half" (maximum by two, no more)."""

    def __init__(self, width: int, pooling: str, pooled: int, branches: list[Branch]) -> None:
        super().__init__()
        self.pooling = pooling
        self.names: list[list[str | list[str]]] = []
        self.width = 0
        for branch in branches:
            names: list[str | list[str]] = []
            here = width
            for step in branch:
                steps = step if isinstance(step, list) else [step]
                for name, out, kernel in steps:
                    by_two = isinstance(kernel, int) and kernel < 0
                    size = abs(kernel) if isinstance(kernel, int) else kernel
                    self.add_module(name, ConvNorm(here, out, size, 2 if by_two else 1, not by_two))
                names.append([s[0] for s in steps] if isinstance(step, list) else step[0])
                here = sum(s[1] for s in steps)
            self.names.append(names)
            self.width += here
        if pooled:
            self.branch_pool = ConvNorm(width, pooled, 1)
        self.width += pooled or width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(self._branch(x, names) for names in self.names), self._pool(x)], dim=1)

    def _branch(self, x: Tensor, names: list[str | list[str]]) -> Tensor:
        for name in names:
            if isinstance(name, list):
                x = torch.cat([self.get_submodule(one)(x) for one in name], dim=1)
            else:
                x = self.get_submodule(name)(x)
        return x

    def _pool(self, x: Tensor) -> Tensor:
        if self.pooling == "half":
            return F.max_pool2d(x, 3, 2)
        if self.pooling == "max":
            return self.branch_pool(F.max_pool2d(x, 3, 1, 1))
        return self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def _block_35(width: int, pooled: int) -> Mixed:
    double: Branch = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]
    five: Branch = [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)]
    return Mixed(width, "mean", pooled, [[("branch1x1", 64, 1)], five, double])


def _to_17(width: int) -> Mixed:
    double: Branch = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, -3)]
    return Mixed(width, "half", 0, [[("branch3x3", 384, -3)], double])


def _block_17(width: int, inner: int) -> Mixed:
    seven: Branch = [("branch7x7_1", inner, 1), ("branch7x7_2", inner, (1, 7)), ("branch7x7_3", 192, (7, 1))]
    double: Branch = [("branch7x7dbl_1", inner, 1)]
    double += [(f"branch7x7dbl_{i}", 192 if i == 5 else inner, (1, 7) if i % 2 else (7, 1)) for i in (2, 3, 4, 5)]
    return Mixed(width, "mean", 192, [[("branch1x1", 192, 1)], seven, double])


def _to_8(width: int) -> Mixed:
    seven: Branch = [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1))]
    seven += [("branch7x7x3_4", 192, -3)]
    return Mixed(width, "half", 0, [[("branch3x3_1", 192, 1), ("branch3x3_2", 320, -3)], seven])


def _block_8(width: int, pooling: str) -> Mixed:
    three: Branch = [("branch3x3_1", 384, 1), [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))]]
    double: Branch = [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3)]
    double += [[("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))]]
    return Mixed(width, pooling, 192, [[("branch1x1", 320, 1)], three, double])


class Inception(nn.Module):
    """Images `[N, 3, H, W]` in [-1, 1] -> features `[N, 2048]`; they are brought to 299x299 first (bilinear)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, 2, padded=False)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3, padded=False)
        self.Mixed_5b = _block_35(192, 32)
        self.Mixed_5c = _block_35(256, 64)
        self.Mixed_5d = _block_35(288, 64)
        self.Mixed_6a = _to_17(288)
        self.Mixed_6b = _block_17(768, 128)
        self.Mixed_6c = _block_17(768, 160)
        self.Mixed_6d = _block_17(768, 160)
        self.Mixed_6e = _block_17(768, 192)
        self.Mixed_7a = _to_8(768)
        self.Mixed_7b = _block_8(1280, "mean")
        self.Mixed_7c = _block_8(2048, "max")

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, module in self.named_children():
            if name.startswith("Mixed"):
                x = module(x)
        return x.mean((2, 3))
