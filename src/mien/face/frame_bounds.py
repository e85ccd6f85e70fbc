"""Which part of a crop lies within the frame that it was cut from; what lies outside was made up by whoever cut it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST_OUTSIDE = 0.01  # of a crop, under which nothing is done about it
_AT_ONCE = 32


@dataclass(frozen=True)
class FrameBounds:
    """The frame's edges seen from T crops: `quads [T, 4, 2]`, the crops' corners in frame pixels (top left, bottom
    left, bottom right, top right), and `frame_size`, width and height."""

    quads: NDArray[np.float64]
    frame_size: tuple[int, int]

    def within(self, frames: slice | Tensor, size: int) -> Tensor:
        """How much of each pixel of the crops at `size` lies within the frame, `[N, 1, size, size]` in [0, 1]."""
        chosen = self.quads[frames.cpu().numpy() if isinstance(frames, Tensor) else frames]
        at = (np.arange(size) + 0.5) / size
        right, down = chosen[:, 3] - chosen[:, 0], chosen[:, 1] - chosen[:, 0]
        place = (
            chosen[:, 0, None, None] + at[:, None] * right[:, None, None] + at[:, None, None] * down[:, None, None]
        )  # [N, size, size, 2]
        high = np.array(self.frame_size) - 0.5
        inside = np.minimum(place + 0.5, high - place).min(-1)  # frame pixels from the nearest edge
        pixel = np.hypot(right[:, 0], right[:, 1]).clip(1e-9)[:, None, None] / size
        return torch.from_numpy(np.clip(inside / pixel + 0.5, 0, 1).astype(np.float32))[:, None]

    @property
    def cut(self) -> bool:
        """Whether more than `LEAST_OUTSIDE` of some crop lies outside the frame."""
        parts = (slice(i, i + _AT_ONCE) for i in range(0, len(self.quads), _AT_ONCE))
        return any(bool((self.within(part, 32).mean((1, 2, 3)) < 1 - LEAST_OUTSIDE).any()) for part in parts)
