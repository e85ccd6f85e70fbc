"""MobileStyleGAN's synthesis network: its interface, its windows, its heads, its Haar transform."""

import dataclasses

import pytest
import torch

from mien.nets.generator import Window
from mien.nets.mobile_layers import MobileGeneratorConfig, band_order, depthwise, inverse_haar, pointwise
from mien.nets.mobile_stylegan import MobileGenerator

CONFIG = MobileGeneratorConfig(w_dim=8, channels=(16, 16, 16, 8, 8), heads=(16, 32, 64))


@pytest.fixture(scope="module")
def generator() -> MobileGenerator:
    torch.manual_seed(0)
    made = MobileGenerator(CONFIG)
    for name, parameter in made.named_parameters():
        if name.endswith("noise_const"):
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def w_plus(generator: MobileGenerator) -> torch.Tensor:
    return torch.randn(2, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(1))


def test_a_row_for_every_layer(generator, w_plus):
    assert generator.num_ws == len(generator.layers) == 14
    assert [layer.row for layer in generator.layers] == list(range(14))
    assert [len(style[0]) for style in generator.styles(w_plus)] == [layer.width for layer in generator.layers]
    assert generator.layers[-1].to_rgb and not any(layer.to_rgb for layer in generator.layers[:-1])


def test_pictures_of_all_sizes(generator, w_plus):
    assert generator.sizes == (16, 32, 64, 128)
    assert generator.synthesis(w_plus).shape == (2, 3, 128, 128)
    for size in (8, 16, 32, 64):
        assert generator.synthesis(w_plus, size).shape == (2, 3, size, size)
    averaged = torch.nn.functional.avg_pool2d(generator.synthesis(w_plus, 16), 2)
    assert torch.allclose(generator.synthesis(w_plus, 8), averaged, atol=1e-5)


def test_a_batch_is_its_samples(generator, w_plus):
    alone = torch.cat([generator.synthesis(one[None]) for one in w_plus])
    assert torch.allclose(generator.synthesis(w_plus), alone, atol=1e-4 * float(alone.abs().max()))


@pytest.mark.parametrize(
    "corners", [(0, 0, 64, 64), (32, 48, 96, 128), (4, 8, 12, 16), (2, 6, 66, 70), (62, 58, 126, 122)]
)
def test_a_window_is_that_part_of_the_picture(generator, w_plus, corners):
    window, styles = Window(*corners), generator.styles(w_plus)
    whole = generator.synthesis_from_styles(styles)
    part = generator.synthesis_from_styles(styles, window=window)
    assert torch.allclose(part, window.cut(whole), atol=1e-5 * float(whole.abs().max()))
    half, detail = generator.synthesis_with_detail(styles, window)
    assert torch.equal(half, generator.synthesis_from_styles(styles, 64)) and torch.equal(detail, part)


def test_no_window_of_a_small_picture(generator, w_plus):
    with pytest.raises(ValueError, match="finished picture"):
        generator.synthesis_from_styles(generator.styles(w_plus), 32, Window(0, 0, 8, 8))


def test_a_smaller_generator_shares_and_lacks(generator, w_plus):
    small = generator.at(32)
    assert small.resolution == 32 and small.sizes == (16, 32)
    assert torch.equal(small.synthesis(w_plus), generator.synthesis(w_plus, 32))
    assert small.const is generator.const and generator.resolution == 128
    names = {name for name, _ in small.named_parameters()}
    assert "heads.64.image_bias" not in names and "blocks.11.weight" not in names and "blocks.11.affine.weight" in names
    assert generator.at(128).synthesis(w_plus).shape[-1] == 128
    with pytest.raises(ValueError, match="16, 32, 64, 128, not 48"):
        generator.at(48)


def test_a_head_that_nothing_was_learned_for_draws_the_mean_of_a_linear_network(w_plus):
    # Without negative features, details and spatial kernels, what the blocks do to the mean is the mean of what they do.
    made = MobileGenerator(CONFIG)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "depthwise" in name:
                parameter.zero_()[..., 1, 1] = 1.0
            elif "noise" not in name:
                parameter.abs_()
            if name.startswith("blocks") and name.endswith(".weight") and parameter.ndim == 4:
                parameter[parameter.shape[0] // 4 :] = 0  # the rows of details
    made.requires_grad_(False)
    full = made.synthesis(w_plus.abs())
    for size in (16, 32, 64):
        made.heads[str(size)].start_from(made.blocks)
        averaged = torch.nn.functional.avg_pool2d(full, 128 // size)
        assert torch.allclose(made.synthesis(w_plus.abs(), size), averaged, rtol=1e-4)
        assert averaged.std() > 0


def test_gradients_reach_all_that_a_size_needs(generator, w_plus):
    made = MobileGenerator(CONFIG).at(32)
    made.synthesis(w_plus).square().mean().backward()
    without = [name for name, parameter in made.named_parameters() if parameter.grad is None]
    assert all(name.startswith("heads.16") for name in without)


def test_the_haar_transform_is_orthonormal():
    bands = torch.randn(2, 8, 3, 5, dtype=torch.float64, requires_grad=True)
    picture = inverse_haar(bands)
    assert picture.shape == (2, 2, 6, 10)
    assert torch.allclose(picture.square().sum(), bands.square().sum())
    assert torch.allclose(torch.nn.functional.avg_pool2d(picture, 2) * 2, bands[:, :2])
    assert torch.autograd.gradcheck(inverse_haar, bands)


def test_bands_in_order():
    assert band_order(8).tolist() == [0, 1, 2, 5, 3, 6, 4, 7]


def test_pointwise_and_depthwise_are_convolutions():
    x, weight, bias = torch.randn(2, 4, 5, 6), torch.randn(2, 3, 4), torch.randn(3)
    expected = torch.cat([torch.conv2d(a[None], w[:, :, None, None], bias) for a, w in zip(x, weight, strict=True)])
    assert torch.allclose(pointwise(x, weight, bias), expected, atol=1e-5)
    taps = torch.randn(4, 1, 3, 3)
    assert torch.allclose(depthwise(x, taps), torch.conv2d(x, taps, padding=1, groups=4), atol=1e-5)


def test_shapes_that_cannot_be():
    with pytest.raises(ValueError, match="multiples of 4"):
        MobileGeneratorConfig(w_dim=8, channels=(6, 8))
    with pytest.raises(ValueError, match="heads draw"):
        MobileGeneratorConfig(w_dim=8, channels=(16, 16, 8), heads=(32,))
    with pytest.raises(ValueError, match="w_plus must be"):
        MobileGenerator(CONFIG).styles(torch.zeros(1, 3, 8))


def test_what_training_does_not_draw_is_not_compared_with_frames():
    made = MobileGenerator(CONFIG)  # pictures of 16, 32 and 64 by heads, and of 128
    assert made.draws_windows and made.compared_size(16) == 64 and made.compared_size(128) == 128
    assert made.at(32).compared_size(16) == 32


def test_what_is_averaged_down_from_a_trained_size_is_compared_with_frames():
    made = MobileGenerator(dataclasses.replace(CONFIG, heads=(32, 64)))  # pictures of 16 are those of 32, averaged down
    assert made.at(32).compared_size(16) == 16 and made.at(64).compared_size(16) == 64
    assert made.compared_size(16) == 64
