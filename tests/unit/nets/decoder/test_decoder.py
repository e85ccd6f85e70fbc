"""The compiled decoder is the generator, but for rounding; where it cannot be had, the generator itself decodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.media.images import to_bytes
from mien.nets import native
from mien.nets.decoder.decoder import Decoder
from mien.nets.decoder.for_generator import decoder_for
from mien.nets.decoder.renderer import Renderer
from mien.nets.stylegan2 import GeneratorConfig, StyleGAN2Generator
from tolerances import DECODER_DB, DECODER_RELATIVE, FLOAT32_EXACT

needs_compiler = pytest.mark.skipif(
    native.library() is None, reason="no C compiler here: the fast decoder is not built"
)
INT16_RELATIVE = 1e-3  # rms over the picture's deviation: a layer rounds off some 2e-4
CONFIGS = {
    "plain": GeneratorConfig(64, 32, (32, 32, 16, 16, 8)),
    "noise": GeneratorConfig(32, 32, (16, 24, 40, 8), noise=True),
    "clamped": GeneratorConfig(32, 16, (64, 64, 64, 64), noise=True, clamp=0.9),
    "wide": GeneratorConfig(16, 16, (8, 136, 72)),
    "same widths": GeneratorConfig(64, 16, (16,) * 5),
}


def random_generator(config: GeneratorConfig) -> StyleGAN2Generator:
    torch.manual_seed(1)
    generator = StyleGAN2Generator(config).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter.add_(0.3 * torch.randn_like(parameter))
    for block in generator.blocks:
        if hasattr(block, "conv") and block.conv.weight.shape[0] == 3:
            block.conv.weight *= 0.02  # ToRGB stays within its clamp, which the fast decoder leaves out
            block.bias *= 0.1
    return generator.to(memory_format=torch.channels_last)


@needs_compiler
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("in_one_go", [False, True])
def test_fast_is_exact_but_for_rounding(name: str, threads: int, in_one_go: bool) -> None:
    fewest = 64 if name == "same widths" else 1  # 64: from 32x32/Conv1 on
    generator = random_generator(CONFIGS[name])
    styles = generator.styles(torch.randn(3, generator.num_ws, generator.w_dim))
    fast = Decoder(generator, threads=threads, fewest_tiles=fewest, rows_of_tiles=1 if in_one_go else 1000)
    assert fast.native
    assert any(len(step) == 2 for step in fast._steps) == (in_one_go and (name, threads) != ("wide", 3))
    wanted = generator.synthesis_from_styles(styles)
    if generator.config.clamp is not None:  # it must matter
        free = StyleGAN2Generator(replace(generator.config, clamp=None)).eval()
        free.load_state_dict(generator.state_dict())
        assert (free.synthesis_from_styles(styles) - wanted).abs().mean() > 0.01 * wanted.std()
    for _ in range(2):  # the second time in buffers that have been used
        images = fast.images(styles).permute(0, 3, 1, 2)
        error = (images - wanted).square().mean().sqrt() / wanted.std()
        assert error < DECODER_RELATIVE, float(error)
    bytes_error = np.square(fast(styles).astype(float) - to_bytes(wanted)).mean()
    assert 10 * np.log10(255**2 / max(bytes_error, 1e-9)) > DECODER_DB
    assert np.array_equal(Decoder(generator, exact=True)(styles), to_bytes(wanted))


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("in_one_go", [False, True])
def test_in_16_bits(threads: int, in_one_go: bool) -> None:
    generator = random_generator(GeneratorConfig(64, 32, (64, 72, 64, 136, 16), noise=True))
    styles = generator.styles(torch.randn(2, generator.num_ws, generator.w_dim))
    rows = 1 if in_one_go else 1000
    fast = Decoder(generator, int16=True, threads=threads, fewest_tiles=1, rows_of_tiles=rows)
    wanted = generator.synthesis_from_styles(styles)
    quantised = [layer for layer in fast._layers.values() if layer.scale is not None]
    assert len(quantised) == (7 if native.library().has_int16() else 0) and len(fast._layers) == 8
    for _ in range(2):  # the second time in buffers that have been used
        images = fast.images(styles).permute(0, 3, 1, 2)
        error = (images - wanted).square().mean().sqrt() / wanted.std()
        assert error < INT16_RELATIVE, float(error)
        assert not quantised or error > DECODER_RELATIVE  # it is what was asked for
    by_default = decoder_for(generator, int16=True)
    assert isinstance(by_default, Decoder) and by_default.int16 == bool(quantised)


@needs_compiler
def test_bytes_are_rounded_as_they_are_without() -> None:
    values = torch.cat([torch.linspace(-1.2, 1.2, 9001), (torch.arange(256) + 0.5) / 127.5 - 1])
    out = np.empty(len(values), np.uint8)
    native.library().to_bytes(values.data_ptr(), out.ctypes.data, len(values))
    assert np.array_equal(out, to_bytes(values.view(1, 1, 1, -1)).reshape(-1))


def test_without_a_compiler_the_generator_decodes() -> None:
    generator = random_generator(CONFIGS["plain"])
    styles = generator.styles(torch.randn(2, generator.num_ws, generator.w_dim))
    decoder = Decoder(generator, compiled=False)
    assert not decoder.native and np.array_equal(decoder(styles), to_bytes(generator.synthesis_from_styles(styles)))
    odd = random_generator(GeneratorConfig(64, 16, (20,) * 5))  # no whole vectors of 8
    assert not Decoder(odd).native


def test_no_compiler_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    for variable, value in (("MIEN_NATIVE", "0"), ("CC", "/nonexistent/cc"), ("CC", "false")):
        with monkeypatch.context() as context:
            context.setenv(variable, value)
            assert native.library.__wrapped__() is None
    assert not list(tmp_path.rglob("*.so"))


@needs_compiler
def test_the_library_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    assert native.library.__wrapped__() is not None
    (built,) = (tmp_path / "native").iterdir()
    monkeypatch.setenv("CC", "false")
    assert native.library.__wrapped__() is not None and list((tmp_path / "native").iterdir()) == [built]


@needs_compiler
def test_compilers_that_know_other_words_for_this_processor_will_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    narrow = tmp_path / "cc"
    narrow.write_text('#!/bin/sh\nfor a; do case $a in -march=*|-mcpu=*) exit 1;; esac; done\nexec cc "$@"\n')
    narrow.chmod(0o755)
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(narrow))
    assert native.library.__wrapped__() is not None


def test_frames_made_when_looked_at_are_the_frames() -> None:
    from mien.media.images import to_float
    from mien.method.image_sequences import CropFrames, InvertedFrames, synthesise

    generator = random_generator(CONFIGS["plain"])
    w_plus = torch.randn(9, generator.num_ws, generator.w_dim)
    crops = np.random.RandomState(0).randint(0, 256, (9, 64, 64, 3)).astype(np.uint8)
    for made, whole in (
        (InvertedFrames(generator, w_plus, 32), synthesise(Renderer(generator), w_plus, 32)),
        (CropFrames(crops, 32), to_float(crops, 32)),
    ):
        assert len(made) == 9
        for part in (slice(2, 5), torch.tensor([7, 0, 3])):
            assert torch.allclose(made[part], whole[part], atol=FLOAT32_EXACT)
