"""FID (Heusel et al. 2017): Frechet distance of two sets of images by their Inception features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mien.evaluate.frechet import Moments, frechet_distance
from mien.evaluate.weights import read_weights
from mien.models.inception import Inception


class Fid:
    """Takes in batches of both clips' frames. Fewer frames than the 2048 features make the value larger than it is."""

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._network = network
        self._sides = Moments(), Moments()

    @torch.no_grad()
    def add(self, reference: NDArray[np.uint8], output: NDArray[np.uint8]) -> None:
        """Frames uint8 [N, H, W, 3] of both clips."""
        for side, images in zip(self._sides, (reference, output), strict=True):
            side.add(self._network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1).numpy())

    def value(self) -> float | None:
        """The distance, 0 or more; None for fewer than two frames."""
        return frechet_distance(*self._sides) if self._sides[0].count > 1 else None


def load_inception(path: str | Path) -> Inception:
    """The network of `pt_inception-2015-12-05-6726825d.pth`, read without running it. Raises PackError."""
    return read_weights(Inception(), path, "FID's Inception network")
