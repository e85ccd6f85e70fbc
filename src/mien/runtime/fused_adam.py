"""Adam in PyTorch's fused form, without what PyTorch's optimisers import."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam


class FusedAdam(torch.optim.Adam):
    """Adam in one pass over weights, gradients and moments, as they lie in memory: a gradient in another order than its
    weight is put in the weight's, for PyTorch's fused form takes them for the same.

    Its groups and its step are its own: PyTorch's import its compiler first, which takes seconds.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], *, fused: bool) -> None:
        super().__init__(groups, betas=betas, fused=fused)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """A group of `params`, with its `lr` and what else is not the default."""
        self.param_groups.append({**self.defaults, **param_group, "params": list(param_group["params"])})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """No gradients; they are never kept as zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; `closure` is not used."""
        for group in self.param_groups:
            learned = [p for p in group["params"] if p.grad is not None]
            for p in learned:
                if p.grad.stride() != p.stride():
                    p.grad = torch.empty_like(p).copy_(p.grad)
            states = [self._moments(p) for p in learned]
            first, second = group["betas"]
            adam(
                params=learned, grads=[p.grad for p in learned], exp_avgs=[state["exp_avg"] for state in states],
                exp_avg_sqs=[state["exp_avg_sq"] for state in states], max_exp_avg_sqs=[],
                state_steps=[state["step"] for state in states], foreach=False, fused=group["fused"], amsgrad=False,
                beta1=first, beta2=second, lr=group["lr"], weight_decay=0.0, eps=group["eps"], maximize=False,
            )  # fmt: skip

    def _moments(self, p: Tensor) -> dict[str, Tensor]:
        """Adam's state of a tensor, from its first step on."""
        state: dict[str, Tensor] = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        return state
