"""EfficientNet's compiled blocks are PyTorch's function, and so is the gradient for what goes in."""

from __future__ import annotations

import pytest
import torch

from factories.gradients import assert_same, result_and_gradients
from mien.nets import native_residual
from mien.nets.efficientnet_lite import InvertedResidual
from mien.nets.native import residual_library
from tolerances import FLOAT32_EXACT

compiled = pytest.mark.skipif(residual_library() is None, reason="no C compiler here: all is PyTorch's")
KINDS = [(32, 16, 3, 1, 1), (16, 24, 3, 2, 6), (24, 24, 3, 1, 6), (24, 40, 5, 2, 6), (40, 40, 5, 1, 6)]


def block_of(width: int, out: int, kernel: int, stride: int, expansion: int) -> InvertedResidual:
    """With batch normalisations that do something, fused."""
    torch.manual_seed(0)
    block = InvertedResidual(width, out, kernel, stride, expansion)
    for norm in block.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.bias.data.uniform_(-1, 3)
            norm.running_mean.uniform_(-1, 1)
    block.eval().fuse_norms()
    return block.requires_grad_(False)


@compiled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (1, 8), (7, 24), (64, 64)])
def test_blocks(kind: tuple[int, ...], height: int, width: int) -> None:
    block = block_of(*kind)
    fixed = block.fixed
    assert fixed is not None
    for order in (torch.contiguous_format, torch.channels_last):
        x = (3 * torch.randn(2, kind[0], height, width)).contiguous(memory_format=order)
        assert fixed.usable(x)
        ours = result_and_gradients(block, x)
        with torch.no_grad():
            assert torch.equal(block(x), ours[0])
        block.fixed = None
        (y, of_x), (wanted, of_x_wanted) = ours, result_and_gradients(block, x)
        assert_same((y,), (wanted,), 10 * FLOAT32_EXACT)
        # What lies within rounding of ReLU6's corners may have another slope.
        off = of_x - of_x_wanted
        assert float(off.abs().median()) < FLOAT32_EXACT * float(of_x_wanted.abs().max())
        assert float(off.norm()) < 0.01 * float(of_x_wanted.norm())
        block.fixed = fixed


@compiled
def test_other_sizes_and_types_are_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = block_of(24, 40, 5, 2, 6).fixed
    assert fixed is not None and fixed.usable(torch.zeros(1, 24, 5, 16))
    assert not fixed.usable(torch.zeros(1, 24, 5, 12)), "half of it is no multiple of four"
    assert not fixed.usable(torch.zeros(1, 24, 8, 8, dtype=torch.float64))
    monkeypatch.setattr(native_residual, "residual_library", lambda: None)
    assert not fixed.usable(torch.zeros(1, 24, 8, 8))


def test_a_block_whose_norms_are_not_fused_has_no_fixed_weights() -> None:
    assert InvertedResidual(16, 24, 3, 2, 6).fixed is None
