"""Convolutions with compiled gradients give what PyTorch's give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from factories.gradients import assert_same, result_and_gradients
from mien.nets import convolution, native
from mien.nets.convolution import FEWEST_PIXELS, Conv3x3, conv2d, conv_transpose2d, winograd, winograd_weights
from tolerances import FLOAT32_EXACT, WINOGRAD_RELATIVE

compiled = pytest.mark.skipif(native.convolution_library() is None, reason="no C compiler here: all is PyTorch's")


def same(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Result and gradients of two functions of pictures and what convolves them."""
    pixels = len(inputs[0]) * inputs[0].shape[-1] * inputs[0].shape[-2]
    relative = WINOGRAD_RELATIVE if pixels >= FEWEST_PIXELS else FLOAT32_EXACT
    assert_same(result_and_gradients(ours, *inputs), result_and_gradients(theirs, *inputs), relative)


@compiled
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (7, 9), (3, 300), (40, 33)])
@pytest.mark.parametrize(("count", "inputs", "outputs"), [(1, 8, 4), (3, 16, 24), (2, 3, 5), (5, 20, 1)])
def test_convolutions(count: int, inputs: int, outputs: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(count, inputs, height, width), torch.randn(outputs, inputs, 3, 3)
    for stride in (1, 2):
        same(
            lambda x, w, b, s=stride: conv2d(x, w, b, s), lambda x, w, b, s=stride: F.conv2d(x, w, b, s, padding=1),
            x, weight, torch.randn(outputs),
        )  # fmt: skip
    same(conv_transpose2d, lambda x, w: F.conv_transpose2d(x, w, stride=2), x, weight.transpose(0, 1).contiguous())


@compiled
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (9, 7), (23, 41), (64, 16)])
@pytest.mark.parametrize(("count", "inputs", "outputs"), [(1, 8, 8), (3, 16, 24), (2, 136, 72)])
def test_winograd(count: int, inputs: int, outputs: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    x, bias = torch.randn(count, inputs, height, width), torch.randn(outputs)
    weight = torch.randn(outputs, inputs, 3, 3)
    for order in (torch.contiguous_format, torch.channels_last):
        wanted = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
        w = weight.contiguous(memory_format=order)
        error = (winograd(x, w, bias) - wanted).abs().max() / wanted.abs().max()
        turned = (winograd(x, w.flip(2, 3), bias, mirrored=True) - wanted).abs().max() / wanted.abs().max()
        assert max(float(error), float(turned)) < WINOGRAD_RELATIVE
        g = torch.randn_like(wanted)
        learned = conv2d_weight(x.double(), weight.shape, g, padding=1)
        found = winograd_weights(g.float(), x, w)
        assert found.stride() == w.stride()
        assert float((found - learned).abs().max() / learned.abs().max()) < WINOGRAD_RELATIVE


@compiled
def test_pictures_are_large_enough_for_winograd_in_what_is_tested_here() -> None:
    assert convolution._worth_transforming(torch.zeros(1, 16, 40, 33), torch.zeros(24, 16, 3, 3))


@compiled
def test_any_order_in_memory() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    transposed = torch.randn(8, 16, 3, 3).transpose(0, 1)
    same(lambda x, w: conv2d(x, w, None), lambda x, w: F.conv2d(x, w, padding=1), x, transposed)
    same(
        lambda x, w: conv_transpose2d(x, w.transpose(0, 1)),
        lambda x, w: F.conv_transpose2d(x, w.transpose(0, 1), stride=2), x, transposed,
    )  # fmt: skip


@compiled
def test_only_what_needs_a_gradient_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(1, 8, 5, 5), torch.randn(8, 8, 3, 3)
    (of_weight,) = torch.autograd.grad(conv2d(x, weight.requires_grad_(), None).sum(), weight)
    assert of_weight.shape == weight.shape
    monkeypatch.setattr(convolution, "weight_gradient", None)  # not asked for, not called
    x.requires_grad_()
    (of_x,) = torch.autograd.grad(conv2d(x, weight.detach(), None).sum(), x)
    assert of_x.shape == x.shape
    with torch.no_grad():
        assert conv2d(x, weight, None).shape == x.shape


@compiled
def test_a_weight_that_stays_costs_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    for name in ("weight_gradient", "winograd_weights"):
        monkeypatch.setattr(convolution, name, None)  # not asked for, not called
    weight = torch.randn(16, 8, 3, 3)
    same(lambda x: conv2d(x, weight, None), lambda x: F.conv2d(x, weight, padding=1), torch.randn(2, 8, 24, 24))


def test_the_module_is_a_convolution() -> None:
    torch.manual_seed(0)
    ours, theirs = Conv3x3(8, 16, stride=2), torch.nn.Conv2d(8, 16, 3, 2, 1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 8, 9, 9)
    assert torch.equal(ours(x), theirs(x))


def test_other_types_and_a_missing_compiler_are_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "weight_gradient", None)
    double = torch.randn(4, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    conv2d(torch.randn(1, 4, 5, 5, dtype=torch.float64), double, None).sum().backward()
    assert double.grad is not None
    monkeypatch.setattr(convolution, "convolution_library", lambda: None)
    single = torch.randn(4, 4, 3, 3, requires_grad=True)
    conv_transpose2d(torch.randn(1, 4, 5, 5), single).sum().backward()
    assert single.grad is not None


@compiled
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_lies_in_memory_as_the_weight_does(layout: torch.memory_format) -> None:
    x = torch.randn(2, 8, 6, 6)
    weight = torch.randn(16, 8, 3, 3).contiguous(memory_format=layout).requires_grad_()
    (of_weight,) = torch.autograd.grad(conv2d(x, weight, None).sum(), weight)
    assert of_weight.stride() == weight.stride()
    (of_weight,) = torch.autograd.grad(conv_transpose2d(x, weight.transpose(0, 1)).sum(), weight)
    assert of_weight.stride() == weight.stride()
