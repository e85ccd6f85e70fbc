"""Results and gradients of two forms of one function, side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tolerances import FLOAT32_EXACT


def result_and_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """The result, and the gradients for all inputs of a weighted sum of it."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    weights = torch.linspace(-1, 2, out.numel()).view(out.shape)
    return (out.detach(), *torch.autograd.grad((out * weights).sum(), leaves))


def assert_same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...], relative: float = FLOAT32_EXACT) -> None:
    """Each of `found` is its counterpart of `wanted` but for the order of float32 sums, or for a `relative` error."""
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) < relative * max(float(b.abs().max()), 1)
