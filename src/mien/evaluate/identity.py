"""Likeness of two faces by an identity network: the cosine of the angle between their embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray


@torch.no_grad()
def similarity(
    network: Callable[[torch.Tensor], torch.Tensor], reference: NDArray[np.uint8], output: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Cosine similarity [N], -1..1, frame by frame. Images uint8 [N, H, W, 3] in FFHQ framing.

    `network` takes images [N, 3, H, W] in [-1, 1] to unit vectors. L_ID of the paper is 1 minus this, with ArcFace.
    """
    a, b = (network(torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1) for x in (reference, output))
    return (a * b).sum(1).double().cpu().numpy()
