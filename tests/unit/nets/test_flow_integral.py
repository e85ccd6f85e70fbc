"""The compiled integration of StyleFlow gives what PyTorch's gives, with all gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from factories.gradients import assert_same, result_and_gradients
from mien.nets import native, styleflow
from mien.nets.styleflow import FlowConfig, StyleFlow

compiled = pytest.mark.skipif(native.flow_library() is None, reason="no C compiler here: all is PyTorch's")


def random_flow(dim: int = 32, hidden: tuple[int, ...] = (48, 16)) -> StyleFlow:
    torch.manual_seed(0)
    flow = StyleFlow(FlowConfig(dim, hidden, 3, steps=3))
    for parameter in flow.parameters():
        parameter.data = torch.randn_like(parameter) * (
            1.5 / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else 0.3
        )
    return flow.requires_grad_(False)


@pytest.fixture
def by_pytorch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """A function with all of PyTorch's own operations."""

    def of(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*inputs: Tensor) -> Tensor:
            with monkeypatch.context() as patched:
                patched.setattr(styleflow, "usable", lambda *_: False)
                return function(*inputs)

        return run

    return of


@compiled
@pytest.mark.parametrize("rows", [1, 4, 7, 30])
@pytest.mark.parametrize("way", ["to_prior", "from_prior"])
def test_result_and_gradients(rows: int, way: str, by_pytorch: Callable[..., Callable[..., Tensor]]) -> None:
    flow = random_flow()
    x, condition = torch.randn(rows, 32), torch.randn(rows, 3)
    ours = getattr(flow, way)
    wanted = result_and_gradients(by_pytorch(ours), x, condition)
    assert float(wanted[0].std()) > 0.3 and float(wanted[2].abs().max()) > 0.02, "there is something to be compared"
    assert_same(result_and_gradients(ours, x, condition), wanted)
    with torch.no_grad():
        assert_same((ours(x, condition),), wanted[:1])


@compiled
def test_there_and_back() -> None:
    flow = random_flow()
    x, condition = torch.randn(5, 32), torch.randn(5, 3)
    back = flow.from_prior(flow.to_prior(x, condition), condition)
    assert float((back - x).abs().max()) < 2e-2 * float(x.abs().max()), "but for the error of three steps"


@compiled
def test_large_numbers_saturate(by_pytorch: Callable[..., Callable[..., Tensor]]) -> None:
    flow = random_flow()
    x, condition = 300 * torch.randn(4, 32), torch.randn(4, 3)
    assert_same((flow.from_prior(x, condition),), (by_pytorch(flow.from_prior)(x, condition),))


@compiled
def test_weights_that_change_are_read_again(by_pytorch: Callable[..., Callable[..., Tensor]]) -> None:
    flow = random_flow()
    x, condition = torch.randn(4, 32), torch.randn(4, 3)
    flow.to_prior(x, condition)
    with torch.no_grad():
        flow.layers[0].layer.weight.mul_(2)
    assert_same((flow.to_prior(x, condition),), (by_pytorch(flow.to_prior)(x, condition),))


def test_other_widths_and_trained_weights_are_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(styleflow, "integrate", None)  # not called
    random_flow(dim=20).to_prior(torch.randn(2, 20), torch.randn(2, 3))
    flow = random_flow().requires_grad_(True)
    flow.to_prior(torch.randn(2, 32), torch.randn(2, 3)).sum().backward()
    assert flow.layers[0].layer.weight.grad is not None


@compiled
def test_any_order_in_memory(by_pytorch: Callable[..., Callable[..., Tensor]]) -> None:
    flow, condition = random_flow(), torch.randn(8, 3)
    x = torch.randn(32, 8).T
    turned = lambda x, c: flow.to_prior(x, c).T.contiguous()  # whose gradient arrives transposed
    before = x.clone()
    assert_same(result_and_gradients(turned, x, condition), result_and_gradients(by_pytorch(turned), x, condition))
    assert torch.equal(x, before)
