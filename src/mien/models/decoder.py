"""Decoding on a CPU: `Generator.synthesis_from_styles` to bytes, with weights prepared once for a whole clip.

The layers with many pixels run as the compiled functions of `mien.native`: each is one pass over its pixels, by
Winograd's F(4x4, 3x3), with style, demodulation, noise, bias, leaky ReLU and ToRGB done on the way. Feature maps live
in buffers that are made once. The result is that of the generator but for rounding (docs/speed.md has the figures);
`exact=True`, a GPU, or a machine without a C compiler take the generator itself.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien import native
from mien.models.stylegan2 import Generator, SynthesisLayer, ToRGB, upsample_rgb
from mien.stages.invert import to_bytes

_SQRT2 = math.sqrt(2.0)
_EPSILON = 1e-8  # of the demodulation
FEWEST_TILES = 16  # of 4x4 pixels: with fewer, reading the transformed weights takes longer than using them
WEIGHT_PER_TILE = 3_000_000  # largest transformed weight in bytes a tile, for the same reason
# The weights' transform of F(4x4, 3x3) at the points 0, 1, -1, 2, -2 and infinity.
_G = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
      (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip


def phase_kernels(weight: Tensor) -> Tensor:
    """A transposed 3x3 convolution of stride 2 and the FIR filter 1-3-3-1 as four 3x3 convolutions, one a phase of the
    output: `[O, C, 3, 3]` -> `[4 O, C, 3, 3]`, in the order of (row phase, column phase, O)."""
    taps = (1 / 4, 3 / 4, 3 / 4, 1 / 4)
    mix = torch.zeros(2, 3, 3, dtype=weight.dtype)  # phase, tap of the phase's kernel, tap of the weight
    for phase in range(2):
        for shift in (-1, 0, 1):
            for k, tap in enumerate(taps):
                place = phase - 1 + k - 2 * shift
                if 0 <= place < 3:
                    mix[phase, shift + 1, place] += tap
    return torch.einsum("ajk,bln,ockn->abocjl", mix, mix, weight).reshape(-1, *weight.shape[1:])


def transformed(weight: Tensor) -> Tensor:
    """The 36 matrices of a 3x3 convolution `[N, C, 3, 3]`, as synthesis.c reads them: `[36, N / 16, C, 16]`."""
    g = torch.tensor(_G, dtype=torch.float64)
    n, c = weight.shape[:2]
    matrices = (weight.reshape(n * c, 9) @ torch.kron(g, g).float().T).view(n, c, 36)
    padded = F.pad(matrices, (0, 0, 0, 0, 0, -n % 16))
    return padded.permute(2, 0, 1).reshape(36, -1, 16, c).transpose(2, 3).contiguous()


@dataclass(frozen=True)
class _Prepared:
    """A convolution's constants. `resolution` is that of its input; `energy [O, C]`: squared weights, summed over the
    kernel; `noise [R, R]` of the output, times strength and gain, or None."""

    index: int
    resolution: int
    up: bool
    weight: Tensor
    energy: Tensor
    bias: Tensor
    noise: Tensor | None

    @property
    def outputs(self) -> int:
        return len(self.bias)

    @property
    def inputs(self) -> int:
        return self.energy.shape[1]


class Decoder:
    """Styles to frames. One decoder serves one thread at a time; it uses as many threads as PyTorch may."""

    def __init__(self, generator: Generator, *, exact: bool = False) -> None:
        self.generator = generator
        self._library = None if exact or generator.const.device.type != "cpu" else native.library()
        self._first = len(generator.layers) if self._library is None else _first_native(generator)
        self.native = self._first < len(generator.layers)
        if not self.native:
            return
        convolutions = [i for i in range(self._first, len(generator.layers)) if not generator.layers[i].to_rgb]
        self._layers = {i: _prepare(generator, i) for i in convolutions}
        self._maps: dict[tuple[int, int, bool], Tensor] = {}
        self._threads = max(1, torch.get_num_threads())
        widest = max(layer.inputs for layer in self._layers.values())
        size = self._library.scratch_size(widest)  # type: ignore[union-attr]
        self._scratch = [torch.empty(size) for _ in range(self._threads)]
        self._workers = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    @torch.no_grad()
    def __call__(self, styles: Sequence[Tensor]) -> NDArray[np.uint8]:
        """Frames, uint8 RGB `[N, R, R, 3]`, of StyleSpace: one `[N, C_l]` a layer."""
        if not self.native:
            return to_bytes(self.generator.synthesis_from_styles(list(styles)))
        images = self.images(styles)
        out = np.empty(images.shape, np.uint8)
        rows = len(images) * images.shape[1]
        step = images.shape[2] * 3

        def convert(worker: int, first: int, last: int) -> None:
            del worker
            begin = first * step
            self._library.to_bytes(images.data_ptr() + 4 * begin, out.ctypes.data + begin, (last - first) * step)  # type: ignore[union-attr]

        self._split(rows, convert)
        return out

    @torch.no_grad()
    def images(self, styles: Sequence[Tensor]) -> Tensor:
        """Float images `[N, R, R, 3]`, nominally in [-1, 1], of StyleSpace."""
        if not self.native:
            return self.generator.synthesis_from_styles(list(styles)).permute(0, 2, 3, 1)
        x, image = self._lower(styles)
        gains = {
            i: _SQRT2 * torch.rsqrt(F.linear(styles[i].square(), layer.energy) + _EPSILON)
            for i, layer in self._layers.items()
        }
        size = self.generator.resolution
        out = torch.empty(len(x), size, size, 3)
        for n in range(len(x)):
            self._frame(
                x[n], image[n], [s[n].contiguous() for s in styles], {i: g[n] for i, g in gains.items()}, out[n]
            )
        return out

    def _lower(self, styles: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The layers with few pixels, by the generator's own modules and for all frames at once: features
        `[N, C, h, w]`, and the RGB sum of the last block whose ToRGB is among them."""
        generator = self.generator
        x = generator.const.expand(len(styles[0]), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        for layer, block, style in list(zip(generator.layers, generator.blocks, styles, strict=True))[: self._first]:
            if layer.to_rgb:
                rgb = block(x, style)
                image = rgb if image is None else upsample_rgb(image) + rgb
            else:
                x = block(x, style)
        assert image is not None
        return x, image

    def _frame(self, x: Tensor, image: Tensor, styles: list[Tensor], gains: dict[int, Tensor], out: Tensor) -> None:
        """The layers with many pixels of one frame: features `[C, h, w]`, RGB `[3, h', w']` -> `out [R, R, 3]`."""
        generator = self.generator
        library, low = self._library, image.permute(1, 2, 0).contiguous()
        features = self._map(x.shape[1], x.shape[0], False)
        features[1:-1, 1:-1] = x.permute(1, 2, 0)
        for i, layer in self._layers.items():
            size = layer.resolution * (2 if layer.up else 1)
            last = size == generator.resolution and not layer.up
            result = None if last else self._map(size, layer.outputs, not layer.up)
            rgb: Tensor | None = None
            rgb_weight: Tensor | None = None
            if not layer.up:
                to_rgb = generator.blocks[i + 1]
                assert isinstance(to_rgb, ToRGB)
                rgb_weight = to_rgb.conv.weight[:, :, 0, 0] * to_rgb.conv.scale * styles[i + 1]
                rgb = out if last else torch.empty(size, size, 3)
                bias = to_rgb.bias.contiguous()

                def upsample(worker: int, first: int, stop: int, low: Tensor = low, rgb: Tensor = rgb) -> None:
                    del worker
                    library.upsample_rgb(  # type: ignore[union-attr]
                        low.data_ptr(), bias.data_ptr(), rgb.data_ptr(), *low.shape[:2], first, stop  # noqa: B023
                    )  # fmt: skip

                self._split(len(low), upsample)
                low = rgb
            self._convolve(layer, features, styles[i], gains[i], rgb_weight, rgb, result)
            if result is not None:
                features = result

    def _convolve(
        self, layer: _Prepared, x: Tensor, style: Tensor, gain: Tensor, rgb_weight: Tensor | None, rgb: Tensor | None,
        y: Tensor | None,
    ) -> None:  # fmt: skip
        def at(tensor: Tensor | None) -> int | None:
            return None if tensor is None else tensor.data_ptr()

        weight = rgb_weight.contiguous() if rgb_weight is not None else None
        clamp = math.inf if self.generator.config.clamp is None else self.generator.config.clamp

        def run(worker: int, first: int, last: int) -> None:
            arguments = native.Layer(
                x.data_ptr(), layer.weight.data_ptr(), style.data_ptr(), gain.data_ptr(), layer.bias.data_ptr(),
                at(layer.noise), at(weight), at(y), at(rgb), self._scratch[worker].data_ptr(), clamp,
                layer.resolution, layer.resolution, layer.inputs, layer.outputs, int(layer.up), first, last,
            )  # fmt: skip
            self._library.synthesis_layer(ctypes.byref(arguments))  # type: ignore[union-attr]

        self._split(layer.resolution // 4, run)

    def _split(self, rows: int, work: Callable[[int, int, int], None]) -> None:
        """`work(worker, first, last)` on parts of the rows, one a thread."""
        if self._workers is None:
            work(0, 0, rows)
            return
        edges = [rows * k // self._threads for k in range(self._threads + 1)]
        list(self._workers.map(work, range(self._threads), edges[:-1], edges[1:]))

    def _map(self, size: int, channels: int, second: bool) -> Tensor:
        """A feature map with its border of zeros, `[size + 2, size + 2, channels]`: the same one every time."""
        key = (size, channels, second)
        if key not in self._maps:
            self._maps[key] = torch.zeros(size + 2, size + 2, channels)
        return self._maps[key]


def _first_native(generator: Generator) -> int:
    """The first layer from which on all convolutions have enough pixels, and widths of whole vectors."""
    first = len(generator.layers)
    for i in reversed(range(len(generator.layers))):
        layer, block = generator.layers[i], generator.blocks[i]
        if layer.to_rgb:
            continue
        assert isinstance(block, SynthesisLayer)
        outputs, inputs = block.conv.weight.shape[:2]
        tiles = (layer.resolution // (8 if block.conv.up else 4)) ** 2
        weight = 36 * 4 * inputs * outputs * (4 if block.conv.up else 1)
        if (
            layer.resolution == 4
            or tiles < FEWEST_TILES
            or weight > WEIGHT_PER_TILE * tiles
            or inputs % 8
            or outputs % 8
        ):
            break
        first = i
    return first


def _prepare(generator: Generator, index: int) -> _Prepared:
    block, layer = generator.blocks[index], generator.layers[index]
    assert isinstance(block, SynthesisLayer)
    weight = (block.conv.weight.detach() * block.conv.scale).float().contiguous()
    noise = None
    if block.has_noise:
        noise = (block.noise_const * (block.noise_strength.detach() * _SQRT2)).float().contiguous()
    return _Prepared(
        index=index,
        resolution=layer.resolution // (2 if block.conv.up else 1),
        up=block.conv.up,
        weight=transformed(phase_kernels(weight) if block.conv.up else weight),
        energy=weight.square().sum((2, 3)),
        bias=(block.bias.detach() * _SQRT2).float().contiguous(),
        noise=noise,
    )
