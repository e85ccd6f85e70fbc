"""Pictures of a generator that stays: the generator's own, with gradients and without, by several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.unit.nets.decoder.test_mobile_decoder import random_generator as random_mobile

from mien.nets import native
from mien.nets.decoder.renderer import Renderer
from mien.nets.generator import Generator
from mien.nets.stylegan2 import GeneratorConfig, StyleGAN2Generator

needs_compiler = pytest.mark.skipif(native.library() is None, reason="needs a C compiler")


def _stylegan2() -> Generator:
    torch.manual_seed(0)
    return StyleGAN2Generator(GeneratorConfig(64, 16, (16, 16, 16, 16, 8), rgb_valid_from=32)).requires_grad_(False)


@needs_compiler
@pytest.mark.parametrize("kind", [_stylegan2, random_mobile])
def test_pictures_are_the_generators_at_every_size(kind) -> None:
    generator = kind()
    renderer = Renderer(generator)
    styles = generator.styles(torch.randn(3, generator.num_ws, generator.w_dim))
    for size in {16, generator.rgb_valid_from, generator.resolution}:
        wanted = generator.picture(styles, size)
        for _ in range(2):
            assert torch.allclose(renderer.picture(styles, size), wanted, atol=2e-5 * float(wanted.abs().max()))


@needs_compiler
def test_gradients_are_the_generators() -> None:
    generator = _stylegan2()
    w = torch.randn(1, generator.num_ws, generator.w_dim, requires_grad=True)
    styles = generator.styles(w)
    (own,) = torch.autograd.grad(generator.picture(styles, 64).square().sum(), w, retain_graph=True)
    (found,) = torch.autograd.grad(Renderer(generator).picture(styles, 64).square().sum(), w)
    assert torch.equal(own, found)


@needs_compiler
@pytest.mark.parametrize("kind", [_stylegan2, random_mobile])
def test_threads_do_not_write_into_each_others_pictures(kind) -> None:
    generator = kind()
    many = [generator.styles(torch.randn(2, generator.num_ws, generator.w_dim)) for _ in range(12)]
    alone, shared = Renderer(generator), Renderer(generator)
    wanted = [alone.picture(styles, generator.resolution) for styles in many]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda styles: shared.picture(styles, generator.resolution), many))
    for a, b in zip(wanted, found, strict=True):
        assert torch.allclose(a, b, atol=2e-5 * float(a.abs().max()))
