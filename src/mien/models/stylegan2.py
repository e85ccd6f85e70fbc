"""StyleGAN2's synthesis network (Karras et al. 2020), at any resolution and width.

One class serves the embedded `mini` pack and the official FFHQ 1024x1024 weights. Three entry points:

- `styles(w_plus)`: A(.) of the paper, W+ -> StyleSpace, one tensor `[N, C_l]` a layer;
- `synthesis_from_styles(styles)`: G_ss(.) of the paper;
- `synthesis(w_plus)`: G(L) = G_ss(A(L)).

StyleSpace layers are ordered 4x4/Conv, 4x4/ToRGB, then for each resolution Conv0_up, Conv1, ToRGB (26 layers at
1024x1024), the order of Wu et al. 2021. A style has the layer's *input* width.

Convolution weights are kept as trained, at unit variance, and scaled at run time by 1/sqrt(fan in) (the equalised
learning rate of the original), so that official weights load without being changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SQRT2 = math.sqrt(2.0)
_DEMODULATION_EPSILON = 1e-8


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of a generator: output `resolution`, `w_dim`, and the feature width of each block from 4x4 upwards."""

    resolution: int
    w_dim: int
    channels: tuple[int, ...]
    noise: bool = False  # whether the layers carry noise constants and strengths (the official weights do)
    clamp: float | None = None  # limit of every layer's output, where the weights were trained with one

    def __post_init__(self) -> None:
        blocks = int(math.log2(self.resolution)) - 1
        if 2 ** (blocks + 1) != self.resolution or blocks < 1:
            raise ValueError(f"resolution must be a power of two of at least 4, not {self.resolution}")
        if len(self.channels) != blocks:
            raise ValueError(f"{blocks} widths are needed at {self.resolution}x{self.resolution}, not {len(self.channels)}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(4 * 2**i for i in range(len(self.channels)))

    @property
    def num_ws(self) -> int:
        return 2 * len(self.channels)


@dataclass(frozen=True)
class StyleLayer:
    """One entry of the StyleSpace map: its name, block resolution, W+ row and width."""

    name: str
    resolution: int
    row: int
    width: int
    to_rgb: bool


def style_layers(config: GeneratorConfig) -> tuple[StyleLayer, ...]:
    """The StyleSpace map of a generator, in StyleSpace order (26 layers at 1024x1024)."""
    layers = [
        StyleLayer("4x4/Conv", 4, 0, config.channels[0], False),
        StyleLayer("4x4/ToRGB", 4, 1, config.channels[0], True),
    ]
    for i, resolution in enumerate(config.resolutions[1:], start=1):
        row = 2 * i - 1
        name = f"{resolution}x{resolution}"
        layers += [
            StyleLayer(f"{name}/Conv0_up", resolution, row, config.channels[i - 1], False),
            StyleLayer(f"{name}/Conv1", resolution, row + 1, config.channels[i], False),
            StyleLayer(f"{name}/ToRGB", resolution, row + 2, config.channels[i], True),
        ]
    return tuple(layers)


class Affine(nn.Module):
    """The learned affine map from a row of W+ to the style of one layer, `[N, w_dim] -> [N, width]`."""

    def __init__(self, w_dim: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, w_dim))
        self.bias = nn.Parameter(torch.ones(width))
        self.scale = 1 / math.sqrt(w_dim)

    def forward(self, w: Tensor) -> Tensor:
        return F.linear(w, self.weight * self.scale, self.bias)


def _filter(x: Tensor) -> Tensor:
    """The FIR filter 1-3-3-1 over 4 in both directions, `[N, C, 2H+1, 2W+1] -> [N, C, 2H, 2W]` (zero borders).

    As a depthwise convolution: 7 times faster than shifted sums on a CPU, forwards and backwards.
    """
    taps = x.new_tensor([1 / 4, 3 / 4, 3 / 4, 1 / 4])
    kernel = (taps[:, None] * taps)[None, None].expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


class ModulatedConv(nn.Module):
    """Modulated 3x3 or 1x1 convolution with optional demodulation and x2 upsampling.

    Computed by scaling the activations rather than the weights, which is the same function and lets one dense
    convolution serve a batch of different styles. Upsampling is a transposed convolution and the FIR filter 1-3-3-1.
    (Folding the filter into four 3x3 phases and a pixel shuffle is exact too; with the filter as a depthwise
    convolution it was 5 to 20 % slower on a CPU, for four times the arithmetic.)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, demodulate: bool, up: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.scale = 1 / math.sqrt(in_channels * kernel * kernel)
        self.demodulate = demodulate
        self.up = up

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if self.demodulate:
            energy = F.linear(style.float().square(), weight.float().square().sum((2, 3)))
            demodulation = torch.rsqrt(energy + _DEMODULATION_EPSILON)
        x = x * style[:, :, None, None].to(x.dtype)
        if self.up:
            x = _filter(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(x, weight, padding=self.weight.shape[-1] // 2)
        if self.demodulate:
            x = x * demodulation[:, :, None, None].to(x.dtype)
        return x


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise constant, bias and leaky ReLU (gain sqrt 2)."""

    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        *,
        up: bool,
        noise: bool,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.affine = Affine(w_dim, in_channels)
        self.conv = ModulatedConv(in_channels, out_channels, 3, demodulate=True, up=up)
        self.clamp = clamp
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.has_noise = noise
        if noise:
            self.noise_strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = self.conv(x, style)
        if self.has_noise:
            x = x + (self.noise_const * self.noise_strength).to(x.dtype)
        x = x + self.bias[:, None, None].to(x.dtype)
        x = F.leaky_relu(x, 0.2) * _SQRT2
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation."""

    def __init__(self, in_channels: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.affine = Affine(w_dim, in_channels)
        self.conv = ModulatedConv(in_channels, 3, 1, demodulate=False, up=False)
        self.clamp = clamp
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = self.conv(x, style) + self.bias[:, None, None].to(x.dtype)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


def upsample_rgb(image: Tensor) -> Tensor:
    """x2 upsampling of the RGB skip with the FIR filter 1-3-3-1 and zero borders, `[N, 3, H, W] -> [N, 3, 2H, 2W]`."""
    taps = image.new_tensor([[1 / 4, 3 / 4, 0], [0, 3 / 4, 1 / 4]])
    kernel = torch.einsum("ay,bx->abyx", taps, taps).reshape(4, 1, 3, 3).repeat(3, 1, 1, 1)
    return F.pixel_shuffle(F.conv2d(image, kernel, padding=1, groups=3), 2)


class Generator(nn.Module):
    """StyleGAN2's synthesis network.

    Attributes: `resolution`, `w_dim`, `num_ws` (rows of W+), `layers` (the StyleSpace map).
    Images are float `[N, 3, H, W]`, nominally in [-1, 1] and not clamped.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.w_dim, self.num_ws = config.resolution, config.w_dim, config.num_ws
        self.layers = style_layers(config)
        self.const = nn.Parameter(torch.randn(1, config.channels[0], 4, 4))
        modules: list[nn.Module] = []
        for layer in self.layers:
            if layer.to_rgb:
                modules.append(ToRGB(layer.width, config.w_dim, config.clamp))
            else:
                up = layer.name.endswith("Conv0_up")
                out_channels = config.channels[int(math.log2(layer.resolution)) - 2]
                modules.append(
                    SynthesisLayer(
                        layer.width,
                        out_channels,
                        config.w_dim,
                        layer.resolution,
                        up=up,
                        noise=config.noise,
                        clamp=config.clamp,
                    )
                )
        self.blocks = nn.ModuleList(modules)

    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """A(L): `w_plus [N, num_ws, w_dim]` -> StyleSpace, a list of `[N, C_l]` in the order of `layers`."""
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"w_plus must be [N, {self.num_ws}, {self.w_dim}], not {list(w_plus.shape)}")
        return [block.affine(w_plus[:, layer.row]) for layer, block in zip(self.layers, self.blocks, strict=True)]

    def synthesis_from_styles(self, styles: list[Tensor], resolution: int | None = None) -> Tensor:
        """G_ss: StyleSpace -> image `[N, 3, H, W]`, nominally in [-1, 1].

        `resolution`: stop at a lower power of two and return the RGB sum so far (what that block has seen), for
        losses that need no more.
        """
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.const.dtype
        x = self.const.to(dtype).expand(styles[0].shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        for layer, block, style in zip(self.layers, self.blocks, styles, strict=True):
            if resolution is not None and layer.resolution > resolution:
                break
            if layer.to_rgb:
                rgb = block(x, style).float()
                image = rgb if image is None else upsample_rgb(image) + rgb
            else:
                x = block(x, style)
        assert image is not None
        return image

    def synthesis(self, w_plus: Tensor, resolution: int | None = None) -> Tensor:
        """G(L) = G_ss(A(L)): `w_plus [N, num_ws, w_dim]` -> image `[N, 3, H, W]`, nominally in [-1, 1]."""
        return self.synthesis_from_styles(self.styles(w_plus), resolution)

    forward = synthesis
