"""Layers of MobileStyleGAN (Belousov 2021, arXiv 2104.04767): the inverse Haar transform, and depthwise separable
convolutions that a style modulates without demodulation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets.generator import StyleLayer, Window
from mien.nets.native_layers import SLOPE, InverseHaar, SeparableLayer, usable
from mien.nets.stylegan2 import Affine

IMAGE_BANDS = 12  # 3 colours, each with its mean and 3 details


@dataclass(frozen=True)
class MobileGeneratorConfig:
    """Shape of a generator.

    `channels`: the width of the first convolution, then of each block's output; block k (from 0) has a side of
    `8 * 2**k` pixels, and the picture twice the side of the last. `heads`: sides of the small pictures that heads
    draw, each between 16 and half of the picture's.
    """

    w_dim: int
    channels: tuple[int, ...]
    heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or any(c % 4 for c in self.channels[:-1]):
            raise ValueError("a generator needs at least one block, and widths that are multiples of 4")
        if any(size not in self.head_blocks for size in self.heads):
            raise ValueError(f"heads draw pictures of {', '.join(map(str, self.head_blocks))}, not {self.heads}")

    @property
    def blocks(self) -> int:
        return len(self.channels) - 1

    @property
    def resolution(self) -> int:
        return 8 * 2**self.blocks

    @property
    def num_ws(self) -> int:
        return 3 * self.blocks + 2

    @property
    def head_blocks(self) -> dict[int, int]:
        """The side of a small picture -> the block whose features it is drawn from (half of that side)."""
        return {16 * 2**k: k for k in range(self.blocks - 1)}


def style_layers(config: MobileGeneratorConfig) -> tuple[StyleLayer, ...]:
    """The StyleSpace map, in the order of the rows of W+. A style has the width of what it scales."""
    layers = [StyleLayer("4x4/conv", 4, 0, config.channels[0], False)]
    for k in range(config.blocks):
        side, row = 8 * 2**k, 1 + 3 * k
        width, out = config.channels[k], config.channels[k + 1]
        layers += [
            StyleLayer(f"{side}x{side}/up", side, row, width, False),
            StyleLayer(f"{side}x{side}/conv1", side, row + 1, width // 4, False),
            StyleLayer(f"{side}x{side}/conv2", side, row + 2, out, False),
        ]
    last = layers[-1]
    layers.append(
        StyleLayer(f"{config.resolution}x{config.resolution}/image", last.resolution, last.row + 1, out, True)
    )
    return tuple(layers)


def band_order(width: int) -> Tensor:
    """Channel indices that sort features `[mean (C/4), (C/4) x 3 details]`, as the network has them, into four
    consecutive bands of C/4: mean and three details. Shape `[C]`."""
    quarter = width // 4
    details = quarter + torch.arange(3 * quarter).view(quarter, 3).t().reshape(-1)
    return torch.cat([torch.arange(quarter), details])


class _InverseHaar(torch.autograd.Function):
    """The inverse Haar transform; orthonormal, so that its gradient is the Haar transform."""

    @staticmethod
    def forward(ctx: Any, bands: Tensor) -> Tensor:
        mean, height, width, both = bands.chunk(4, dim=1)
        top, bottom = mean + height, mean - height
        slope_top, slope_bottom = width + both, width - both
        n, c, h, w = mean.shape
        out = bands.new_empty((n, 2 * h, 2 * w, c)).permute(0, 3, 1, 2)  # channels last
        torch.add(top, slope_top, out=out[:, :, 0::2, 0::2])
        torch.add(bottom, slope_bottom, out=out[:, :, 1::2, 0::2])
        torch.sub(top, slope_top, out=out[:, :, 0::2, 1::2])
        torch.sub(bottom, slope_bottom, out=out[:, :, 1::2, 1::2])
        return out.mul_(0.5)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (g,) = gradients
        a, b = g[:, :, 0::2, 0::2] * 0.5, g[:, :, 1::2, 0::2] * 0.5
        c, d = g[:, :, 0::2, 1::2] * 0.5, g[:, :, 1::2, 1::2] * 0.5
        left, right, left_slope, right_slope = a + b, c + d, a - b, c - d
        bands = [left + right, left_slope + right_slope, left - right, left_slope - right_slope]
        return torch.cat(bands, dim=1).contiguous(memory_format=torch.channels_last)

    @staticmethod
    def symbolic(g: Any, bands: Any) -> Any:
        """The same as ONNX operators, for `torch.onnx.export`."""
        mean, height, width, both = g.op("Split", g.op("Mul", bands, _half(g)), axis_i=1, outputs=4)
        top, bottom = g.op("Add", mean, height), g.op("Sub", mean, height)
        slope_top, slope_bottom = g.op("Add", width, both), g.op("Sub", width, both)
        pixels = [
            g.op(how, value, slope)
            for value, slope in ((top, slope_top), (bottom, slope_bottom))
            for how in ("Add", "Sub")
        ]
        return g.op("DepthToSpace", g.op("Concat", *pixels, axis_i=1), blocksize_i=2, mode_s="DCR")


def _half(g: Any) -> Any:
    return g.op("Constant", value_t=torch.tensor(0.5))


def inverse_haar(bands: Tensor) -> Tensor:
    """Bands `[N, 4 * C, H, W]` (`band_order`: mean, then the details along height, along width, and of both) ->
    `[N, C, 2H, 2W]`."""
    out: Tensor = _InverseHaar.apply(bands)
    return out


def modulated_inverse_haar(bands: Tensor, style: Tensor) -> Tensor:
    """`inverse_haar` of bands that a style `[N, 4 * C]` multiplies."""
    if usable([bands.shape[1] // 4], bands, style):
        out: Tensor = InverseHaar.apply(bands, style)
        return out
    return inverse_haar(bands * style[:, :, None, None].to(bands.dtype))


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1x1 convolution whose weights differ between samples: `x [N, I, H, W]`, `weight [N, O, I]`, `bias [O]`."""
    n, c, height, width = x.shape
    flat = x.permute(0, 2, 3, 1).reshape(n, height * width, c)
    out = torch.baddbmm(bias.to(flat.dtype), flat, weight.transpose(1, 2).to(flat.dtype))
    return out.view(n, height, width, -1).permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """A depthwise 3x3 convolution with zero borders: `x [N, C, H, W]`, `weight [C, 1, 3, 3]`."""
    return F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, padding=1, groups=x.shape[1])


def activate(x: Tensor, noise: Tensor) -> Tensor:
    """Noise and leaky ReLU, of `x [N, C, H, W]` and `noise [H, W]`."""
    return F.leaky_relu(x + noise.to(x.dtype), SLOPE, inplace=True)


def separable(x: Tensor, taps: Tensor, weight: Tensor, style: Tensor, bias: Tensor, noise: Tensor) -> Tensor:
    """A modulated depthwise 3x3 (`taps [I, 1, 3, 3]`) and pointwise (`weight [O, I]`) convolution without demodulation,
    bias, noise and leaky ReLU: `x [N, I, H, W]`, `style [N, I]`, `bias [O]`, `noise [H, W]` -> `[N, O, H, W]`.

    The style commutes with the depthwise convolution, so nothing of its own passes over the pixels.
    """
    if usable(weight.shape, x, weight, style):
        out: Tensor = SeparableLayer.apply(x, taps, weight, style, bias, noise)
        return out
    return activate(pointwise(depthwise(x, taps), weight * style[:, None], bias), noise)


class Styled(nn.Module):
    """A layer that only has its affine map from W+: `up`, and layers whose pictures a head draws."""

    def __init__(self, w_dim: int, width: int) -> None:
        super().__init__()
        self.affine = Affine(w_dim, width)


class FirstConv(Styled):
    """The first layer: a dense modulated 3x3 convolution of the learned constant, noise, bias, leaky ReLU."""

    def __init__(self, w_dim: int, width: int, out: int, side: int) -> None:
        super().__init__(w_dim, width)
        self.weight = nn.Parameter(torch.randn(out, width, 3, 3))
        self.noise_const = nn.Parameter(torch.zeros(side, side))
        self.bias = nn.Parameter(torch.zeros(out))
        self.gain = 1 / math.sqrt(9 * width)

    def forward(self, x: Tensor, style: Tensor, order: Tensor) -> Tensor:
        """`x [N, I, H, W]`, `style [N, I]` -> `[N, O, H, W]`, its channels sorted by `order`."""
        x = x * (style * self.gain)[:, :, None, None].to(x.dtype)
        return activate(F.conv2d(x, self.weight[order], self.bias[order].to(x.dtype), padding=1), self.noise_const)


class SeparableConv(Styled):
    """A `separable` convolution: modulated, with noise, bias and leaky ReLU."""

    def __init__(self, w_dim: int, width: int, out: int, side: int) -> None:
        super().__init__(w_dim, width)
        self.depthwise = nn.Parameter(torch.randn(width, 1, 3, 3) / 3)
        self.weight = nn.Parameter(torch.randn(out, width, 1, 1))
        self.noise_const = nn.Parameter(torch.zeros(side, side))
        self.bias = nn.Parameter(torch.zeros(out))
        self.gain = 1 / math.sqrt(9 * width)

    def forward(self, x: Tensor, style: Tensor, order: Tensor | None, window: Window | None = None) -> Tensor:
        """`x [N, I, H, W]`, `style [N, I]` -> `[N, O, H, W]`, its channels sorted by `order` where one is given.
        `window`: the part of the whole map that `x` is."""
        weight: Tensor = self.weight[:, :, 0, 0]
        bias: Tensor = self.bias
        if order is not None:
            weight, bias = weight[order], bias[order]
        noise = self.noise_const if window is None else window.cut(self.noise_const)
        return separable(x, self.depthwise, weight, style * self.gain, bias, noise)


class ToImage(Styled):
    """The last layer: a modulated 1x1 convolution to the Haar bands of the picture, and their inverse transform."""

    def __init__(self, w_dim: int, width: int) -> None:
        super().__init__(w_dim, width)
        self.weight = nn.Parameter(torch.randn(IMAGE_BANDS, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(IMAGE_BANDS))
        self.gain = 1 / math.sqrt(width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """`x [N, I, H, W]`, `style [N, I]` -> the picture `[N, 3, 2H, 2W]`."""
        order = band_order(IMAGE_BANDS).to(x.device)
        weight = self.weight[order, :, 0, 0] * (style * self.gain)[:, None]
        return inverse_haar(pointwise(x, weight, self.bias[order]).float())
