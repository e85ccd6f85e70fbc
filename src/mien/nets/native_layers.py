"""MobileStyleGAN's layers on a CPU with gradients: `native/separable.c` between products by PyTorch.

What they compute is in `mien.nets.mobile_layers`, which calls them where `usable` says so. A style multiplies channels,
so it commutes with a depthwise convolution: it is part of the taps, and one product serves all pictures of a batch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mien.nets.native import separable_library

TAPS = 9
VECTOR = 8  # channels
SLOPE = 0.2  # of the leaky ReLU for negative numbers


def usable(widths: Sequence[int], *tensors: Tensor) -> bool:
    """Whether compiled functions can work on `tensors` with feature maps of these `widths`: float32 on a CPU, whole
    vectors, a C compiler. Not within autocast, where the products between them are not float32."""
    return (
        all(width % VECTOR == 0 for width in widths)
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and separable_library() is not None
    )


def _library() -> ctypes.CDLL:
    library = separable_library()
    assert library is not None
    return library


def _pixels(x: Tensor) -> Tensor:
    """`[N, C, H, W]` as it lies in memory with channels last: `[N, H, W, C]`, contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


def _depthwise(x: Tensor, taps: Tensor) -> Tensor:
    """`x [N, H, W, C]`, `taps [N, 9, C]` -> `[N, H, W, C]`."""
    n, height, width, channels = x.shape
    y, zeros = torch.empty_like(x), x.new_zeros(width, channels)
    _library().depthwise(x.data_ptr(), taps.data_ptr(), zeros.data_ptr(), y.data_ptr(), n, height, width, channels)
    return y


class SeparableLayer(torch.autograd.Function):
    """A modulated depthwise 3x3 and pointwise convolution, bias, noise and leaky ReLU.

    `x [N, I, H, W]`, `taps [I, 1, 3, 3]`, `weight [O, I]`, `style [N, I]`, `bias [O]`, `noise [H, W]` -> `[N, O, H, W]`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, taps: Tensor, weight: Tensor, style: Tensor, bias: Tensor, noise: Tensor
    ) -> Tensor:
        pixels, nine = _pixels(x), taps.reshape(-1, TAPS).T
        n, height, width, channels = pixels.shape
        filtered = _depthwise(pixels, (nine * style[:, None]).contiguous())
        y = filtered.view(-1, channels) @ weight.T
        bias, noise = bias.contiguous(), noise.contiguous()
        _library().activate(y.data_ptr(), bias.data_ptr(), noise.data_ptr(), SLOPE, n, height * width, len(bias))
        y = y.view(n, height, width, -1)
        needs = ctx.needs_input_grad
        kept_x = pixels if needs[1] or needs[3] else None
        ctx.save_for_backward(kept_x, nine, weight, style, filtered if needs[2] else None, y)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, nine, weight, style, filtered, y = ctx.saved_tensors
        needs_x, needs_taps, needs_weight, needs_style, needs_bias, needs_noise = ctx.needs_input_grad
        of_y = _pixels(gradients[0])
        n, height, width, outputs = y.shape
        channels = weight.shape[1]
        g = torch.empty_like(of_y)
        of_bias = y.new_zeros(outputs) if needs_bias else None
        of_noise = y.new_zeros(height, width) if needs_noise else None
        _library().activate_backward(
            y.data_ptr(), of_y.data_ptr(), SLOPE, g.data_ptr(), _address(of_bias), _address(of_noise),
            n, height * width, outputs,
        )  # fmt: skip
        g = g.view(-1, outputs)
        of_weight = g.T @ filtered.view(-1, channels) if needs_weight else None
        of_x = of_taps = of_style = None
        if needs_x or needs_taps or needs_style:
            of_filtered = (g @ weight).view(n, height, width, channels)
            if needs_taps or needs_style:
                sums, zeros = y.new_zeros(n, TAPS, channels), y.new_zeros(width, channels)
                _library().depthwise_taps(
                    x.data_ptr(), of_filtered.data_ptr(), zeros.data_ptr(), sums.data_ptr(), n, height, width, channels
                )
                of_style = (sums * nine).sum(1) if needs_style else None
                of_taps = (sums * style[:, None]).sum(0).T.reshape(channels, 1, 3, 3) if needs_taps else None
            if needs_x:
                of_x = _depthwise(of_filtered, (nine.flip(0) * style[:, None]).contiguous()).permute(0, 3, 1, 2)
        return of_x, of_taps, of_weight, of_style, of_bias, of_noise


class InverseHaar(torch.autograd.Function):
    """The inverse Haar transform of bands `x [N, 4 * C, H, W]` times `scale [N, 4 * C]` -> `[N, C, 2H, 2W]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        pixels, scale = _pixels(x), scale.contiguous()
        n, height, width, bands = pixels.shape
        y = pixels.new_empty(n, 2 * height, 2 * width, bands // 4)
        _library().inverse_haar(pixels.data_ptr(), scale.data_ptr(), y.data_ptr(), n, height, width, bands // 4)
        ctx.save_for_backward(pixels, scale)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale = ctx.saved_tensors
        n, height, width, bands = x.shape
        of_y, of_x = _pixels(gradients[0]), torch.empty_like(x)
        of_scale = torch.zeros_like(scale) if ctx.needs_input_grad[1] else None
        _library().inverse_haar_backward(
            x.data_ptr(), scale.data_ptr(), of_y.data_ptr(), of_x.data_ptr(), _address(of_scale), n, height, width,
            bands // 4,
        )  # fmt: skip
        return of_x.permute(0, 3, 1, 2), of_scale


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
