"""Adam whose convolutions, or their factors of low rank, learn by orthogonalised momentum (Muon, Jordan et al. 2024).

Adam scales each number by itself, so the few directions in which all gradients agree take most of a step. Muon moves a
weight matrix by its momentum with all singular values made one: directions that the loss asks for weakly, and that
carry a person's fine detail, move as far as the strong ones: 1 dB more on a clip in as many steps
(research/personalization.md has the figures). The rest (biases, noise constants, styles, latents, numbers of frames)
keeps Adam.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from mien.runtime.fused_adam import FusedAdam
from mien.runtime.precision import autocast_bf16

# Quintic Newton-Schulz: three rounds of it leave what matters of the spectrum between 0.7 and 1.2.
_ROUNDS = 3
_A, _B, _C = 3.4445, -4.7750, 2.0315
_SMALLEST = 16  # rows: smaller convolutions (to RGB, the first of an encoder) have no spectrum to speak of


def orthogonalised(matrix: Tensor) -> Tensor:
    """`matrix [r, c]` with its singular values made (nearly) equal, and a root mean square of 1, float32.

    All rounds, and both norms, are done on the matrix of products of the smaller side, so the large one is read twice
    only. The last product is in bfloat16 where the device has it.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).float()
    products = x @ x.T
    norm = products.trace().clamp_min(1e-40).sqrt()
    first = gram = products / norm.square()
    total = gram
    for number in range(_ROUNDS):
        turn = torch.addmm(gram, gram, gram, beta=_B, alpha=_C)
        turn.diagonal().add_(_A)
        total = turn @ total if number else turn
        if number < _ROUNDS - 1:
            gram = turn @ gram @ turn
    size = ((total @ first) * total).sum().clamp_min(1e-20).div(matrix.numel()).sqrt()
    with autocast_bf16(matrix.device):
        x = (total / (norm * size)) @ x
    return (x.T if tall else x).float()


# What Muon moves of a group: its 3x3 convolutions, its matrices `[r, c]`, or nothing.
Moved = Literal["convolutions", "matrices", "nothing"]


class Muon(FusedAdam):
    """What a group's `muon` names (`Moved`, by default its convolutions) by Muon at the group's rate times `share`,
    everything else by Adam.

    `share`: the root mean square of a matrix's update, in rates (Adam's own is some 0.2 to 0.6); `momentum`: of
    Muon (Nesterov's); `betas`, `fused`: of Adam. The state of a matrix is one `exp_avg`.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], *, momentum: float, share: float,
        fused: bool,
    ) -> None:  # fmt: skip
        super().__init__(groups, betas, fused=fused)
        self._momentum, self._share = momentum, share

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Adam looks for its `step` in every state; those of matrices have none, and are kept out of its sight here
        too."""
        ours = {p: kept for p, kept in state["state"].items() if kept and "step" not in kept}
        adams = {p: kept for p, kept in state["state"].items() if p not in ours}
        super().__setstate__(state | {"state": defaultdict(dict, adams)})
        self.state.update(ours)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of both; `closure` is not used."""
        matrices: list[tuple[Tensor, Tensor, float]] = []
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and _is_moved(p, group.get("muon", "convolutions")):
                    matrices.append((p, p.grad, group["lr"]))
                    p.grad = None  # out of Adam's sight
        super().step()
        for p, grad, rate in matrices:
            state = self.state[p]
            if "exp_avg" not in state:
                state["exp_avg"] = torch.zeros_like(p)
            mean = state["exp_avg"]
            mean.lerp_(grad, 1 - self._momentum)
            p.add_(_update(grad.lerp(mean, self._momentum)), alpha=-rate * self._share)
            p.grad = grad


def _is_moved(p: Tensor, moved: Moved) -> bool:
    if moved == "matrices":
        return p.ndim == 2
    return moved == "convolutions" and p.ndim == 4 and p.shape[-1] == 3 and min(p.shape[:2]) >= _SMALLEST


def _update(momentum: Tensor) -> Tensor:
    """The orthogonalised momentum of a matrix `[r, c]` or a convolution `[O, I, k, k]`, of its shape."""
    if momentum.ndim == 2:
        return orthogonalised(momentum)
    # Columns in the order in which they lie in memory, which orthogonality does not ask for.
    rows = momentum.permute(0, 2, 3, 1)
    return orthogonalised(rows.reshape(len(rows), -1)).view(rows.shape).permute(0, 3, 1, 2)
