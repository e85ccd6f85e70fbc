"""Images as bytes, uint8 `[N, H, W, 3]`, and as tensors, float `[N, 3, H, W]` in [-1, 1]; and their PSNR."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

MAX_PSNR_DB = 100.0  # of equal images, where the formula has no finite value


def to_float(crops: NDArray[np.uint8], size: int | None = None, device: str | torch.device = "cpu") -> Tensor:
    """uint8 `[T, S, S, 3]` -> float `[T, 3, size, size]` in [-1, 1] (area-averaged where smaller)."""
    images = torch.from_numpy(np.ascontiguousarray(crops)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    if size is not None and images.shape[-1] != size:
        images = F.interpolate(images, (size, size), mode="area" if images.shape[-1] > size else "bicubic")
    return images.contiguous(memory_format=torch.channels_last)


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """Float `[N, 3, H, W]` in [-1, 1] -> uint8 `[N, H, W, 3]`."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def psnr_from_mse(mse: ArrayLike, peak: float = 255.0) -> NDArray[np.float64]:
    """10 log10(peak^2 / MSE) in dB of mean squared errors of any shape; at most `MAX_PSNR_DB`.

    `peak`: the range of the values: 255 for bytes, 2 for floats in [-1, 1].
    """
    floor = peak**2 * 10 ** (-MAX_PSNR_DB / 10)
    return np.asarray(10 * np.log10(peak**2 / np.maximum(np.asarray(mse, np.float64), floor)))


def psnr(reference: NDArray[np.uint8], output: NDArray[np.uint8]) -> float:
    """PSNR in dB of two images uint8 `[H, W, 3]`, the error taken over all pixels and channels at once.

    A clip's value is the mean of its frames' values.
    """
    return float(psnr_from_mse(np.square(reference.astype(np.float64) - output).mean()))
