"""StyleFlow's ODE by compiled functions, with its gradient: `native/flow.c`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mien.nets.native import MOST_LAYERS, Flow, flow_library
from mien.nets.native.panels import COLUMNS, panels

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
            tuple(panels(w) for w in weights),
            tuple(panels(w.T) for w in weights),
            tuple(b.detach().contiguous() for b in biases),
        )

    @property
    def widths(self) -> list[int]:
        """Of the state, and of what each layer gives."""
        return [self.transposed[0].shape[0] * COLUMNS, *(len(b) for b in self.biases)]

    def arguments(self, modulations: Sequence[Tensor], step: float) -> Flow:
        """Those that all functions share; `modulations`: each layer's gates and shifts `[2 steps + 1, N, O]`, contiguous."""
        flow = Flow(step=step, layers=len(self.biases), steps=len(modulations[0]) // 2, rows=modulations[0].shape[1])
        for layer, weight in enumerate(self.weights):
            flow.weight[layer] = weight.data_ptr()
            flow.transposed[layer] = self.transposed[layer].data_ptr()
            flow.bias[layer] = self.biases[layer].data_ptr()
            flow.gate[layer], flow.shift[layer] = (
                modulation.data_ptr() for modulation in modulations[2 * layer : 2 * layer + 2]
            )
        flow.width[:] = [*self.widths, *[0] * (MOST_LAYERS - len(self.biases))]
        return flow


def usable(x: Tensor, weights: Sequence[Tensor], modulations: Sequence[Tensor]) -> bool:
    """Whether compiled functions can integrate from `x [N, D]`: float32 on a CPU, widths of whole panels, weights that
    are not trained, a compiler."""
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, *weights, *modulations))
        and len(weights) <= MOST_LAYERS
        and not any(w.requires_grad or w.shape[0] % COLUMNS or w.shape[1] % COLUMNS for w in weights)
        and not torch.jit.is_tracing()
        and flow_library() is not None
    )


def integrate(x: Tensor, flow: PreparedFlow, modulations: Sequence[Tensor], step: float) -> Tensor:
    """The state `x [N, D]` after all steps of RK4, each of length `step`; `modulations`: each layer's gates and shifts at the
    times at which RK4 evaluates the velocity, `[2 steps + 1, N, O]`."""
    found: Tensor = _Integral.apply(x, flow, step, *modulations)
    return found


class _Integral(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, flow: PreparedFlow, step: float, *modulations: Tensor) -> Tensor:
        library = flow_library()
        assert library is not None
        modulations = tuple(modulation.contiguous() for modulation in modulations)
        differentiated = any(ctx.needs_input_grad)
        arguments = flow.arguments(modulations, step)
        saved = x.new_empty(library.flow_saved(ctypes.byref(arguments), differentiated))
        state, scratch = _filled(x), x.new_empty(library.flow_scratch(ctypes.byref(arguments)))
        library.flow_forward(
            ctypes.byref(arguments), state.data_ptr(), saved.data_ptr(), scratch.data_ptr(), differentiated
        )
        if differentiated:
            ctx.save_for_backward(saved, *modulations)
            ctx.flow, ctx.step = flow, step
        return state[: len(x)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        library = flow_library()
        assert library is not None
        saved, *modulations = ctx.saved_tensors
        found = [torch.zeros_like(modulation) for modulation in modulations]
        arguments = ctx.flow.arguments(modulations, ctx.step)
        for layer in range(arguments.layers):
            arguments.of_gate[layer], arguments.of_shift[layer] = (
                gradient.data_ptr() for gradient in found[2 * layer : 2 * layer + 2]
            )
        g, scratch = _filled(gradients[0]), saved.new_empty(library.flow_scratch(ctypes.byref(arguments)))
        library.flow_backward(ctypes.byref(arguments), g.data_ptr(), saved.data_ptr(), scratch.data_ptr())
        return g[: len(gradients[0])], None, None, *found


def _filled(x: Tensor) -> Tensor:
    """A contiguous copy with rows of zeros up to whole groups of `ROWS`."""
    filled = x.new_zeros(-(-len(x) // ROWS) * ROWS, x.shape[1])
    filled[: len(x)] = x.detach()
    return filled
