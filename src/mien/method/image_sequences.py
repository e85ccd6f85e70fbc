"""Frames that are made when they are looked at: what a stage holds does not grow with the clip."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mien.media.images import to_float
from mien.method.stage2_invert import synthesise
from mien.nets.stylegan2 import Generator
from mien.runtime.frame_store import Crops


class Frames(Protocol):
    """Float images `[T, 3, R, R]` in [-1, 1]: a tensor, or one of the classes below, which make `frames[part]` anew
    each time that it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice | Tensor, /) -> Tensor: ...


class Synthesised:
    """S_t = G(L_t) of `w_plus [T, L, D]`."""

    def __init__(self, generator: Generator, w_plus: Tensor, resolution: int | None = None) -> None:
        self._generator, self._w_plus, self._resolution = generator, w_plus, resolution

    def __len__(self) -> int:
        return len(self._w_plus)

    def __getitem__(self, part: slice | Tensor, /) -> Tensor:
        return synthesise(self._generator, self._w_plus[part], resolution=self._resolution)


class Cropped:
    """I_t of crops uint8 `[T, S, S, 3]`, at `size`."""

    def __init__(self, crops: Crops, size: int, device: str | torch.device = "cpu") -> None:
        self._crops, self._size, self._device = crops, size, device

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, part: slice | Tensor, /) -> Tensor:
        chosen = self._crops[part.cpu().numpy() if isinstance(part, Tensor) else part]
        return to_float(chosen, self._size, self._device)
