"""The decoder for a generator of any kind."""

from __future__ import annotations

import copy

from mien.nets.decoder.decoder import Decoder
from mien.nets.decoder.mobile_decoder import MobileDecoder
from mien.nets.generator import Generator
from mien.nets.mobile_stylegan import MobileGenerator


def decoder_for(
    generator: Generator, *, exact: bool = False, int16: bool = False, threads: int | None = None,
    resolution: int | None = None,
) -> Decoder | MobileDecoder:  # fmt: skip
    """The fastest decoder that there is.

    Args:
        exact: the generator itself.
        int16: products of 16-bit integers where they are had and faster, at some 60 dB between the bytes.
        threads: as many as PyTorch may use by default.
        resolution: of the pictures, by default the generator's own.
    """
    resolution = resolution or generator.resolution
    if isinstance(generator, MobileGenerator):
        return MobileDecoder(generator.at(resolution), exact=exact, int16=int16, threads=threads)
    return Decoder(generator, exact=exact, int16=int16, threads=threads, resolution=resolution)


def for_another_thread(decoder: Decoder | MobileDecoder) -> Decoder | MobileDecoder:
    """A second decoder on the same prepared weights."""
    other = copy.copy(decoder)
    if other.native:
        other.allocate()
    return other
