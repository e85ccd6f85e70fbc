"""Pictures of a generator whose weights stay: compiled where no gradient is asked for."""

from __future__ import annotations

from threading import Lock

import torch
from torch import Tensor

from mien.nets.decoder.decoder import Decoder
from mien.nets.decoder.for_generator import decoder_for, for_another_thread
from mien.nets.decoder.mobile_decoder import MobileDecoder
from mien.nets.generator import Generator, downsample_to
from mien.runtime.team import team


class Renderer:
    """`Generator.picture` of a generator that is not trained meanwhile, for any number of threads.

    Without gradients, and in float32, a picture is a decoder's: the same but for rounding, and up to twice as fast.
    Decoders, with the weights as they read them, are made when they are first needed and go with this object. Each has
    one thread, the caller's: threads of their own would keep the memory that others gave back to the C library.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self._lock = Lock()
        self._first: dict[int, Decoder | MobileDecoder] = {}  # by size
        self._idle: dict[int, list[Decoder | MobileDecoder]] = {}

    def picture(self, styles: list[Tensor], size: int) -> Tensor:
        """As `Generator.picture`."""
        generator = self.generator
        differentiated = torch.is_grad_enabled() and any(style.requires_grad for style in styles)
        if differentiated or generator.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return generator.picture(styles, size)
        if len(styles[0]) == 1 or torch.get_num_threads() == 1:
            return self._drawn(styles, size)
        with team(generator.device) as threads:
            parts = threads.split(len(styles[0]), -(-len(styles[0]) // threads.size))
            return torch.cat(list(threads.map(lambda part: self._drawn([s[part] for s in styles], size), parts)))

    def _drawn(self, styles: list[Tensor], size: int) -> Tensor:
        """By one decoder that no other thread has."""
        resolution = self.generator.drawn_resolution(size)
        with self._lock:
            if resolution not in self._first:
                self._first[resolution] = decoder_for(self.generator, threads=1, resolution=resolution)
                self._idle[resolution] = [self._first[resolution]]
            idle = self._idle[resolution]
            decoder = idle.pop() if idle else for_another_thread(self._first[resolution])
        pictures = decoder.images(styles).permute(0, 3, 1, 2)
        idle.append(decoder)
        return downsample_to(pictures, size)
