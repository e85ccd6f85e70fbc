"""Stage 2: inversion of every crop into W+ by the pack's encoder, L_t = E(I_t) (the paper, Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.models.stylegan2 import Generator


def to_float(crops: NDArray[np.uint8], size: int | None = None, device: str | torch.device = "cpu") -> Tensor:
    """uint8 `[T, S, S, 3]` -> float `[T, 3, size, size]` in [-1, 1] (area-averaged where smaller)."""
    images = torch.from_numpy(np.ascontiguousarray(crops)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    if size is not None and images.shape[-1] != size:
        images = F.interpolate(images, (size, size), mode="area" if images.shape[-1] > size else "bicubic")
    return images.contiguous(memory_format=torch.channels_last)


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Float `[N, 3, H, W]` in [-1, 1] -> uint8 `[N, H, W, 3]`."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def invert(
    encoder: nn.Module,
    crops: NDArray[np.uint8],
    *,
    batch: int = 16,
    device: str | torch.device = "cpu",
    tick: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """L_t = E(I_t) for crops uint8 `[T, S, S, 3]`: `w_plus [T, L, D]`."""
    latents = []
    for start in range(0, len(crops), batch):
        images = to_float(crops[start : start + batch], device=device)
        latents.append(encoder(images).float())
        tick(len(images))
    return torch.cat(latents)


@torch.no_grad()
def synthesise(generator: Generator, w_plus: Tensor, *, batch: int = 16, resolution: int | None = None) -> Tensor:
    """S_t = G(L_t): `[T, 3, R, R]` in [-1, 1]. S_t, never I_t, is the target of stages 4 and 5 (the paper, Sec. 4.2)."""
    parts = [generator.synthesis(w_plus[i : i + batch], resolution) for i in range(0, len(w_plus), batch)]
    return torch.cat(parts)
