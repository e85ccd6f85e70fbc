"""LPIPS (Zhang et al. 2018): the learned perceptual distance, by the networks of a converted pack."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from mien.media.images import to_float


@torch.no_grad()
def lpips(
    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    reference: NDArray[np.uint8],
    output: NDArray[np.uint8],
) -> NDArray[np.float64]:
    """Return LPIPS [N], 0 for the same, frame by frame.

    Images uint8 [N, H, W, 3]; `network` a `mien.nets.lpips.LPIPS`.
    """
    a, b = (to_float(x) for x in (reference, output))
    return network(a, b).double().cpu().numpy().reshape(-1)
