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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets.convolution import conv2d, conv_transpose2d
from mien.nets.generator import Generator, StyleLayer, Window

_SQRT2 = math.sqrt(2.0)
_DEMODULATION_EPSILON = 1e-8

# From this many input pixels on, weights are modulated for each sample: faster on a CPU, forwards and backwards.
PIXELS_FOR_OWN_WEIGHTS = 60 * 60
WINDOW_MARGIN = 4  # pixels at half the last resolution: more than a block's convolutions and filters reach


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of a generator: output `resolution`, `w_dim`, and the feature width of each block from 4x4 upwards."""

    resolution: int
    w_dim: int
    channels: tuple[int, ...]
    noise: bool = False  # whether the layers carry noise constants and strengths (the official weights do)
    clamp: float | None = None  # limit of every layer's output, where the weights were trained with one
    # From which resolution on the RGB sum is the finished picture at a lower resolution; None: at the last block only.
    rgb_valid_from: int | None = None

    def __post_init__(self) -> None:
        blocks = int(math.log2(self.resolution)) - 1
        if 2 ** (blocks + 1) != self.resolution or blocks < 1:
            raise ValueError(f"resolution must be a power of two of at least 4, not {self.resolution}")
        if len(self.channels) != blocks:
            raise ValueError(
                f"{blocks} widths are needed at {self.resolution}x{self.resolution}, not {len(self.channels)}"
            )

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(4 * 2**i for i in range(len(self.channels)))

    @property
    def num_ws(self) -> int:
        return 2 * len(self.channels)


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
    """StyleGAN's linear layer with equalised learning rate, `[N, w_dim] -> [N, width]`: a row of W+ to a layer's style.

    `bias`: its initial value, 1 for styles.
    """

    def __init__(self, w_dim: int, width: int, bias: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, w_dim))
        self.bias = nn.Parameter(torch.full((width,), bias))
        self.scale = 1 / math.sqrt(w_dim)

    def forward(self, w: Tensor) -> Tensor:
        return F.linear(w, self.weight * self.scale, self.bias)


class _Filter(torch.autograd.Function):
    """The FIR filter 1-3-3-1 over 4 in both directions and a bias, `[N, C, 2H+1, 2W+1] -> [N, C, 2H, 2W]` (zero
    borders).

    As a depthwise convolution: 7 times faster than shifted sums on a CPU. Its own backward pass, for the filter is
    symmetric and so its own transpose, and the library's backward pass with a bias takes 10 times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, _taps(x), bias, padding=1, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (g,) = gradients
        g = g.contiguous(memory_format=torch.channels_last)
        of_x = F.conv2d(g, _taps(g), padding=2, groups=g.shape[1]) if ctx.needs_input_grad[0] else None
        of_bias = None
        if ctx.needs_input_grad[1]:  # a product with ones: a sum in bfloat16 first copies everything to float32
            pixels = g.permute(0, 2, 3, 1).reshape(-1, g.shape[1])
            of_bias = (pixels.new_ones(1, len(pixels)) @ pixels)[0]
        return of_x, of_bias


class _AddNoise(torch.autograd.Function):
    """Adds to `x [N, C, H, W]`, in place, one picture `noise [H, W]`. Its own backward pass, since the
    library sums bfloat16 over batch and channels by way of a float32 copy: 40 times slower than a product with ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, noise: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.add_(noise)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (g,) = gradients
        if not ctx.needs_input_grad[1]:
            return g, None
        return g, (g.permute(0, 2, 3, 1) @ g.new_ones(g.shape[1])).sum(0)


def fir_filter(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """`[N, C, 2H+1, 2W+1] -> [N, C, 2H, 2W]` by the FIR filter 1-3-3-1 over 4 in both directions, plus a bias `[C]`."""
    filtered: Tensor = _Filter.apply(x, bias)
    return filtered


def _taps(x: Tensor) -> Tensor:
    taps = x.new_tensor([1 / 4, 3 / 4, 3 / 4, 1 / 4])
    return (taps[:, None] * taps)[None, None].expand(x.shape[1], 1, 4, 4)


class ModulatedConv(nn.Module):
    """Modulated 3x3 or 1x1 convolution with optional demodulation and x2 upsampling.

    Two exact ways to compute it. With few pixels the activations are scaled rather than the weights, so that one dense
    convolution serves a batch of different styles. With many pixels each sample gets its own weights: then nothing but
    the convolution passes over the pixels, and demodulation and the layer's gain cost nothing. Upsampling is a
    transposed convolution and the FIR filter 1-3-3-1; folding the filter into four 3x3 phases and a pixel shuffle would
    be exact too, at four times the arithmetic.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, demodulate: bool, up: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.scale = 1 / math.sqrt(in_channels * kernel * kernel)
        self.demodulate = demodulate
        self.up = up
        self.own_weights_from = PIXELS_FOR_OWN_WEIGHTS

    def forward(self, x: Tensor, style: Tensor, bias: Tensor, gain: float = 1.0) -> Tensor:
        """`gain * (conv(x, modulated weight) + bias)`: `x [N, I, H, W]`, `style [N, I]`, `bias [O]`."""
        style = style * self.scale  # rather than the weight, which is far larger
        demodulation: Tensor | None = None
        if self.demodulate:
            energy = F.linear(style.float().square(), self.weight.float().square().sum((2, 3)))
            demodulation = torch.rsqrt(energy + _DEMODULATION_EPSILON)
        if x.shape[-1] * x.shape[-2] >= self.own_weights_from:
            own = self.weight * (style[:, None, :, None, None] * gain)
            if demodulation is not None:
                own = own * demodulation[:, :, None, None, None]
            own, bias = own.to(x.dtype), (bias * gain).to(x.dtype)
            if len(x) == 1:
                return self._convolve(x, own[0], bias)
            return torch.cat([self._convolve(one, w, bias) for one, w in zip(x.split(1), own.unbind(), strict=True)])
        x = self._convolve(x * style[:, :, None, None].to(x.dtype), self.weight, None)
        if demodulation is None:
            return (x + bias[:, None, None].to(x.dtype)) * gain
        return torch.addcmul(
            (bias * gain)[:, None, None].to(x.dtype), x, (demodulation * gain)[:, :, None, None].to(x.dtype)
        )

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.up:
            return fir_filter(conv_transpose2d(x, weight.transpose(0, 1)), bias)
        return conv2d(x, weight, bias) if weight.shape[-1] == 3 else F.conv2d(x, weight, bias)


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise constant, bias and leaky ReLU (gain sqrt 2).

    The noise constant is a parameter: what stays in its place in a person's pictures is learned there, as projection
    does (Karras et al. 2020, Sec. 5).
    """

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
            self.noise_const = nn.Parameter(torch.randn(resolution, resolution))

    def forward(self, x: Tensor, style: Tensor, window: Window | None = None) -> Tensor:
        # The leaky ReLU is homogeneous: its gain may as well multiply the weights.
        x = self.conv(x, style, self.bias, _SQRT2)
        if self.has_noise:
            noise = self.noise_const if window is None else window.cut(self.noise_const)
            x = _AddNoise.apply(x, (noise * (self.noise_strength * _SQRT2)).to(x.dtype))
        x = F.leaky_relu(x, 0.2, inplace=True)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation."""

    def __init__(self, in_channels: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.affine = Affine(w_dim, in_channels)
        self.conv = ModulatedConv(in_channels, 3, 1, demodulate=False, up=False)
        self.clamp = clamp
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, style: Tensor, window: Window | None = None) -> Tensor:
        x = self.conv(x, style, self.bias)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


def upsample_rgb(image: Tensor) -> Tensor:
    """x2 upsampling of the RGB skip with the FIR filter 1-3-3-1 and zero borders, `[N, 3, H, W] -> [N, 3, 2H, 2W]`."""
    taps = image.new_tensor([[1 / 4, 3 / 4, 0], [0, 3 / 4, 1 / 4]])
    kernel = torch.einsum("ay,bx->abyx", taps, taps).reshape(4, 1, 3, 3).repeat(3, 1, 1, 1)
    return F.pixel_shuffle(F.conv2d(image, kernel, padding=1, groups=3), 2)


class StyleGAN2Generator(Generator):
    """StyleGAN2's synthesis network."""

    draws_windows = True

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.w_dim, self.num_ws = config.resolution, config.w_dim, config.num_ws
        self.layers = style_layers(config)
        self.rgb_valid_from = config.rgb_valid_from or config.resolution
        self.sizes = (config.resolution,)
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
        blocks = cast("Iterable[SynthesisLayer | ToRGB]", self.blocks)
        # Always in float32: what 35 numbers do must not drown in the rounding of what they are added to.
        with torch.autocast(w_plus.device.type, enabled=False):
            w_plus = w_plus.float() if w_plus.dtype == torch.bfloat16 else w_plus
            return [block.affine(w_plus[:, layer.row]) for layer, block in zip(self.layers, blocks, strict=True)]

    def synthesis_from_styles(
        self, styles: list[Tensor], resolution: int | None = None, window: Window | None = None
    ) -> Tensor:
        """G_ss: StyleSpace -> image `[N, 3, H, W]`, nominally in [-1, 1].

        `resolution`: stop at a lower power of two and return the RGB sum so far (what that block has seen), for
        losses that need no more. `window`: compute the last block in this part of the picture only and return that
        part; its corners are even numbers of pixels of the last block.
        """
        return self._rgb_sums(styles, resolution, window)[-1]

    def synthesis_with_detail(self, styles: list[Tensor], window: Window) -> tuple[Tensor, Tensor]:
        """The whole picture as the last block but one has it, `[N, 3, R/2, R/2]`, and `window` of the finished one:
        what a loss on random windows needs, at little more than the cost of half the resolution."""
        half, detail = self._rgb_sums(styles, None, window)[-2:]
        return half, detail

    def _rgb_sums(self, styles: list[Tensor], resolution: int | None, window: Window | None) -> list[Tensor]:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.const.dtype
        x = self.const.to(dtype).expand(styles[0].shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        sums: list[Tensor] = []
        image: Tensor | None = None
        last = min(self.resolution, resolution or self.resolution)
        cut: Window | None = None
        for layer, block, style in zip(self.layers, self.blocks, styles, strict=True):
            if layer.resolution > last:
                break
            if window is not None and cut is None and layer.resolution == last:
                half = window.scaled(down=2).grown(WINDOW_MARGIN, last // 2)
                cut = half.scaled(up=2)
                x, image = half.cut(x), half.cut(image) if image is not None else None
            if layer.to_rgb:
                rgb = block(x, style).float()
                image = rgb if image is None else upsample_rgb(image) + rgb
                sums.append(image)
            else:
                x = block(x, style, cut)
        if window is not None and cut is not None:
            sums[-1] = window.within(cut).cut(sums[-1])
        return sums

    def tunable_names(self) -> tuple[str, ...]:
        """All but the affine layers, and the strength of the noise, whose constants may change."""
        names = [name for name, _ in self.named_parameters()]
        return tuple(n for n in names if ".affine." not in n and not n.endswith("noise_strength"))

    def noise_names(self) -> tuple[str, ...]:
        return tuple(n for n in self.tunable_names() if n.endswith("noise_const"))
