"""Adam: PyTorch's numbers, without PyTorch's compiler."""

from __future__ import annotations

import subprocess
import sys

import torch

from mien.runtime.fused_adam import FusedAdam

TRAINS = """
import sys, torch
from mien.runtime.fused_adam import FusedAdam
p = torch.zeros(3, requires_grad=True)
optimiser = FusedAdam([{"params": [p], "lr": 0.1}], (0.9, 0.99), fused=True)
p.sum().backward()
optimiser.step()
optimiser.zero_grad()
assert float(p[0].detach()) < 0 and p.grad is None
print("torch._dynamo" in sys.modules)
"""


def test_the_compiler_is_not_imported() -> None:
    run = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_steps_are_pytorchs() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(4, 5)) for _ in range(2))
    left = torch.nn.Parameter(torch.ones(2))  # without a gradient it stays
    one = FusedAdam([{"params": (p for p in [ours, left]), "lr": 0.1}], (0.8, 0.95), fused=True)
    other = torch.optim.Adam([theirs], 0.1, (0.8, 0.95), fused=True)
    for _ in range(4):
        ours.grad = theirs.grad = torch.randn(4, 5)
        one.step()
        other.step()
    assert torch.equal(ours, theirs) and torch.equal(left, torch.ones(2))
