"""StyleFlow's ODE by compiled functions, with its gradient: `native/flow.c`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mien.nets.native import Flow, flow_library

COLUMNS = 16  # of a panel of weights
MOST_LAYERS = 8
ROWS = 4  # that rows of a state are filled up to, at least


@dataclass(frozen=True)
class PreparedFlow:
    """The layers of a velocity as flow.c reads them: panels of the weights and of their transposes, and biases."""

    weights: tuple[Tensor, ...]
    transposed: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    @staticmethod
    def of(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> PreparedFlow:
        """Of weights `[O, I]`, whose widths are multiples of 16, and biases `[O]`."""
        weights = [w.detach() for w in weights]
        return PreparedFlow(
            tuple(_panels(w) for w in weights),
            tuple(_panels(w.T) for w in weights),
            tuple(b.detach().contiguous() for b in biases),
        )

    @property
    def widths(self) -> list[int]:
        """Of the state, and of what each layer gives."""
        return [self.transposed[0].shape[0] * COLUMNS, *(len(b) for b in self.biases)]

    def arguments(self, bends: Sequence[Tensor], step: float) -> Flow:
        """Those that all functions share; `bends`: each layer's gates and shifts `[2 steps + 1, N, O]`, contiguous."""
        flow = Flow(step=step, layers=len(self.biases), steps=len(bends[0]) // 2, rows=bends[0].shape[1])
        for layer, weight in enumerate(self.weights):
            flow.weight[layer] = weight.data_ptr()
            flow.mirrored[layer] = self.transposed[layer].data_ptr()
            flow.bias[layer] = self.biases[layer].data_ptr()
            flow.gate[layer], flow.shift[layer] = (bend.data_ptr() for bend in bends[2 * layer : 2 * layer + 2])
        flow.width[:] = [*self.widths, *[0] * (MOST_LAYERS - len(self.biases))]
        return flow


def usable(x: Tensor, weights: Sequence[Tensor], bends: Sequence[Tensor]) -> bool:
    """Whether compiled functions can integrate from `x [N, D]`: float32 on a CPU, widths of whole panels, weights that
    are not trained, a compiler."""
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, *weights, *bends))
        and len(weights) <= MOST_LAYERS
        and not any(w.requires_grad or w.shape[0] % COLUMNS or w.shape[1] % COLUMNS for w in weights)
        and not torch.jit.is_tracing()
        and flow_library() is not None
    )


def integrate(x: Tensor, flow: PreparedFlow, bends: Sequence[Tensor], step: float) -> Tensor:
    """The state `x [N, D]` after all steps of RK4, each of length `step`; `bends`: each layer's gate and shift at the times
    that RK4 looks at, `[2 steps + 1, N, O]`."""
    found: Tensor = _Integral.apply(x, flow, step, *bends)
    return found


class _Integral(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, flow: PreparedFlow, step: float, *bends: Tensor) -> Tensor:
        library = flow_library()
        assert library is not None
        bends = tuple(bend.contiguous() for bend in bends)
        differentiated = any(ctx.needs_input_grad)
        arguments = flow.arguments(bends, step)
        kept = x.new_empty(library.flow_kept(ctypes.byref(arguments), differentiated))
        state, scratch = _filled(x), x.new_empty(library.flow_scratch(ctypes.byref(arguments)))
        library.flow_forward(
            ctypes.byref(arguments), state.data_ptr(), kept.data_ptr(), scratch.data_ptr(), differentiated
        )
        if differentiated:
            ctx.save_for_backward(kept, *bends)
            ctx.flow, ctx.step = flow, step
        return state[: len(x)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        library = flow_library()
        assert library is not None
        kept, *bends = ctx.saved_tensors
        found = [torch.zeros_like(bend) for bend in bends]
        arguments = ctx.flow.arguments(bends, ctx.step)
        for layer in range(arguments.layers):
            arguments.of_gate[layer], arguments.of_shift[layer] = (
                gradient.data_ptr() for gradient in found[2 * layer : 2 * layer + 2]
            )
        g, scratch = _filled(gradients[0]), kept.new_empty(library.flow_scratch(ctypes.byref(arguments)))
        library.flow_backward(ctypes.byref(arguments), g.data_ptr(), kept.data_ptr(), scratch.data_ptr())
        return g[: len(gradients[0])], None, None, *found


def _panels(weight: Tensor) -> Tensor:
    """`[O, I]` -> `[O / 16, I, 16]`."""
    return weight.reshape(-1, COLUMNS, weight.shape[1]).transpose(1, 2).contiguous()


def _filled(x: Tensor) -> Tensor:
    """A copy with rows of zeros up to whole groups of `ROWS`."""
    return F.pad(x.detach(), (0, 0, 0, -len(x) % ROWS))
