"""Decoding on a CPU: `Generator.synthesis_from_styles` to bytes, with weights prepared once for a whole clip.

The layers with many pixels run as the compiled functions of `mien.nets.native`: by Winograd's F(4x4, 3x3), or
F(4, 2) for the phases of an upsampling layer, with style, demodulation, noise, bias, leaky ReLU and ToRGB done on the
way; in the largest blocks what is between the two layers never leaves the cache. Feature maps live in buffers that are
made once. The result is that of the generator but for rounding (research/speed.md has the figures); `exact=True`, a
GPU, or a machine without a C compiler take the generator itself.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.media.images import to_bytes
from mien.nets import native
from mien.nets.decoder.memory import zeros_on_huge_pages
from mien.nets.decoder.prepared import (
    FEWEST_TILES,
    SQRT2,
    WinogradConvolution,
    first_native,
    prepare_convolution,
    prepare_small_convolution,
)
from mien.nets.generator import Generator
from mien.nets.stylegan2 import StyleGAN2Generator, ToRGB, upsample_rgb

_EPSILON = 1e-8  # of the demodulation
ROWS_OF_TILES = 8  # for each thread, from which on a block's two layers run in one go,
WEIGHT_IN_CACHE = (
    2_000_000  # if the first one's transformed weight, in bytes (fewer in 16 bits), stays in the cache from row to row
)


class Decoder:
    """Styles to frames. One decoder serves one thread at a time.

    Args:
        generator: a StyleGAN2, or any other, which then draws by itself.
        exact: by the generator itself.
        int16: products of 16-bit integers where the processor has fast ones. Bytes agree to 68 dB in `mini` then.
        threads: as many as PyTorch may use by default.
        compiled: False: as where there is no compiler.
        resolution: of the pictures, by default the generator's own: the RGB sum so far, as `synthesis_from_styles`.
        fewest_tiles, rows_of_tiles: `FEWEST_TILES`, `ROWS_OF_TILES`.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        exact: bool = False,
        int16: bool = False,
        threads: int | None = None,
        compiled: bool = True,
        resolution: int | None = None,
        fewest_tiles: int = FEWEST_TILES,
        rows_of_tiles: int = ROWS_OF_TILES,
    ) -> None:
        self.generator, self._rows_of_tiles = generator, rows_of_tiles
        self.resolution = resolution or generator.resolution
        self._library = None
        drawn = [i for i, layer in enumerate(generator.layers) if layer.resolution <= self.resolution]
        self._first = len(drawn)
        if isinstance(generator, StyleGAN2Generator) and not exact and generator.device.type == "cpu":
            self._library = native.library() if compiled else None
            self._first = self._first if self._library is None else first_native(generator, len(drawn), fewest_tiles)
        self.native = self._first < len(drawn)
        if not self.native:
            return
        assert isinstance(generator, StyleGAN2Generator) and self._library is not None
        self.int16 = int16 and bool(self._library.has_int16())
        convolutions = [i for i in drawn if not generator.layers[i].to_rgb]
        self._small = {i: prepare_small_convolution(generator, i) for i in convolutions if i < self._first}
        self._layers = {i: prepare_convolution(generator, i, self.int16) for i in convolutions if i >= self._first}
        self._energy = {i: layer.energy for i, layer in self._small.items()}
        self._energy |= {i: layer.energy for i, layer in self._layers.items()}
        self._threads = threads or max(1, torch.get_num_threads())
        self._steps = self._in_one_go()
        self.allocate()

    def allocate(self) -> None:
        """Give it buffers and threads of its own; prepared weights are only read, and may be another decoder's too."""
        self._widest: Tensor | None = None
        self._maps: dict[tuple[int, int, bool], Tensor] = {}
        library = self._library
        assert library is not None
        size = library.scratch_size(max(layer.inputs for layer in self._layers.values()))
        between = [library.block_size(2 * s[0].resolution, s[0].outputs) for s in self._steps if len(s) == 2]
        self._scratch = [zeros_on_huge_pages(size) for _ in range(self._threads)]
        self._spaces = [zeros_on_huge_pages(max(between, default=0)) for _ in range(self._threads)]
        self._workers = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    @torch.no_grad()
    def __call__(self, styles: Sequence[Tensor]) -> NDArray[np.uint8]:
        """Frames, uint8 RGB `[N, R, R, 3]`, of StyleSpace: one `[N, C_l]` a layer."""
        if not self.native:
            return to_bytes(self.generator.synthesis_from_styles(list(styles), self.resolution))
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
            return self.generator.synthesis_from_styles(list(styles), self.resolution).permute(0, 2, 3, 1)
        gains = {
            i: SQRT2 * torch.rsqrt(F.linear(styles[i].square(), energy) + _EPSILON)
            for i, energy in self._energy.items()
        }
        x, image = self._lower(styles, gains)
        out = torch.empty(len(x), self.resolution, self.resolution, 3)
        for n in range(len(x)):
            self._frame(
                x[n], image[n], [s[n].contiguous() for s in styles], {i: g[n] for i, g in gains.items()}, out[n]
            )
        return out

    def _in_one_go(self) -> list[tuple[WinogradConvolution, ...]]:
        """The layers in order; an upsampling layer and the next together where each thread has many rows of tiles, for
        rows at the threads' borders are computed twice."""
        steps: list[tuple[WinogradConvolution, ...]] = []
        for layer in self._layers.values():
            before = steps[-1] if steps else ()
            if (
                len(before) == 1
                and before[0].up
                and before[0].resolution // 4 >= self._rows_of_tiles * self._threads
                and before[0].weight.nbytes <= WEIGHT_IN_CACHE
            ):
                steps[-1] = (*before, layer)
            else:
                steps.append((layer,))
        return steps

    def _lower(self, styles: Sequence[Tensor], gains: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        """The layers with few pixels, for all frames at once: features `[N, h, w, C]`, and the RGB sum
        `[N, 3, h', w']` of the last block whose ToRGB is among them."""
        generator = self.generator
        assert isinstance(generator, StyleGAN2Generator)
        x = generator.const.permute(0, 2, 3, 1).expand(len(styles[0]), -1, -1, -1)
        image: Tensor | None = None
        for i, (block, style) in enumerate(zip(generator.blocks, styles, strict=True)):
            if i == self._first:
                break
            if isinstance(block, ToRGB):
                rgb = block(x.permute(0, 3, 1, 2), style)
                image = rgb if image is None else upsample_rgb(image) + rgb
            else:
                x = self._small[i](x * style[:, None, None], gains[i])
                if generator.config.clamp is not None:
                    x = x.clamp(-generator.config.clamp, generator.config.clamp)
        assert image is not None
        return x, image

    def _frame(self, x: Tensor, image: Tensor, styles: list[Tensor], gains: dict[int, Tensor], out: Tensor) -> None:
        """The layers with many pixels of one frame: features `[h, w, C]`, RGB `[3, h', w']` -> `out [R, R, 3]`."""
        low = image.permute(1, 2, 0).contiguous()
        features = self._map(x.shape[0], x.shape[2], False)
        features[1:-1, 1:-1] = x
        for step in self._steps:
            layer = step[-1]
            size = layer.resolution * (2 if layer.up else 1)
            last = size == self.resolution and not layer.up
            result = None if last else self._map(size, layer.outputs, not layer.up)
            rgb: Tensor | None = None
            if not layer.up:
                rgb = low = self._upsampled(low, layer.index + 1, out if last else None)
            self._run(step, features, styles, gains, rgb, result)
            if result is not None:
                features = result

    def _upsampled(self, low: Tensor, index: int, out: Tensor | None) -> Tensor:
        """The RGB sum `[h, w, 3]` at twice its size, in `out` or a new tensor, plus the bias of ToRGB layer `index`."""
        library, to_rgb = self._library, _blocks(self.generator)[index]
        assert library is not None and isinstance(to_rgb, ToRGB)
        rgb = torch.empty(2 * low.shape[0], 2 * low.shape[1], 3) if out is None else out
        bias = to_rgb.bias.contiguous()

        def upsample(worker: int, first: int, stop: int) -> None:
            del worker
            library.upsample_rgb(low.data_ptr(), bias.data_ptr(), rgb.data_ptr(), *low.shape[:2], first, stop)

        self._split(len(low), upsample)
        return rgb

    def _run(
        self, step: tuple[WinogradConvolution, ...], x: Tensor, styles: list[Tensor], gains: dict[int, Tensor], rgb: Tensor | None,
        y: Tensor | None,
    ) -> None:  # fmt: skip
        """A layer, or an upsampling layer and the next in one go, from the feature map `x` to `y` and into `rgb`."""
        library, first_layer, last_layer = self._library, step[0], step[-1]
        assert library is not None
        clamp = math.inf if self.generator.config.clamp is None else self.generator.config.clamp
        at = lambda tensor: None if tensor is None else tensor.data_ptr()
        spread = self._spread_of(first_layer) if first_layer.up and len(step) == 1 else None
        weight: Tensor | None = None
        if not last_layer.up:
            to_rgb = _blocks(self.generator)[last_layer.index + 1]
            assert isinstance(to_rgb, ToRGB)
            weight = (to_rgb.conv.weight[:, :, 0, 0] * to_rgb.conv.scale * styles[last_layer.index + 1]).contiguous()

        def arguments(layer: WinogradConvolution, worker: int, first: int, last: int) -> native.Layer:
            ends = layer is last_layer
            size = layer.resolution * (2 if layer.up else 1)
            return native.Layer(
                x.data_ptr() if layer is first_layer else None, *layer.weights(), styles[layer.index].data_ptr(),
                gains[layer.index].data_ptr(), layer.bias.data_ptr(), at(layer.noise), at(weight) if ends else None,
                at(layer.border), at(y) if ends else None, at(rgb) if ends else None, at(spread),
                self._scratch[worker].data_ptr(), clamp, layer.resolution, layer.resolution, layer.inputs, layer.outputs,
                first, last, layer.resolution + 2, size + 2, size + 2,
            )  # fmt: skip

        def over(function: Callable[..., None]) -> None:
            def run(worker: int, first: int, last: int) -> None:
                function(ctypes.byref(arguments(first_layer, worker, first, last)))

            self._split(first_layer.resolution // 4, run)

        def both(worker: int, first: int, last: int) -> None:
            pair = [ctypes.byref(arguments(layer, worker, first, last)) for layer in step]
            library.block(*pair, self._spaces[worker].data_ptr())

        if len(step) == 2:
            self._split(first_layer.resolution // 4, both)
        elif first_layer.up:
            over(library.spreading_layer)
            over(library.filtering_layer)
        else:
            over(library.convolution_layer)

    def _spread_of(self, layer: WinogradConvolution) -> Tensor:
        """A place for the transposed convolution of an upsampling layer, `[2 H + 2, 2 W + 1, O]`, made once."""
        side = 2 * layer.resolution + 1
        if self._widest is None or self._widest.numel() < (side + 1) * side * layer.outputs:
            self._widest = zeros_on_huge_pages((side + 1) * side * layer.outputs)
        return self._widest

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
            self._maps[key] = zeros_on_huge_pages(size + 2, size + 2, channels)
        return self._maps[key]


def _blocks(generator: Generator) -> nn.ModuleList:
    assert isinstance(generator, StyleGAN2Generator)
    return generator.blocks
