"""Muon: what it does to convolutions, and that the rest is left to Adam."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mien.personalize.muon import Muon, orthogonalised
from mien.runtime.fused_adam import FusedAdam


@pytest.mark.parametrize("shape", [(24, 90), (90, 24), (32, 32)])
def test_all_directions_move_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    steep = torch.randn(shape) * torch.logspace(0, -1.5, shape[1])
    before, after = torch.linalg.svdvals(steep), torch.linalg.svdvals(orthogonalised(steep))
    assert before[0] / before[len(before) // 2] > 2.5
    assert after[0] / after[len(after) // 2] < 1.6
    assert float(orthogonalised(steep).square().mean()) == pytest.approx(1, abs=0.02)
    assert float((orthogonalised(steep) * steep).sum()) > 0
    assert torch.isfinite(orthogonalised(torch.zeros(shape))).all()


def parameters(seed: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    shapes = [(16, 16, 3, 3), (8, 16, 3, 3), (16, 16, 1, 1), (5, 7), (9,)]
    return [torch.randn(s).requires_grad_(True) for s in shapes]


def test_only_convolutions_leave_adam() -> None:
    ours, plain = parameters(), parameters()
    one = Muon([{"params": ours, "lr": 0.01}], (0.5, 0.99), momentum=0.9, share=0.3, fused=False)
    other = torch.optim.Adam(plain, lr=0.01, betas=(0.5, 0.99))
    for step in range(3):
        for p, q, g in zip(ours, plain, parameters(step + 1), strict=True):
            p.grad, q.grad = g.detach().clone(), g.detach().clone()
        start = ours[0].detach().clone()
        one.step()
        other.step()
        moved = (ours[0].detach() - start).square().mean().sqrt()
        assert float(moved) == pytest.approx(0.01 * 0.3, rel=0.01)
        assert ours[0].grad is not None, "gradients are left for others to read"
    for p, q in zip(ours[1:], plain[1:], strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(ours[0], plain[0])
    assert set(one.state[ours[0]]) == {"exp_avg"}


@pytest.mark.parametrize("moved", ["convolutions", "matrices", "nothing"])
def test_what_a_group_has_moved(moved: str) -> None:
    convolution, matrix, plane = (torch.zeros(s, requires_grad=True) for s in ((16, 16, 3, 3), (3, 40), (40,)))
    for p in (convolution, matrix, plane):
        p.grad = torch.zeros_like(p)
        p.grad[:1] = 1.0
    groups = [{"params": [convolution, matrix, plane], "lr": 0.1, "muon": moved}]
    optimiser = Muon(groups, (0.5, 0.99), momentum=0.9, share=0.3, fused=False)
    optimiser.step()
    by_muon = {"convolutions": [convolution], "matrices": [matrix], "nothing": []}[moved]
    assert [p for p in (convolution, matrix, plane) if "step" not in optimiser.state[p]] == by_muon
    for p in by_muon:
        assert float(p.detach().square().mean().sqrt()) == pytest.approx(0.1 * 0.3, rel=0.05)


def test_a_run_goes_on_from_its_saved_state() -> None:
    whole, halves = parameters(), parameters()
    make = lambda p: Muon([{"params": p, "lr": 0.01}], (0.5, 0.99), momentum=0.9, share=0.3, fused=True)
    one, other = make(whole), make(halves)
    for step in range(4):
        if step == 2:
            kept, other = other.state_dict(), make(halves)
            other.load_state_dict(kept)
        for p, q, g in zip(whole, halves, parameters(step + 1), strict=True):
            p.grad, q.grad = g.detach().clone(), g.detach().clone()
        one.step()
        other.step()
    assert all(torch.equal(p, q) for p, q in zip(whole, halves, strict=True))


def test_weak_directions_are_learned_sooner() -> None:
    torch.manual_seed(0)
    mix = torch.linalg.qr(torch.randn(16, 16)).Q * torch.logspace(0, -2, 16)
    images = torch.einsum("nchw,cd->ndhw", torch.randn(8, 16, 12, 12), mix.T)
    truth = torch.randn(16, 16, 3, 3) * 0.1
    wanted = F.conv2d(images, truth, padding=1)

    def left(make: object) -> float:
        weight = torch.zeros(16, 16, 3, 3, requires_grad=True)
        optimiser = make(weight)  # type: ignore[operator]
        for number in range(80):
            optimiser.param_groups[0]["lr"] = 0.02 * (1 - number / 80)
            loss = (F.conv2d(images, weight, padding=1) - wanted).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return float((weight.detach() - truth).square().mean() / truth.square().mean())

    adam = left(lambda w: torch.optim.Adam([w], lr=0.02, betas=(0.5, 0.99)))
    muon = left(lambda w: Muon([{"params": [w], "lr": 0.02}], (0.5, 0.99), momentum=0.9, share=0.3, fused=False))
    assert muon < 0.8 * adam


@pytest.mark.parametrize("kind", [FusedAdam, Muon])
def test_a_gradient_in_another_order_in_memory_is_the_same_gradient(kind: type[FusedAdam]) -> None:
    more = {"momentum": 0.9, "share": 0.5} if kind is Muon else {}
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        p, gradient = torch.randn(4, 6, 3, 3), torch.randn(4, 6, 3, 3)
        p = torch.nn.Parameter(p.contiguous(memory_format=layout))
        p.grad = gradient.clone()
        kind([{"params": [p], "lr": 0.1}], (0.9, 0.99), fused=True, **more).step()
        found.append(p.detach().contiguous())
    torch.testing.assert_close(*found)
