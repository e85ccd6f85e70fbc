"""The generator's ways to compute the same picture."""

from __future__ import annotations

import copy

import pytest
import torch

from mien.nets import stylegan2 as sg
from tolerances import FLOAT32_EXACT, FLOAT32_NETWORK

CONFIG = sg.GeneratorConfig(32, 16, (12, 12, 8, 8))


@pytest.fixture(params=[False, True], ids=["plain", "noise"])
def generator(request: pytest.FixtureRequest) -> sg.Generator:
    torch.manual_seed(0)
    made = sg.StyleGAN2Generator(
        sg.GeneratorConfig(CONFIG.resolution, CONFIG.w_dim, CONFIG.channels, noise=request.param)
    )
    for name, parameter in made.named_parameters():
        if "bias" in name or "strength" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return made.requires_grad_(False)


def test_weights_of_each_sample_are_the_scaled_activations(generator: sg.Generator) -> None:
    w_plus = torch.randn(3, generator.num_ws, generator.w_dim)
    drawn = []
    for least in (10**9, 0):
        way = copy.deepcopy(generator)
        for module in way.modules():
            if isinstance(module, sg.ModulatedConv):
                module.own_weights_from = least
        drawn.append(way.synthesis(w_plus))
    scaled, own = drawn
    assert not torch.equal(scaled, own)
    assert (own - scaled).abs().max() < FLOAT32_NETWORK * scaled.abs().max()


@pytest.mark.parametrize("window", [(0, 0, 16, 16), (8, 12, 24, 32), (0, 0, 32, 32), (14, 10, 18, 20)])
def test_a_window_is_that_part_of_the_picture(generator: sg.Generator, window: tuple[int, int, int, int]) -> None:
    styles = generator.styles(torch.randn(2, generator.num_ws, generator.w_dim))
    part = sg.Window(*window)
    whole = generator.synthesis_from_styles(styles)
    assert torch.allclose(generator.synthesis_from_styles(styles, window=part), part.cut(whole), atol=FLOAT32_EXACT)
    half, detail = generator.synthesis_with_detail(styles, part)
    assert torch.allclose(half, generator.synthesis_from_styles(styles, 16), atol=FLOAT32_EXACT)
    assert torch.allclose(detail, part.cut(whole), atol=FLOAT32_EXACT)
