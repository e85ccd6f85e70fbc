"""Pictures of a generator whose weights stay: compiled where no gradient is asked for."""

from __future__ import annotations

from collections import defaultdict
from threading import Lock

import torch
from torch import Tensor

from mien.nets.decoder.decoder import Decoder
from mien.nets.decoder.for_generator import decoder_for
from mien.nets.decoder.mobile_decoder import MobileDecoder
from mien.nets.generator import Generator, downsample_to


class Renderer:
    """`Generator.picture` of a generator that is not trained meanwhile, for any number of threads.

    Without gradients, and in float32, a picture is a decoder's: the same but for rounding, and up to twice as fast.
    Decoders, with the weights as they read them, are made when they are first needed and go with this object.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self._lock = Lock()
        self._first: dict[tuple[int, int], Decoder | MobileDecoder] = {}
        self._idle: defaultdict[tuple[int, int], list[Decoder | MobileDecoder]] = defaultdict(list)

    def picture(self, styles: list[Tensor], size: int) -> Tensor:
        """As `Generator.picture`."""
        generator = self.generator
        differentiated = torch.is_grad_enabled() and any(style.requires_grad for style in styles)
        if differentiated or generator.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return generator.picture(styles, size)
        drawn = generator.drawn_resolution(size)
        key = (drawn, torch.get_num_threads())
        try:
            decoder = self._idle[key].pop()  # one operation, so no two threads take the same
        except IndexError:
            decoder = self._another(key)
        pictures = decoder.images(styles).permute(0, 3, 1, 2)
        self._idle[key].append(decoder)
        return downsample_to(pictures, size)

    def _another(self, key: tuple[int, int]) -> Decoder | MobileDecoder:
        """A decoder at a size, for calls by one of several threads at a time."""
        with self._lock:
            if key in self._first:
                return self._first[key].twin()
            self._first[key] = decoder_for(self.generator, resolution=key[0])
            return self._first[key]
