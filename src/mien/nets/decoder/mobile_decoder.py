"""Decoding on a CPU: `MobileGenerator.synthesis_from_styles` to bytes, with weights prepared once for a whole clip.

A block, or two layers of a head, is one compiled function (`native/mobile.c`): Haar transform, depthwise convolutions,
products, noise, bias, leaky ReLU and the picture, on rows that stay in cache. The result is that of the generator but
for rounding; `exact=True`, a GPU, widths that are not whole vectors, or a machine without a C compiler take the
generator itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.media.images import to_bytes
from mien.nets import native
from mien.nets.decoder.memory import zeros_on_huge_pages
from mien.nets.mobile_layers import IMAGE_BANDS, FirstConv, SeparableConv, ToImage, band_order
from mien.nets.mobile_stylegan import MobileGenerator
from mien.nets.native.panels import COLUMNS, INT16_FROM, panels, quantised_panels
from mien.nets.native_layers import SLOPE
from mien.nets.picture_head import PictureHead

Array = NDArray[np.float32]
Styles = Sequence[Array]  # StyleSpace, `[N, C_l]` a layer

APART = 16  # floats between the rows that a product reads
FIRST_PIXELS = 16  # of the 4x4 layer


def picture_rows(rows: Tensor) -> Tensor:
    """What makes the picture's 12 bands, `[12, ..]` sorted by `band_order` -> `[16, ..]`: four bands of red, green,
    blue and zero, halved for the inverse Haar transform."""
    bands = 0.5 * rows.float().reshape(4, 3, -1)
    return F.pad(bands, (0, 0, 0, 1)).reshape(COLUMNS, *rows.shape[1:]).contiguous()


@dataclass(frozen=True)
class _Layer:
    """A separable convolution's constants: `taps [9, C]` times the gain, `weight` in panels, also quantised or None,
    `bias [O]`, `noise [H, W]`. `style` finds in StyleSpace what scales its channels, `[N, C]`."""

    taps: Array
    weight: Tensor
    quantised: tuple[Tensor, Tensor] | None
    bias: Tensor
    noise: Tensor
    style: Callable[[Styles], Array]

    def arguments(self, taps: Array) -> native.MobileLayer:
        """The layer with the taps of one picture: `[9, C]`, times the style."""
        weight16, scale16 = (None, None) if self.quantised is None else (t.data_ptr() for t in self.quantised)
        return native.MobileLayer(
            taps.ctypes.data, self.weight.data_ptr(), weight16, scale16, self.bias.data_ptr(), self.noise.data_ptr(),
            SLOPE, taps.shape[1], len(self.bias),
        )  # fmt: skip


@dataclass(frozen=True)
class _Step:
    """One call of mobile.c's `block`: two layers at a side; before them a Haar transform, if `up` is the layer of
    StyleSpace that scales it; after them the picture, if there is `image`: weights `[16, O]` times the gain, and
    bias."""

    side: int
    up: int | None
    layers: tuple[_Layer, _Layer]
    image: tuple[Array, Tensor] | None

    @property
    def outputs(self) -> int:
        return len(self.layers[1].bias)

    def block(self, taps: Sequence[Array]) -> native.MobileBlock:
        """The step's arguments with the taps of one picture, but for what it reads and writes."""
        block = native.MobileBlock(height=self.side, width=self.side)
        block.first, block.second = (layer.arguments(t) for layer, t in zip(self.layers, taps, strict=True))
        return block


class MobileDecoder:
    """Styles to frames. One decoder serves one thread at a time.

    Args:
        generator: at the size that is to be drawn.
        exact: by the generator itself.
        int16: products of 16-bit integers where the processor has fast ones. Bytes agree to 63 dB or better then.
        threads: as many as PyTorch may use by default.
        compiled: False: as where there is no compiler.
        run: does the work of each of so many workers; a thread for each by default.
    """

    def __init__(
        self,
        generator: MobileGenerator,
        *,
        exact: bool = False,
        int16: bool = False,
        threads: int | None = None,
        compiled: bool = True,
        run: Callable[[Callable[[int], None], int], None] | None = None,
    ) -> None:
        self.generator, self._run_workers = generator, run
        usable = compiled and not exact and generator.device.type == "cpu" and _whole_vectors(generator)
        self._library = native.mobile_library() if usable else None
        self.native = self._library is not None
        if self._library is None:
            return
        self.int16 = int16 and bool(self._library.has_int16())
        self._first = _FirstLayer.of(generator)
        self._steps = _steps(generator, self.int16)
        self._threads = threads or max(1, torch.get_num_threads())
        self.allocate()

    def allocate(self) -> None:
        """Give it buffers and threads of its own; prepared weights are only read, and may be another decoder's too."""
        self._maps = [
            None if step.image is not None else zeros_on_huge_pages(step.side, step.side, step.outputs)
            for step in self._steps
        ]
        self._workers = ThreadPoolExecutor(self._threads) if self._threads > 1 and self._run_workers is None else None
        assert self._library is not None
        blocks = [step.block([layer.taps for layer in step.layers]) for step in self._steps]
        size = max(self._library.block_size(ctypes.byref(block)) for block in blocks)
        self._spaces = [zeros_on_huge_pages(size) for _ in range(self._threads)]

    @torch.no_grad()
    def __call__(self, styles: Sequence[Tensor]) -> NDArray[np.uint8]:
        """Frames, uint8 RGB `[N, R, R, 3]`, of StyleSpace: one `[N, C_l]` a layer."""
        if not self.native:
            return to_bytes(self.generator.synthesis_from_styles(list(styles)))
        size = self.generator.resolution
        out = np.empty((len(styles[0]), size, size, 3), np.uint8)
        self._run(styles, len(self._steps), out)
        return out

    @torch.no_grad()
    def images(self, styles: Sequence[Tensor]) -> Tensor:
        """Float images `[N, R, R, 3]`, nominally in [-1, 1], of StyleSpace."""
        if not self.native:
            return self.generator.synthesis_from_styles(list(styles)).permute(0, 2, 3, 1)
        size = self.generator.resolution
        out = np.empty((len(styles[0]), size, size, 3), np.float32)
        self._run(styles, len(self._steps), out)
        return torch.from_numpy(out)

    @torch.no_grad()
    def features(self, styles: Sequence[Tensor], block: int) -> Tensor:
        """The features of block `block`, as `MobileGenerator.features` has them: `[N, C, H, W]`, channels last in
        memory, sorted by `band_order`. Raises ValueError for a block that this decoder draws the picture from or
        lacks."""
        if not self.native:
            return self.generator.features(list(styles), block)
        inner = [step for step in self._steps if step.up is not None and step.image is None]
        if not 0 <= block < len(inner):
            raise ValueError(f"this decoder has the features of blocks 0 to {len(inner) - 1}, not of {block}")
        side, outputs = inner[block].side, inner[block].outputs
        out = np.empty((len(styles[0]), side, side, outputs), np.float32)
        self._run(styles, block + 1, out)
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def _run(self, styles: Sequence[Tensor], steps: int, out: NDArray) -> None:
        """The first so many steps for each picture: `out [N, ..]` becomes the pictures, or the last step's features."""
        arrays = [np.ascontiguousarray(style.detach().float().numpy()) for style in styles]
        first = self._first_maps(arrays)
        scales = [[layer.style(arrays) for layer in step.layers] for step in self._steps[:steps]]
        for n in range(len(first)):
            x = first[n]
            for i in range(steps):
                x = self._call(i, x, [s[n] for s in arrays], [s[n] for s in scales[i]], out[n])
            if self._steps[steps - 1].image is None:
                out[n] = x.numpy()

    def _first_maps(self, styles: Styles) -> Tensor:
        """The 4x4 layer of all pictures, `[N, 4, 4, C]`."""
        first, library = self._first, self._library
        assert library is not None
        x = first.inputs(styles[0])
        out = torch.empty(len(x), 4, 4, len(first.bias))
        noise = first.noise.repeat(len(x))
        layer = native.MobileLayer(
            None, first.weight.data_ptr(), None, None, first.bias.data_ptr(), noise.data_ptr(), SLOPE,
            x.shape[2] - APART, len(first.bias),
        )  # fmt: skip
        following = ctypes.c_int32(0)

        def work(worker: int) -> None:
            del worker
            library.panels_of(
                ctypes.byref(layer), x.ctypes.data, x.shape[2], len(x) * FIRST_PIXELS, out.data_ptr(),
                ctypes.addressof(following),
            )  # fmt: skip

        self._together(work)
        return out

    def _call(self, index: int, x: Tensor, styles: Styles, scales: Styles, out: NDArray) -> Tensor:
        """Step `index` of one picture, from features `x [h, w, C]` to the next, or into `out [R, R, 3]`. `styles`: one
        `[C_l]` a layer; `scales`: of the step's layers. Returns the features that there are after it."""
        library, step, y = self._library, self._steps[index], self._maps[index]
        assert library is not None
        taps = [layer.taps * scale for layer, scale in zip(step.layers, scales, strict=True)]
        block = step.block(taps)
        block.x = x.data_ptr()
        if step.up is not None:
            up = 0.5 * styles[step.up][band_order(x.shape[2]).numpy()]
            block.up = up.ctypes.data
        if step.image is not None:
            weight = panels(torch.from_numpy(step.image[0] * styles[-1]))
            block.image = native.MobileLayer(
                None, weight.data_ptr(), None, None, step.image[1].data_ptr(), None, 1.0, step.outputs, COLUMNS
            )
            setattr(block, "bytes" if out.dtype == np.uint8 else "picture", out.ctypes.data)
        if y is not None:
            block.y = y.data_ptr()
        shares = _shares(step.side, self._threads)

        def work(worker: int) -> None:
            space = self._spaces[worker].data_ptr()
            library.block(ctypes.byref(block), shares.ctypes.data, len(shares), worker, space)

        self._together(work)
        return x if y is None else y

    def _together(self, work: Callable[[int], None]) -> None:
        """`work(worker)` by every thread."""
        if self._run_workers is not None:
            self._run_workers(work, self._threads)
        elif self._workers is None:
            work(0)
        else:
            list(self._workers.map(work, range(self._threads)))


@dataclass(frozen=True)
class _FirstLayer:
    """The dense 3x3 convolution of the constant, as one product: `around [C, 9, 16]`, the constant's neighbourhoods
    times the gain; `weight` in panels of depth 9 C; `bias [O]`; `noise [16]`."""

    around: Array
    weight: Tensor
    bias: Tensor
    noise: Tensor

    @staticmethod
    def of(generator: MobileGenerator) -> _FirstLayer:
        layer = cast("FirstConv", generator.blocks[0])
        order = band_order(len(layer.bias))
        around = F.unfold(generator.const.detach().float(), 3, padding=1).view(-1, 9, FIRST_PIXELS) * layer.gain
        return _FirstLayer(
            around=around.numpy(),
            weight=panels(layer.weight.detach()[order].flatten(1)),
            bias=layer.bias.detach()[order].float().contiguous(),
            noise=layer.noise_const.detach().float().reshape(-1).contiguous(),
        )

    def inputs(self, style: Array) -> Array:
        """What the product reads for styles `[N, C]`: `[N, 16, 9 C + APART]`."""
        n, deep = len(style), 9 * len(self.around)
        out = np.zeros((n, FIRST_PIXELS, deep + APART), np.float32)
        for i in range(n):
            out[i, :, :deep] = (self.around * style[i, :, None, None]).reshape(deep, FIRST_PIXELS).T
        return out


def _whole_vectors(generator: MobileGenerator) -> bool:
    """Whether all widths suit mobile.c: 8 channels a vector, four bands before a transform, 16 outputs."""
    *inner, last = generator.config.channels
    return all(width % 32 == 0 for width in inner) and last % COLUMNS == 0


def _steps(generator: MobileGenerator, int16: bool) -> list[_Step]:
    """All blocks; or those up to a head's features, and the head's layers two by two."""
    config, size = generator.config, generator.resolution
    if size == config.resolution:
        return [_block_step(generator, k, int16) for k in range(config.blocks)]
    steps = [_block_step(generator, k, int16) for k in range(config.head_blocks[size] + 1)]
    return steps + _head_steps(cast("PictureHead", generator.heads[str(size)]), int16)


def _block_step(generator: MobileGenerator, k: int, int16: bool) -> _Step:
    layer, last = 1 + 3 * k, k + 1 == generator.config.blocks
    first, second = (cast("SeparableConv", generator.blocks[layer + i]) for i in (1, 2))
    sort = torch.arange(len(second.bias)) if last else band_order(len(second.bias))
    image = None
    if last:
        final, order = cast("ToImage", generator.blocks[-1]), band_order(IMAGE_BANDS)
        image = _image(final.weight[order], final.bias[order], final.gain)

    def prepared(conv: SeparableConv, rows: Tensor, at: int) -> _Layer:
        weight, bias = conv.weight[rows], conv.bias[rows]
        return _layer((conv.depthwise, weight, bias, conv.noise_const), conv.gain, lambda styles: styles[at], int16)

    layers = prepared(first, torch.arange(len(first.bias)), layer + 1), prepared(second, sort, layer + 2)
    return _Step(8 * 2**k, layer, layers, image)


def _head_steps(head: PictureHead, int16: bool) -> list[_Step]:
    """A head's layers. What scales the first of a pair is its block's `up` style times the `conv1` style, for each
    band."""
    steps = []
    for i in range(0, len(head.gains), 2):
        at = 1 + 3 * (head.block + 1 + i // 2)
        order = band_order(len(head.depthwise[i])).numpy()

        def bands(styles: Styles, at: int = at, order: NDArray = order) -> Array:
            return styles[at][:, order] * np.tile(styles[at + 1], (1, 4))

        def second(styles: Styles, at: int = at) -> Array:
            return styles[at + 2]

        first_layer, second_layer = (
            _layer((head.depthwise[j], head.weight[j], head.bias[j], head.noise_const[j]), head.gains[j], style, int16)
            for j, style in ((i, bands), (i + 1, second))
        )
        last = i + 2 == len(head.gains)
        image = _image(head.image_weight, head.image_bias, head.image_gain) if last else None
        steps.append(_Step(8 * 2**head.block, None, (first_layer, second_layer), image))
    return steps


def _layer(
    parameters: tuple[Tensor, Tensor, Tensor, Tensor], gain: float, style: Callable[[Styles], Array], int16: bool
) -> _Layer:
    """A layer from its parameters: depthwise `[C, 1, 3, 3]`, pointwise `[O, C, 1, 1]`, bias `[O]`, noise `[H, W]`."""
    depthwise, weight, bias, noise = (p.detach().float() for p in parameters)
    matrix = weight[:, :, 0, 0]
    return _Layer(
        taps=(depthwise.reshape(-1, 9).T * gain).contiguous().numpy(),
        weight=panels(matrix),
        quantised=quantised_panels(matrix) if int16 and matrix.shape[1] >= INT16_FROM else None,
        bias=bias.contiguous(),
        noise=noise.contiguous(),
        style=style,
    )


def _image(weight: Tensor, bias: Tensor, gain: float) -> tuple[Array, Tensor]:
    """The picture's weights times the gain, `[12, O, 1, 1]` -> `[16, O]`, and bias, `[12]` -> `[16]`."""
    return picture_rows(weight.detach()[:, :, 0, 0] * gain).numpy(), picture_rows(bias.detach())


def _shares(rows: int, threads: int) -> NDArray[np.int64]:
    """Each thread's rows, first * 2^32 + end, all even."""
    edges = [rows // 2 * k // threads * 2 for k in range(threads + 1)]
    return np.array([(first << 32) + end for first, end in pairwise(edges)], np.int64)
