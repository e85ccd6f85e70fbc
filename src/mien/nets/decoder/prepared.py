"""A StyleGAN2's convolutions with their weights as `synthesis.c` and the decoder's products read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.nets.native.panels import COLUMNS, INT16_FROM, panels, quantised_panels
from mien.nets.stylegan2 import StyleGAN2Generator, SynthesisLayer, fir_filter

SQRT2 = math.sqrt(2.0)
FEWEST_TILES = 16  # of 4x4 pixels: with fewer, reading the transformed weights takes longer than using them
WEIGHT_PER_TILE = 3_000_000  # largest transformed weight in bytes a tile, for the same reason
# The weights' transform of F(4x4, 3x3) at the points 0, 1, -1, 2, -2 and infinity.
_G = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
      (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip
# That of F(4, 2) at 0, 1, -1, 2 and infinity, of the taps 2 and 0 that even outputs of a transposed convolution have;
# odd ones have tap 1.
_EVEN = ((0, 0, 1 / 2), (-1 / 2, 0, -1 / 2), (1 / 6, 0, -1 / 6), (1 / 3, 0, 1 / 6), (1, 0, 0))
_ODD = ((0, 1, 0),)


def transformed(weight: Tensor, up: bool) -> Tensor:
    """The 36 matrices of a 3x3 convolution `[N, C, 3, 3]`: `[36, N, C]`.

    For upsampling, of the transposed convolution: (row, column) phase even and even (25), even and odd (5), odd and
    even (5), odd and odd (1)."""
    if up:
        even, odd = (torch.tensor(x, dtype=torch.float64) for x in (_EVEN, _ODD))
        rows = torch.cat([torch.kron(a, b) for a in (even, odd) for b in (even, odd)])
    else:
        g = torch.tensor(_G, dtype=torch.float64)
        rows = torch.kron(g, g)
    n, c = weight.shape[:2]
    return (weight.reshape(n * c, 9) @ rows.float().T).view(n, c, 36).permute(2, 0, 1).contiguous()


def _in_panels(matrices: Tensor) -> Tensor:
    """Matrices `[K, N, C]` as synthesis.c reads them, `[K, N / 16, C, 16]`; rows that are missing are 0."""
    return torch.stack([panels(matrix) for matrix in _whole_panels(matrices)])


def _quantised(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """The same in 16 bits, `[K, N / 16, C / 2, 16, 2]`, and what their outputs are to be multiplied by, `[K, N]`."""
    whole, scales = zip(*(quantised_panels(matrix) for matrix in _whole_panels(matrices)), strict=True)
    return torch.stack(whole), torch.stack(scales)


def _whole_panels(matrices: Tensor) -> Tensor:
    return F.pad(matrices, (0, 0, 0, -matrices.shape[1] % COLUMNS))


@dataclass(frozen=True)
class WinogradConvolution:
    """A convolution's constants. `resolution` is that of its input; `weight`: the transformed one, or, quantised, with
    its `scale`; `energy [O, C]`: squared weights, summed over the kernel; `noise [R, R]` of the output, times strength
    and gain, or None; `border`: for upsampling, the taps that reach the last row and the last column of the transposed
    convolution, `[6, O / 16, C, 16]`."""

    index: int
    resolution: int
    up: bool
    weight: Tensor
    scale: Tensor | None
    energy: Tensor
    bias: Tensor
    noise: Tensor | None
    border: Tensor | None

    def weights(self) -> tuple[int | None, int | None, int | None]:
        """synthesis.c's `weight`, `weight16` and `scale16`."""
        if self.scale is None:
            return self.weight.data_ptr(), None, None
        return None, self.weight.data_ptr(), self.scale.data_ptr()

    @property
    def outputs(self) -> int:
        return len(self.bias)

    @property
    def inputs(self) -> int:
        return self.energy.shape[1]


@dataclass(frozen=True)
class SmallConvolution:
    """A convolution with few pixels, as one product: its time is that of reading the weights, which lie as they are
    read (`[C, 9 O]` for upsampling, else `[9 C, O]`). `energy`, `bias`, `noise` as in `WinogradConvolution`."""

    up: bool
    weight: Tensor
    energy: Tensor
    bias: Tensor
    noise: Tensor | None

    def __call__(self, x: Tensor, gain: Tensor) -> Tensor:
        """`x [N, h, w, C]`, times its style, and `gain [N, O]` -> `[N, h', w', O]`, not yet clamped."""
        n, h, w, c = x.shape
        if self.up:
            parts = (x.reshape(-1, c) @ self.weight).view(n, h, w, 3, 3, -1)
            spread = parts.new_zeros(n, 2 * h + 1, 2 * w + 1, parts.shape[-1])
            for i in range(3):
                for j in range(3):
                    spread[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += parts[:, :, :, i, j]
            y = fir_filter(spread.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        else:
            around = F.pad(x, (0, 0, 1, 1, 1, 1)).unfold(1, 3, 1).unfold(2, 3, 1)
            y = (around.reshape(n * h * w, 9 * c) @ self.weight).view(n, h, w, -1)
        y = torch.addcmul(self.bias, y, gain[:, None, None])
        if self.noise is not None:
            y += self.noise[:, :, None]
        return F.leaky_relu(y, 0.2, inplace=True)


def first_native(generator: StyleGAN2Generator, count: int, fewest_tiles: int) -> int:
    """The first of `count` layers from which on all convolutions have enough pixels, and widths of whole vectors."""
    first = count
    for i in reversed(range(count)):
        layer, block = generator.layers[i], generator.blocks[i]
        if layer.to_rgb:
            continue
        assert isinstance(block, SynthesisLayer)
        outputs, inputs = block.conv.weight.shape[:2]
        tiles = (layer.resolution // (8 if block.conv.up else 4)) ** 2
        weight = 36 * 4 * inputs * outputs
        if (
            layer.resolution == 4
            or tiles < fewest_tiles
            or weight > WEIGHT_PER_TILE * tiles
            or inputs % 8
            or outputs % 8
        ):
            break
        first = i
    return first


def prepare_convolution(generator: StyleGAN2Generator, index: int, int16: bool) -> WinogradConvolution:
    """The layer of that number, one from `first_native` on; `int16`: in 16 bits where that is faster."""
    block, layer = generator.blocks[index], generator.layers[index]
    assert isinstance(block, SynthesisLayer)
    weight, bias, noise = _constants(block)
    matrices = transformed(weight, block.conv.up)
    quantised = _quantised(matrices) if int16 and weight.shape[1] >= INT16_FROM else None
    return WinogradConvolution(
        index=index,
        resolution=layer.resolution // (2 if block.conv.up else 1),
        up=block.conv.up,
        weight=_in_panels(matrices) if quantised is None else quantised[0],
        scale=None if quantised is None else quantised[1],
        energy=weight.square().sum((2, 3)),
        bias=bias,
        noise=noise,
        border=_in_panels(torch.cat([weight[:, :, 2], weight[:, :, :, 2]], 2).permute(2, 0, 1))
        if block.conv.up
        else None,
    )


def prepare_small_convolution(generator: StyleGAN2Generator, index: int) -> SmallConvolution:
    """The layer of that number, one before `first_native`."""
    block = generator.blocks[index]
    assert isinstance(block, SynthesisLayer)
    weight, bias, noise = _constants(block)
    outputs, inputs = weight.shape[:2]
    matrix = weight.permute(1, 2, 3, 0).reshape(inputs, 9 * outputs) if block.conv.up else weight.reshape(outputs, -1).T
    return SmallConvolution(block.conv.up, matrix.contiguous(), weight.square().sum((2, 3)), bias, noise)


def _constants(block: SynthesisLayer) -> tuple[Tensor, Tensor, Tensor | None]:
    """Weight `[O, C, 3, 3]`, bias times the gain, and the noise constants times strength and gain."""
    weight = (block.conv.weight.detach() * block.conv.scale).float().contiguous()
    noise = None
    if block.has_noise:
        noise = (block.noise_const * (block.noise_strength.detach() * SQRT2)).float().contiguous()
    return weight, (block.bias.detach() * SQRT2).float().contiguous(), noise
