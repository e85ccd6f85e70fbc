"""Frames that are made when they are looked at: what a stage holds does not grow with the clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mien.media.images import to_float
from mien.nets.decoder.renderer import Renderer
from mien.nets.generator import Generator
from mien.runtime.frame_store import ArrayFile, Crops

BATCH = 16  # renders of 256x256 at once, without gradients


class ImageSequence(Protocol):
    """Float images `[T, 3, R, R]` in [-1, 1]: a tensor, or a class that makes `frames[part]` anew each time that it is
    asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice | Tensor, /) -> Tensor: ...


class Latents(Protocol):
    """Latents `[T, L, D]`: a tensor, or a class that reads `latents[part]` when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: int | slice | Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class LatentFile:
    """L_t of a clip: `rows` float32 `[T, L, D]` on disk, read to `device`."""

    rows: ArrayFile
    device: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: int | slice | Tensor, /) -> Tensor:
        found = self.rows[part.cpu().numpy() if isinstance(part, Tensor) else part]
        return torch.from_numpy(found).to(self.device)


class InvertedFrames:
    """S_t = G(L_t) of `w_plus [T, L, D]` at `size`, by default the generator's own."""

    def __init__(self, generator: Generator, w_plus: Latents, size: int | None = None) -> None:
        self._renderer, self._w_plus, self._size = Renderer(generator), w_plus, size

    def __len__(self) -> int:
        return len(self._w_plus)

    def __getitem__(self, part: slice | Tensor, /) -> Tensor:
        return synthesise(self._renderer, self._w_plus[part], self._size)


class CropFrames:
    """I_t of crops uint8 `[T, S, S, 3]`, at `size`."""

    def __init__(self, crops: Crops, size: int, device: str | torch.device = "cpu") -> None:
        self._crops, self._size, self._device = crops, size, device

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, part: slice | Tensor, /) -> Tensor:
        chosen = self._crops[part.cpu().numpy() if isinstance(part, Tensor) else part]
        return to_float(chosen, self._size, self._device)


@torch.no_grad()
def synthesise(renderer: Renderer, w_plus: Tensor, size: int | None = None) -> Tensor:
    """S_t = G(L_t): `w_plus [T, L, D]` -> `[T, 3, size, size]` in [-1, 1]. It is the target of stage 4, and of stage
    5 but where the frames I_t are asked for (the paper's ablation, Sec. 4.2)."""
    generator = renderer.generator
    size = generator.resolution if size is None else size
    batch = generator.frames_at_once(BATCH, size)
    return torch.cat([renderer.picture(generator.styles(w), size) for w in w_plus.split(batch)])
