"""3x3 convolutions that are twice as fast on a CPU, forwards and backwards.

Those of stride 1, with many pixels, are Winograd's with both of their gradients (`native/winograd.c`). Transposed ones
of few pixels are a product for each tap, which leaves the weights where they are; the weights' gradient of others is
`native/convolution.c`'s. Everything else, and all of it where compiled functions cannot be used, is PyTorch's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mien.nets.native import convolution_library, winograd_library
from mien.nets.native.panels import COLUMNS

# From so many pixels on, of all pictures together, transforming the weights costs less than it saves; and from so many
# for each connection between two channels, since large weights do not stay in the cache.
FEWEST_PIXELS, PIXELS_PER_CONNECTION = 512, 1 / 128
VECTOR = 8  # channels
MOST_PIXELS_BY_TAPS = 256  # of a picture: with more, the taps' results cost more memory than PyTorch's own way


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1) -> Tensor:
    """`x [N, I, H, W]` by `weight [O, I, 3, 3]`, plus `bias [O]`, with a border of one zero."""
    if not _usable(x, weight):
        return F.conv2d(x, weight, bias, stride, padding=1)
    if not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)):
        return _convolved(x, weight, bias, stride)
    found: Tensor = _Convolution.apply(x, weight, bias, stride)
    return found


def conv_transpose2d(x: Tensor, weight: Tensor) -> Tensor:
    """`x [N, I, H, W]` by the transposed convolution `weight [I, O, 3, 3]` of stride 2 -> `[N, O, 2H+1, 2W+1]`."""
    by_taps = x.shape[2] * x.shape[3] <= MOST_PIXELS_BY_TAPS
    if not (_usable(x, weight) and (by_taps or (weight.requires_grad and torch.is_grad_enabled()))):
        return F.conv_transpose2d(x, weight, stride=2)
    found: Tensor = (_TransposedByTaps if by_taps else _TransposedConvolution).apply(x, weight)
    return found


class Conv3x3(nn.Conv2d):
    """`nn.Conv2d` of 3x3 with a border of one zero."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        return conv2d(input, self.weight, self.bias, self.stride[0])


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolved(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        g, stride = _channels_last(gradients[0]), ctx.stride
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            mirrored = weight.transpose(0, 1)
            if stride == 1 and _worth_transforming(g, mirrored):
                of_x = winograd(g, mirrored, mirrored=True)
            else:
                of_x = _of_input(g, x, weight, stride, padding=1, transposed=False)
        if ctx.needs_input_grad[1]:
            fast = stride == 1 and _worth_transforming(x, weight)
            of_weight = winograd_weights(g, x, weight) if fast else weight_gradient(g, x, stride, 1, weight)
        of_bias = g.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias, None


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv_transpose2d(x, weight, stride=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        g = _channels_last(gradients[0])
        of_x = _of_input(g, x, weight, 2, padding=0, transposed=True) if ctx.needs_input_grad[0] else None
        return of_x, weight_gradient(x, g, 2, 0, weight)


class _TransposedByTaps(torch.autograd.Function):
    """The same with a product for each tap of the kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        (count, inputs, height, width), outputs = x.shape, weight.shape[1]
        pixels, by_tap = x.permute(0, 2, 3, 1).reshape(-1, inputs), weight.permute(2, 3, 1, 0)
        found = x.new_zeros(count, 2 * height + 1, 2 * width + 1, outputs)
        for row, column, place in _taps_of(found):
            place += (pixels @ by_tap[row, column].T).view(place.shape)
        ctx.save_for_backward(pixels, weight)
        ctx.shape = x.shape
        return found.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        pixels, weight = ctx.saved_tensors
        (count, inputs, height, width), outputs = ctx.shape, weight.shape[1]
        by_tap = weight.permute(2, 3, 1, 0)
        of_x = torch.zeros_like(pixels) if ctx.needs_input_grad[0] else None
        of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for row, column, place in _taps_of(gradients[0].permute(0, 2, 3, 1)):
            g = place.reshape(-1, outputs)
            if of_x is not None:
                of_x.addmm_(g, by_tap[row, column])
            if of_weight is not None:
                torch.mm(g.T, pixels, out=of_weight.permute(2, 3, 1, 0)[row, column])
        if of_x is not None:
            of_x = of_x.view(count, height, width, inputs).permute(0, 3, 1, 2)
        return of_x, of_weight


def _taps_of(found: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Row and column of each tap of a transposed convolution, and the places `[N, H, W, O]` of its result `found [N,
    2H+1, 2W+1, O]` that the tap adds to."""
    height, width = found.shape[1] // 2, found.shape[2] // 2
    for row, column in product(range(3), range(3)):
        yield row, column, found[:, row : row + 2 * height : 2, column : column + 2 * width : 2]


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """The result alone."""
    if stride == 1 and _worth_transforming(x, weight):
        return winograd(x, weight, bias)
    return F.conv2d(x, weight, bias, stride, padding=1)


def _worth_transforming(x: Tensor, weight: Tensor) -> bool:
    """Whether `winograd` is faster, for `x [N, I, H, W]` or the gradient of the result."""
    outputs, inputs = weight.shape[:2]
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    enough = pixels >= max(FEWEST_PIXELS, inputs * outputs * PIXELS_PER_CONNECTION)
    return enough and inputs % VECTOR == 0 and outputs % VECTOR == 0


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, mirrored: bool = False) -> Tensor:
    """`x [N, I, H, W]` by `weight [O, I, 3, 3]`, plus `bias [O]`, with a border of one zero, by F(4x4, 3x3) (Lavin and
    Gray 2016): `[N, O, H, W]`, float32. I and O are multiples of 8. `mirrored`: taps in the opposite order."""
    library = winograd_library()
    assert library is not None
    x = _channels_last(x)
    (count, inputs, height, width), outputs = x.shape, len(weight)
    strides, first = weight.stride(), weight.data_ptr()
    if mirrored:
        first += (2 * strides[2] + 2 * strides[3]) * weight.element_size()
        strides = (*strides[:2], -strides[2], -strides[3])
    transformed = x.new_empty(36 * -(-outputs // COLUMNS) * COLUMNS * inputs)
    library.transform_weight(first, transformed.data_ptr(), outputs, inputs, *strides)
    found = torch.empty(count, outputs, height, width, dtype=x.dtype, memory_format=torch.channels_last)
    scratch = x.new_empty(library.convolution_scratch(inputs, outputs))
    bias = None if bias is None else bias.contiguous()
    library.convolution(
        x.data_ptr(), transformed.data_ptr(), None if bias is None else bias.data_ptr(), found.data_ptr(),
        scratch.data_ptr(), count, height, width, inputs, outputs,
    )  # fmt: skip
    return found


def winograd_weights(g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient for the weight of `winograd`, `[O, I, 3, 3]`, from that for its result, `g [N, O, H, W]`, and what it
    convolved, `x [N, I, H, W]`. It lies in memory as `weight` does."""
    library = winograd_library()
    assert library is not None
    g, x, found = _channels_last(g), _channels_last(x), torch.empty_like(weight)
    (count, inputs, height, width), outputs = x.shape, len(weight)
    scratch = x.new_empty(library.winograd_weights_scratch(inputs, outputs))
    library.winograd_weights(
        x.data_ptr(), g.data_ptr(), found.data_ptr(), scratch.data_ptr(), count, height, width, inputs, outputs,
        *found.stride(),
    )  # fmt: skip
    return found


def weight_gradient(a: Tensor, b: Tensor, step: int, border: int, weight: Tensor) -> Tensor:
    """The sum over pictures n and places (i, j) of `a[n, :, i, j]` by `b[n, :, step * i + y - border, step * j + x -
    border]`: `a [N, A, H, W]`, `b [N, B, h, w]` -> `[A, B, 3, 3]`; `step` is 1 or 2.

    Of a convolution, a is the gradient of its result and b what it convolved; of a transposed one the other way round.
    The result lies in memory as `weight` does.
    """
    library = convolution_library()
    assert library is not None
    a, b = _channels_last(a), _channels_last(b)
    count, outer, height, width = a.shape
    inner = b.shape[1]
    found = torch.empty_like(weight)
    if found.stride(2) != 3 * found.stride(3):
        found = a.new_empty(outer, inner, 3, 3)
    scratch = a.new_empty(library.convolution_weights_scratch(count, height, width, outer, inner, step))
    library.convolution_weights(
        a.data_ptr(), b.data_ptr(), found.data_ptr(), scratch.data_ptr(), count, height, width, outer, *b.shape[2:],
        inner, step, border, *found.stride()[:2], found.stride(3),
    )  # fmt: skip
    return found


def _of_input(g: Tensor, x: Tensor, weight: Tensor, stride: int, *, padding: int, transposed: bool) -> Tensor:
    """PyTorch's gradient for what was convolved."""
    found: Tensor = torch.ops.aten.convolution_backward(
        g, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1, [True, False, False]
    )[0]
    return found


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _usable(x: Tensor, weight: Tensor) -> bool:
    """Whether compiled functions can be used: float32 on a CPU, and a compiler."""
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, weight))
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and convolution_library() is not None
        and winograd_library() is not None
    )
