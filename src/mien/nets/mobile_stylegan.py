"""MobileStyleGAN's synthesis network (Belousov 2021, arXiv 2104.04767): StyleGAN2 distilled into wavelets.

A block works on Haar bands: an inverse Haar transform doubles the side and quarters the width, then two depthwise
separable convolutions follow. Weights are not demodulated per sample, so that a style scales its feature map and
nothing else. The interface is that of `mien.nets.stylegan2.Generator`:

- `styles(w_plus)`: A(.) of the paper, W+ -> StyleSpace, one tensor `[N, C_l]` a layer;
- `synthesis_from_styles(styles)`: G_ss(.) of the paper;
- `synthesis(w_plus)`: G(L) = G_ss(A(L)).

Every layer has a row of W+ of its own: one for the first convolution, three a block (`up`, `conv1`, `conv2`), one for
the image. The FFHQ student at 1024x1024 has 7 blocks, 23 rows and 6,752 StyleSpace channels.

Small pictures come from heads (`PictureHead`): what the blocks that are left out would draw, averaged down.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets.generator import Generator, StyleLayer, Window
from mien.nets.stylegan2 import Affine

BLOCK_MARGIN = 4  # pixels of a block's input that its two 3x3 convolutions cannot reach across, and to spare
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


def inverse_haar(bands: Tensor) -> Tensor:
    """Bands `[N, 4 * C, H, W]` (`band_order`: mean, then the details along height, along width, and of both) ->
    `[N, C, 2H, 2W]`."""
    out: Tensor = _InverseHaar.apply(bands)
    return out


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1x1 convolution whose weights differ between samples: `x [N, I, H, W]`, `weight [N, O, I]`, `bias [O]`."""
    n, c, height, width = x.shape
    flat = x.permute(0, 2, 3, 1).reshape(n, height * width, c)
    out = torch.baddbmm(bias.to(flat.dtype), flat, weight.transpose(1, 2).to(flat.dtype))
    return out.view(n, height, width, -1).permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """A depthwise 3x3 convolution with zero borders: `x [N, C, H, W]`, `weight [C, 1, 3, 3]`."""
    return F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, padding=1, groups=x.shape[1])


def _activate(x: Tensor, noise: Tensor) -> Tensor:
    return F.leaky_relu(x + noise.to(x.dtype), 0.2, inplace=True)


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
        return _activate(F.conv2d(x, self.weight[order], self.bias[order].to(x.dtype), padding=1), self.noise_const)


class SeparableConv(Styled):
    """A modulated depthwise 3x3 and pointwise convolution, noise, bias and leaky ReLU, without demodulation.

    The style commutes with the depthwise convolution, so it scales the pointwise weights: nothing more passes over the
    pixels.
    """

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
        weight, bias = self.weight[:, :, 0, 0], self.bias
        if order is not None:
            weight, bias = weight[order], bias[order]
        x = pointwise(depthwise(x, self.depthwise), weight * (style * self.gain)[:, None], bias)
        return _activate(x, self.noise_const if window is None else window.cut(self.noise_const))


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


class PictureHead(nn.Module):
    """A small picture from the features of block k: the remaining blocks, at block k's side.

    Each remaining block keeps its styles and its two convolutions. Where it would double the side, its first
    convolution takes all four Haar bands instead, each scaled by the block's `up` and `conv1` styles. The last layer
    writes Haar bands, so that the picture has twice the side of block k. Between blocks, channels are sorted by
    `band_order`: so are the rows of `weight` and `bias`.
    """

    def __init__(self, config: MobileGeneratorConfig, block: int) -> None:
        super().__init__()
        side = 8 * 2**block
        self.block, self.gains = block, []
        self.depthwise, self.weight, self.bias, self.noise_const = (nn.ParameterList() for _ in range(4))
        for k in range(block + 1, config.blocks):
            width, out = config.channels[k], config.channels[k + 1]
            for wide in (width, out):
                self.depthwise.append(torch.randn(wide, 1, 3, 3) / 3)
                self.weight.append(torch.randn(out, wide, 1, 1))
                self.bias.append(torch.zeros(out))
                self.noise_const.append(torch.zeros(side, side))
            self.gains += [1 / math.sqrt(9 * (width // 4)), 1 / math.sqrt(9 * out)]
        self.image_weight = nn.Parameter(torch.randn(IMAGE_BANDS, out, 1, 1))
        self.image_bias = nn.Parameter(torch.zeros(IMAGE_BANDS))
        self.image_gain = 1 / math.sqrt(out)

    def forward(self, x: Tensor, styles: list[Tensor], window: Window | None = None) -> Tensor:
        """`x [N, C, h, w]`, the features of block k sorted by `band_order`, and all styles -> `[N, 3, 2h, 2w]`.
        `window`: the part of block k's map that `x` is."""
        cut = (lambda noise: noise) if window is None else window.cut
        for i in range(0, len(self.gains), 2):
            layer = 1 + 3 * (self.block + 1 + i // 2)
            order = band_order(x.shape[1]).to(x.device)
            bands = styles[layer][:, order] * styles[layer + 1].repeat(1, 4)
            for j, style in ((i, bands), (i + 1, styles[layer + 2])):
                weight = self.weight[j][:, :, 0, 0] * (style * self.gains[j])[:, None]
                x = _activate(
                    pointwise(depthwise(x, self.depthwise[j]), weight, self.bias[j]), cut(self.noise_const[j])
                )
        weight = self.image_weight[:, :, 0, 0] * (styles[-1] * self.image_gain)[:, None]
        return inverse_haar(pointwise(x, weight, self.image_bias).float())

    @torch.no_grad()
    def start_from(self, generator: MobileGenerator) -> None:
        """Take over the weights of the blocks that the head stands for: means of what they do to finer pixels.

        A depthwise kernel becomes its sum in the middle; of the Haar bands the mean goes through, halved (a band's mean
        is twice the pixels'); noise is averaged down.
        """
        for i in range(0, len(self.gains), 2):
            k = self.block + 1 + i // 2
            first, second = generator.blocks[2 + 3 * k], generator.blocks[3 + 3 * k]
            out = second.weight.shape[0]
            sort = band_order(out) if i + 2 < len(self.gains) else torch.arange(out)
            self.weight[i].zero_()
            self.weight[i][:, : first.weight.shape[1]] = first.weight * 0.5
            self.weight[i + 1].copy_(second.weight[sort])
            self.bias[i].copy_(first.bias)
            self.bias[i + 1].copy_(second.bias[sort])
            for j, layer in ((i, first), (i + 1, second)):
                taps = layer.depthwise.sum((2, 3))[:, 0]
                self.depthwise[j].zero_()
                self.depthwise[j][:, 0, 1, 1] = taps.repeat(len(self.depthwise[j]) // len(taps))
                side = len(self.noise_const[j])
                self.noise_const[j].copy_(F.interpolate(layer.noise_const[None, None], (side, side), mode="area")[0, 0])
        image = generator.blocks[-1]
        for mine, theirs in ((self.image_weight, image.weight), (self.image_bias, image.bias)):
            mine.zero_()
            mine[:3] = theirs[:3]  # the mean of three colours: twice the mean of the pixels, as the head's bands are


def picture_heads(config: MobileGeneratorConfig) -> nn.ModuleDict:
    """The heads of a generator, by the side of their pictures as text."""
    return nn.ModuleDict({str(size): PictureHead(config, config.head_blocks[size]) for size in config.heads})


class MobileGenerator(Generator):
    """MobileStyleGAN's synthesis network. It draws the sizes of its heads and the finished picture; smaller pictures
    are the smallest head's, averaged down."""

    def __init__(self, config: MobileGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution, self.w_dim, self.num_ws = config.resolution, config.w_dim, config.num_ws
        self.layers = style_layers(config)
        self.const = nn.Parameter(torch.randn(1, config.channels[0], 4, 4))
        w = config.w_dim
        modules: list[nn.Module] = [FirstConv(w, config.channels[0], config.channels[0], 4)]
        for k in range(config.blocks):
            side, width, out = 8 * 2**k, config.channels[k], config.channels[k + 1]
            modules += [Styled(w, width), SeparableConv(w, width // 4, out, side), SeparableConv(w, out, out, side)]
        modules.append(ToImage(w, out))
        self.blocks = nn.ModuleList(modules)
        self.heads = picture_heads(config)
        self.sizes = (*sorted(config.heads), config.resolution)
        self.rgb_valid_from = self.sizes[0]
        self.draws_windows = config.resolution // 2 in config.heads

    def at(self, size: int) -> MobileGenerator:
        """The generator that draws pictures of `size` and no larger: it shares all weights with this one and lacks what
        only larger pictures need. Raises ValueError where there is no head for that size."""
        if size not in self.sizes:
            raise ValueError(f"this generator draws pictures of {', '.join(map(str, self.sizes))}, not {size}")
        small = copy.copy(self)
        small._modules = dict(self._modules)
        small.resolution, small.sizes = size, tuple(s for s in self.sizes if s <= size)
        if size == self.config.resolution:
            return small
        small.draws_windows = False
        needed = 2 + 3 * (self.config.head_blocks[size] + 1)
        blocks = [b if i < needed - 1 else _only_styled(b) for i, b in enumerate(self.blocks)]
        small.blocks = nn.ModuleList(blocks)
        small.heads = nn.ModuleDict({name: head for name, head in self.heads.items() if int(name) <= size})
        return small

    def styles(self, w_plus: Tensor) -> list[Tensor]:
        """A(L): `w_plus [N, num_ws, w_dim]` -> StyleSpace, a list of `[N, C_l]` in the order of `layers`."""
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"w_plus must be [N, {self.num_ws}, {self.w_dim}], not {list(w_plus.shape)}")
        # Always in float32: what 35 numbers do must not drown in the rounding of what they are added to.
        with torch.autocast(w_plus.device.type, enabled=False):
            w_plus = w_plus.float() if w_plus.dtype == torch.bfloat16 else w_plus
            return [block.affine(w_plus[:, i]) for i, block in enumerate(cast("Iterable[Styled]", self.blocks))]

    def synthesis_from_styles(
        self, styles: list[Tensor], resolution: int | None = None, window: Window | None = None
    ) -> Tensor:
        """G_ss: StyleSpace -> image `[N, 3, H, W]`, nominally in [-1, 1].

        `resolution`: the side of the picture, by the smallest head that reaches it, averaged down where it is larger.
        `window`: that part of the finished picture only; its corners are multiples of 4 pixels.
        """
        size = self.resolution if resolution is None else min(resolution, self.resolution)
        drawn = next(s for s in self.sizes if s >= size)
        if drawn < self.config.resolution:
            if window is not None:
                raise ValueError("a window is cut from the finished picture, not from one of a lower resolution")
            x = self.features(styles, self.config.head_blocks[drawn])
            image: Tensor = self.heads[str(drawn)](x, styles)
        else:
            image = self._finish(self.features(styles, self.config.blocks - 2), styles, window)
        return (
            image if image.shape[-1] <= size or window is not None else F.interpolate(image, (size, size), mode="area")
        )

    def synthesis_with_detail(self, styles: list[Tensor], window: Window) -> tuple[Tensor, Tensor]:
        """The whole picture at half of the resolution, `[N, 3, R/2, R/2]`, and `window` of the finished one: what a loss
        on random windows needs, at little more than the cost of half the resolution."""
        half = str(self.config.resolution // 2)
        if self.resolution != self.config.resolution or half not in self.heads:
            raise ValueError(f"windows need the whole generator and a head for {half}")
        x = self.features(styles, self.config.blocks - 2)
        return self.heads[half](x, styles), self._finish(x, styles, window)

    def tunable_names(self) -> tuple[str, ...]:
        """All but the affine layers, heads included: they draw what the tuned blocks would."""
        return tuple(name for name, _ in self.named_parameters() if ".affine." not in name)

    def noise_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.tunable_names() if "noise_const" in name)

    def features(self, styles: list[Tensor], block: int, after: tuple[int, Tensor] | None = None) -> Tensor:
        """The features of block `block` (from 0; -1: of the first layer), `[N, C, H, W]`, sorted by `band_order` but for
        the last block's. `after`: a block and its features, where they are known."""
        if after is None:
            dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.const.dtype
            x = self.const.to(dtype).expand(len(styles[0]), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            after = (-1, self.blocks[0](x, styles[0], band_order(self.config.channels[0]).to(x.device)))
        known, x = after
        for k in range(known + 1, block + 1):
            x = self._block(x, styles, k)
        return x

    def _block(self, x: Tensor, styles: list[Tensor], k: int, window: Window | None = None) -> Tensor:
        """Block k on the features before it; `window`: the part of block k's map that they give."""
        layer = 1 + 3 * k
        order = band_order(x.shape[1]).to(x.device)
        x = inverse_haar(x * styles[layer][:, order, None, None].to(x.dtype))
        x = self.blocks[layer + 1](x, styles[layer + 1], None, window)
        out = self.config.channels[k + 1]
        sort = band_order(out).to(x.device) if k + 1 < self.config.blocks else None
        return self.blocks[layer + 2](x, styles[layer + 2], sort, window)

    def _finish(self, x: Tensor, styles: list[Tensor], window: Window | None) -> Tensor:
        """The last block and the picture, from the features of the block before."""
        last = self.config.blocks - 1
        if window is None:
            return self.blocks[-1](self._block(x, styles, last), styles[-1])
        before = window.scaled(down=4).grown(BLOCK_MARGIN, x.shape[-1])
        features = self._block(before.cut(x), styles, last, before.scaled(up=2))
        image: Tensor = self.blocks[-1](features, styles[-1])
        return window.within(before.scaled(up=4)).cut(image)


def _only_styled(block: nn.Module) -> nn.Module:
    """The layer without its convolution: the affine map, shared."""
    kept = Styled.__new__(Styled)
    nn.Module.__init__(kept)
    kept.affine = block.affine  # type: ignore[assignment]
    return kept
