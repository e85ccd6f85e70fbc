"""FID (Heusel et al. 2017): Frechet distance of two sets of images by their Inception features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mien.evaluate.metrics.frechet import FeatureSets
from mien.media.images import to_float
from mien.nets.inception import Inception
from mien.packs.convert import checkpoint_layouts
from mien.packs.convert.common import read_layout


class Fid(FeatureSets):
    """FID, accumulated over batches of both clips' frames.

    Fewer frames than the 2048 features make the value larger than it is.
    """

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._network = network

    @torch.no_grad()
    def add(self, reference: NDArray[np.uint8], output: NDArray[np.uint8]) -> None:
        """Take in frames uint8 [N, H, W, 3] of both clips."""
        for side, images in enumerate((reference, output)):
            self.take(side, self._network(to_float(images)).numpy())


def load_inception(path: str | Path) -> Inception:
    """Load the network of `pt_inception-2015-12-05-6726825d.pth`, read without running it. Raises PackError."""
    network: Inception = read_layout(checkpoint_layouts.inception, Path(path))
    return network
