"""The compiled decoder of MobileStyleGAN is the generator, but for rounding, at every size; else the generator
decodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mien.media.images import to_bytes
from mien.nets import native
from mien.nets.decoder.decoder import Decoder
from mien.nets.decoder.for_generator import decoder_for
from mien.nets.decoder.mobile_decoder import MobileDecoder
from mien.nets.mobile_layers import MobileGeneratorConfig
from mien.nets.mobile_stylegan import MobileGenerator
from mien.nets.native.panels import panels, quantised_panels
from mien.nets.stylegan2 import GeneratorConfig, StyleGAN2Generator
from tolerances import DECODER_DB, DECODER_RELATIVE

needs_compiler = pytest.mark.skipif(
    native.mobile_library() is None, reason="no C compiler here: the fast decoder is not built"
)
CONFIG = MobileGeneratorConfig(16, (32, 64, 96, 64, 32, 16), heads=(16, 32, 64, 128))
SIZES = (16, 32, 64, 128, 256)
INT16_RELATIVE = 1e-3  # rms over the picture's deviation: ten layers that round off 2e-4 each


def random_generator(config: MobileGeneratorConfig = CONFIG) -> MobileGenerator:
    torch.manual_seed(1)
    generator = MobileGenerator(config).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith(("noise_const", "bias")) or ".bias." in name or ".noise_const." in name:
            parameter.add_(0.3 * torch.randn_like(parameter))
    for part in (generator.blocks[-1].weight, *(head.image_weight for head in generator.heads.values())):
        part *= 10  # pictures that use their range, some of it beyond
    return generator


def random_styles(generator: MobileGenerator, pictures: int = 3) -> list[torch.Tensor]:
    return generator.styles(torch.randn(pictures, generator.num_ws, generator.w_dim))


def relative(images: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((images - wanted).square().mean().sqrt() / wanted.std())


def db(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.square(a.astype(float) - b).mean(), 1e-9))


@needs_compiler
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 3])
def test_fast_is_exact_but_for_rounding(size: int, threads: int) -> None:
    generator = random_generator().at(size)
    styles = random_styles(generator)
    wanted = generator.synthesis_from_styles(styles)
    assert wanted.abs().max() > 1 and wanted.std() > 0.2
    assert isinstance(decoder_for(generator), MobileDecoder)
    fast = MobileDecoder(generator, threads=threads)
    assert fast.native
    for _ in range(2):  # the second time in buffers that have been used
        assert relative(fast.images(styles).permute(0, 3, 1, 2), wanted) < DECODER_RELATIVE
    assert db(fast(styles), to_bytes(wanted)) > DECODER_DB
    assert np.array_equal(to_bytes(fast.images(styles).permute(0, 3, 1, 2)), fast(styles))
    assert np.array_equal(decoder_for(generator, exact=True)(styles), to_bytes(wanted))


@needs_compiler
def test_what_other_threads_leave_is_done_by_one() -> None:
    """However the rows fall to the threads, the picture is the same to the bit."""
    generator = random_generator()
    styles = random_styles(generator, 1)
    wanted = MobileDecoder(generator).images(styles)
    for order in ((2, 1, 0), (1, 0, 2)):  # one after the other: the first takes over most of the others' rows
        fast = MobileDecoder(generator, threads=3, run=lambda work, count, order=order: [work(w) for w in order])
        assert torch.equal(fast.images(styles), wanted)


@needs_compiler
def test_features_are_the_generators() -> None:
    generator = random_generator()
    styles = random_styles(generator)
    for decoder, blocks in ((MobileDecoder(generator), 4), (MobileDecoder(generator.at(64)), 3)):
        for block in range(blocks):
            wanted = generator.features(styles, block)
            assert relative(decoder.features(styles, block), wanted) < DECODER_RELATIVE
        for none in (-1, blocks):
            with pytest.raises(ValueError, match=f"blocks 0 to {blocks - 1}"):
                decoder.features(styles, none)


@needs_compiler
@pytest.mark.parametrize("size", SIZES)
def test_16_bits_are_enough_for_bytes(size: int) -> None:
    generator = random_generator().at(size)
    styles = random_styles(generator)
    wanted = generator.synthesis_from_styles(styles)
    fast = decoder_for(generator, int16=True)
    assert isinstance(fast, MobileDecoder)
    assert relative(fast.images(styles).permute(0, 3, 1, 2), wanted) < INT16_RELATIVE
    assert db(fast(styles), to_bytes(wanted)) > DECODER_DB
    if fast.int16:
        assert not torch.equal(fast.images(styles), MobileDecoder(generator).images(styles))


def test_quantised_weights_leave_room_for_any_sum() -> None:
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    weight[3], weight[4, 1:], weight[5] = 0, 0, 1e-30  # nothing, one channel alone, next to nothing
    packed, scale = quantised_panels(weight)
    whole = packed.permute(0, 2, 1, 3).reshape(32, 64).double()
    assert whole.norm(dim=1).max() * 32_720 < 2**31
    assert torch.allclose(whole.float() * scale[:, None], weight, atol=1e-3 * float(weight.abs().max()))
    assert torch.equal(panels(weight).transpose(1, 2).reshape(32, 64), weight)


def test_the_generator_decodes_where_nothing_faster_can() -> None:
    odd = random_generator(MobileGeneratorConfig(16, (16, 16, 16, 8), heads=(16,)))  # no whole vectors of 8
    assert not MobileDecoder(odd).native
    generator = random_generator().at(32)
    styles = random_styles(generator)
    decoder = MobileDecoder(generator, int16=True, compiled=False)
    wanted = generator.synthesis_from_styles(styles)
    assert not decoder.native and np.array_equal(decoder(styles), to_bytes(wanted))
    assert torch.equal(decoder.images(styles), wanted.permute(0, 2, 3, 1))
    assert torch.equal(decoder.features(styles, 1), generator.features(styles, 1))


def test_a_decoder_for_each_kind_of_generator() -> None:
    assert isinstance(decoder_for(StyleGAN2Generator(GeneratorConfig(16, 16, (8, 8, 8)))), Decoder)
    assert isinstance(decoder_for(random_generator().at(16)), MobileDecoder)
