"""The compiled layers of MobileStyleGAN give what PyTorch's give, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from factories.gradients import assert_same, result_and_gradients
from mien.nets import mobile_layers, native
from mien.nets.mobile_layers import modulated_inverse_haar, separable
from mien.nets.mobile_stylegan import MobileGenerator, MobileGeneratorConfig
from tolerances import FLOAT32_NETWORK

pytestmark = pytest.mark.skipif(
    native.separable_library() is None, reason="no C compiler here: layers are PyTorch's own"
)


def both_ways(monkeypatch: pytest.MonkeyPatch, function, *inputs: Tensor) -> None:
    """The result and the gradients of all inputs, compiled and by PyTorch."""
    compiled = result_and_gradients(function, *inputs)
    monkeypatch.setattr(mobile_layers, "usable", lambda *_: False)
    assert_same(compiled, result_and_gradients(function, *inputs))


@pytest.mark.parametrize(("height", "width"), [(4, 4), (7, 9), (1, 3), (16, 6)])
@pytest.mark.parametrize("batch", [1, 3])
def test_separable_layers(monkeypatch, batch, height, width):
    torch.manual_seed(0)
    x, taps, weight = torch.randn(batch, 16, height, width), torch.randn(16, 1, 3, 3), torch.randn(24, 16)
    both_ways(
        monkeypatch, separable, x, taps, weight, torch.randn(batch, 16), torch.randn(24), torch.randn(height, width)
    )


@pytest.mark.parametrize("batch", [1, 2])
def test_the_haar_transform(monkeypatch, batch):
    torch.manual_seed(0)
    both_ways(monkeypatch, modulated_inverse_haar, torch.randn(batch, 32, 3, 5), torch.randn(batch, 32))


def test_only_what_needs_a_gradient_gets_one():
    torch.manual_seed(0)
    parts = [torch.randn(1, 8, 4, 4), torch.randn(8, 1, 3, 3), torch.randn(8, 8), torch.randn(1, 8), torch.randn(8)]
    noise = torch.randn(4, 4)
    for i, part in enumerate(parts):
        leaves = [p.clone() for p in parts]
        leaves[i].requires_grad_()
        (gradient,) = torch.autograd.grad(separable(*leaves, noise).square().sum(), leaves[i])
        assert gradient.shape == part.shape and gradient.abs().max() > 0


def test_the_generator_draws_the_same(monkeypatch):
    torch.manual_seed(0)
    generator = MobileGenerator(MobileGeneratorConfig(w_dim=8, channels=(32, 32, 32, 32), heads=(16, 32)))
    w_plus = torch.randn(2, generator.num_ws, 8)
    for size in generator.sizes:
        with torch.no_grad():
            compiled = generator.at(size).synthesis(w_plus)
            with monkeypatch.context() as patch:
                patch.setattr(mobile_layers, "usable", lambda *_: False)
                plain = generator.at(size).synthesis(w_plus)
        assert compiled.std() > 0 and (compiled - plain).abs().max() < FLOAT32_NETWORK * plain.std()


def test_other_widths_and_types_are_pytorchs(monkeypatch):
    monkeypatch.setattr(mobile_layers.SeparableLayer, "apply", None)
    odd = separable(
        torch.randn(1, 6, 4, 4), torch.randn(6, 1, 3, 3), torch.randn(10, 6), torch.ones(1, 6), torch.zeros(10),
        torch.zeros(4, 4),
    )  # fmt: skip
    assert odd.shape == (1, 10, 4, 4)
    double = separable(*(torch.randn(s, dtype=torch.float64) for s in
                         ((1, 8, 4, 4), (8, 1, 3, 3), (8, 8), (1, 8), (8,), (4, 4))))  # fmt: skip
    assert double.dtype == torch.float64


def test_within_autocast_layers_are_pytorchs():
    """Products are bfloat16 there, which compiled functions would read as float32."""
    torch.manual_seed(0)
    parts = [torch.randn(s) for s in ((1, 8, 4, 4), (8, 1, 3, 3), (8, 8), (1, 8), (8,), (4, 4))]
    exact = separable(*parts)
    with torch.autocast("cpu", torch.bfloat16):
        seen = separable(*parts)
    assert (seen - exact).abs().max() < 0.05 * exact.abs().max()
