"""Images as bytes and as tensors: uint8 `[T, S, S, 3]` and float `[T, 3, S, S]` in [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def to_float(crops: NDArray[np.uint8], size: int | None = None, device: str | torch.device = "cpu") -> Tensor:
    """uint8 `[T, S, S, 3]` -> float `[T, 3, size, size]` in [-1, 1] (area-averaged where smaller)."""
    images = torch.from_numpy(np.ascontiguousarray(crops)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    if size is not None and images.shape[-1] != size:
        images = F.interpolate(images, (size, size), mode="area" if images.shape[-1] > size else "bicubic")
    return images.contiguous(memory_format=torch.channels_last)


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Float `[N, 3, H, W]` in [-1, 1] -> uint8 `[N, H, W, 3]`."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
