"""EfficientNet's blocks on a CPU, forwards and back to what went in: `native/residual.c`.

Their expanded channels are six times what goes in and comes out, and are read and written several times by PyTorch's
operations, which takes longer than the arithmetic.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mien.nets.native import ResidualBlock, residual_library
from mien.nets.native.panels import COLUMNS, panels

WIDTHS = 4  # pixels: widths of what goes in and comes out are multiples of it


class FixedBlock:
    """A block whose weights stay, as the compiled functions read it. `expand`, a 1x1 convolution or None; `depthwise`;
    `project`, a 1x1 convolution: all with biases."""

    def __init__(self, expand: nn.Conv2d | None, depthwise: nn.Conv2d, project: nn.Conv2d, *, shortcut: bool) -> None:
        self.inner, self.outputs, self._shortcut = depthwise.out_channels, project.out_channels, shortcut
        self.channels = self.inner if expand is None else expand.in_channels
        self.stride, self._kernel = depthwise.stride[0], depthwise.kernel_size[0]
        self._whole_vectors = not (self.inner % COLUMNS or self.channels % 8 or self.outputs % 8)
        out = project.weight.detach().flatten(1)
        self._weights = {
            "taps": depthwise.weight.detach().reshape(self.inner, -1).T.contiguous(),
            "taps_bias": _bias(depthwise),
            "project": _panels(out),
            "project_bias": _bias(project),
            "project_back": _panels(out.T),
        }
        if expand is not None:
            wide = expand.weight.detach().flatten(1)
            more = {"expand": _panels(wide), "expand_bias": _bias(expand), "expand_back": _panels(wide.T)}
            self._weights |= more

    @property
    def structure(self) -> ResidualBlock:
        """residual.c's `Block`: addresses, good for as long as this object lives."""
        addresses = {name: tensor.data_ptr() for name, tensor in self._weights.items()}
        return ResidualBlock(
            **addresses, channels=self.channels, inner=self.inner, outputs=self.outputs, kernel=self._kernel,
            stride=self.stride, shortcut=int(self._shortcut),
        )  # fmt: skip

    def usable(self, x: Tensor) -> bool:
        """Whether the compiled functions can take `x [N, C, H, W]`."""
        return (
            self._whole_vectors
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and x.shape[-1] % (WIDTHS * self.stride) == 0
            and not torch.jit.is_tracing()
            and residual_library() is not None
        )

    def __call__(self, x: Tensor) -> Tensor:
        """`x [N, C, H, W]` -> `[N, O, h, w]`, a pixel's channels side by side."""
        found: Tensor = _Residual.apply(x, self)
        return found


class _Residual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: FixedBlock) -> Tensor:
        library = _library()
        pixels = x.permute(0, 2, 3, 1).contiguous()
        count, height, width, _ = pixels.shape
        h, w = -(-height // block.stride), -(-width // block.stride)
        y, scratch = pixels.new_empty(count, h, w, block.outputs), _scratch(block, pixels)
        learns = ctx.needs_input_grad[0]
        expanded = torch.empty(count if learns else 0, height, width, block.inner, dtype=torch.int8)
        filtered = torch.empty(count if learns else 0, h, w, block.inner, dtype=torch.int8)
        for n in range(count):
            masks = [m[n].data_ptr() for m in (expanded, filtered)] if learns else [None, None]
            library.residual(
                block.structure, pixels[n].data_ptr(), y[n].data_ptr(), *masks, scratch.data_ptr(), height, width
            )
        ctx.save_for_backward(expanded, filtered)
        ctx.block, ctx.shape = block, pixels.shape
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        expanded, filtered = ctx.saved_tensors
        block, (count, height, width, _) = ctx.block, ctx.shape
        g = gradients[0].permute(0, 2, 3, 1).contiguous()
        of_x, scratch = g.new_empty(ctx.shape), _scratch(block, g)
        for n in range(count):
            _library().residual_back(
                block.structure, g[n].data_ptr(), expanded[n].data_ptr(), filtered[n].data_ptr(), of_x[n].data_ptr(),
                scratch.data_ptr(), height, width,
            )  # fmt: skip
        return of_x.permute(0, 3, 1, 2), None


def _library() -> ctypes.CDLL:
    library = residual_library()
    assert library is not None
    return library


def _scratch(block: FixedBlock, like: Tensor) -> Tensor:
    """For maps as wide as what goes in."""
    return like.new_empty(_library().residual_scratch(block.structure, like.shape[2] * block.stride))


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias.detach().float().contiguous()


def _panels(weight: Tensor) -> Tensor:
    """Panels of a product's weights `[O, C]`, with zeros for outputs that are missing to a multiple of 16."""
    return panels(F.pad(weight, (0, 0, 0, -len(weight) % COLUMNS)))
