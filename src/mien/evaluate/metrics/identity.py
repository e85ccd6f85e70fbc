"""Likeness of two faces by an identity network: the cosine of the angle between their embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from mien.media.images import to_float


@torch.no_grad()
def embed(network: Callable[[torch.Tensor], torch.Tensor], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Embed images uint8 [N, H, W, 3] by a network of images [N, 3, H, W] in [-1, 1]: [N, E]."""
    found = network(to_float(images))
    return np.asarray(found.double().cpu().numpy())


def similarity(
    network: Callable[[torch.Tensor], torch.Tensor], reference: NDArray[np.uint8], output: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return the cosine similarity [N], -1..1, frame by frame. Images uint8 [N, H, W, 3] in FFHQ framing.

    `network` takes images [N, 3, H, W] in [-1, 1] to unit vectors. L_ID of the paper is 1 minus this, with ArcFace.
    """
    return np.asarray((embed(network, reference) * embed(network, output)).sum(1))
