"""EfficientNet-Lite0 and Lite1 (Tan & Le 2019, the variants without squeeze-and-excitation), trained on ImageNet.

Names of tensors are those of `efficientnet-lite0-57934424.pth` and `efficientnet-lite1-77cc7160.pth`, conversions of the
authors' TensorFlow weights.
"""

from __future__ import annotations

import copy

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mien.nets.native_residual import FixedBlock

# The seven stages between stem and head: kernel, stride of the first block, expansion, channels out; and their blocks.
STAGES = ((3, 1, 1, 16), (3, 2, 6, 24), (5, 2, 6, 40), (3, 2, 6, 80), (5, 1, 6, 112), (5, 2, 6, 192), (3, 1, 6, 320))
REPEATS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1)}  # by variant
STEM, HEAD, CLASSES = 32, 1280, 1000
NORM_EPSILON = 1e-3
MEAN, SCALE = 127.0, 128.0  # of 8-bit values, as the network was trained


class EfficientNetLite(nn.Module):
    """Images `[N, 3, H, W]` in [-1, 1] (Lite0 was trained at 224x224, Lite1 at 240x240) -> logits `[N, 1000]`."""

    def __init__(self, variant: int = 0) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2, bias=False)
        self._bn0: nn.Module = _norm(STEM)
        blocks, width = [], STEM
        for repeats, (kernel, stride, expansion, out) in zip(REPEATS[variant], STAGES, strict=True):
            for i in range(repeats):
                blocks.append(InvertedResidual(width, out, kernel, 1 if i else stride, expansion))
                width = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(width, HEAD, 1, bias=False)
        self._bn1: nn.Module = _norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)

    def features(self, images: Tensor, most: int = 5) -> list[Tensor]:
        """The last activation before each halving of the resolution, and that before the head: five of `[N, 16, H/2,
        W/2]`, `[N, 24, H/4, W/4]`, `[N, 40, H/8, W/8]`, `[N, 112, H/16, W/16]`, `[N, 320, H/32, W/32]`, or the first
        `most` of them."""
        x = (127.5 * (images + 1) - MEAN) / SCALE
        x = F.relu6(self._bn0(self._conv_stem(pad_same(x, 3, 2))))
        found = []
        for block in self._blocks:
            if block.stride == 2:
                found.append(x)
                if len(found) == most:
                    return found
            x = block(x)
        return [*found, x]

    def with_fused_norms(self) -> EfficientNetLite:
        """A copy for inference whose batch normalisations are fused into the convolutions: the same function, faster."""
        copied = copy.deepcopy(self).eval()
        copied._conv_stem, copied._bn0 = _fused(copied._conv_stem, copied._bn0), nn.Identity()
        copied._conv_head, copied._bn1 = _fused(copied._conv_head, copied._bn1), nn.Identity()
        for block in copied._blocks:
            assert isinstance(block, InvertedResidual)
            block.fuse_norms()
        return copied.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self._bn1(self._conv_head(self.features(images)[-1])))
        return self._fc(x.mean((2, 3)))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection without activation; a shortcut where the shapes agree."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * width
        self.kernel, self.stride, self.shortcut = kernel, stride, stride == 1 and width == out
        if expansion > 1:
            self._expand_conv = nn.Conv2d(width, inner, 1, bias=False)
            self._bn0: nn.Module = _norm(inner)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1: nn.Module = _norm(inner)
        self._project_conv = nn.Conv2d(inner, out, 1, bias=False)
        self._bn2: nn.Module = _norm(out)
        self.fixed: FixedBlock | None = None

    def fuse_norms(self) -> None:
        """See `EfficientNetLite.with_fused_norms`."""
        if hasattr(self, "_expand_conv"):
            self._expand_conv, self._bn0 = _fused(self._expand_conv, self._bn0), nn.Identity()
        self._depthwise_conv, self._bn1 = _fused(self._depthwise_conv, self._bn1), nn.Identity()
        self._project_conv, self._bn2 = _fused(self._project_conv, self._bn2), nn.Identity()
        expand = self._expand_conv if hasattr(self, "_expand_conv") else None
        self.fixed = FixedBlock(expand, self._depthwise_conv, self._project_conv, shortcut=self.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed is not None and self.fixed.usable(x):
            return self.fixed(x)
        y = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = F.relu6(self._bn1(self._depthwise_conv(pad_same(y, self.kernel, self.stride))))
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "same" padding of `[N, C, H, W]`: one more at the right and the bottom where it is uneven."""
    pads: list[int] = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def _fused(convolution: nn.Module, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(convolution, norm)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)
