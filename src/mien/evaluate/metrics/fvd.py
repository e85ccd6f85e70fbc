"""FVD (Unterthiner et al. 2018): Frechet distance of two sets of short clips by I3D's logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mien.evaluate.metrics.frechet import FeatureSets
from mien.media.images import to_float
from mien.nets.i3d import I3D, SIZE
from mien.packs.convert import checkpoint_layouts
from mien.packs.convert.common import read_layout

WINDOW = 16  # frames of a clip
STRIDE = 8  # frames from one clip's start to the next one's


class Fvd(FeatureSets):
    """FVD of windows of 16 frames, one every 8, accumulated over the frames of both videos in order.

    Fewer than two windows (24 frames) have no value, and one pair of videos holds few: it says little before many
    pairs are taken together.
    """

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._network = network
        self._frames: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])

    def add(self, reference: NDArray[np.uint8], output: NDArray[np.uint8]) -> None:
        """Take in the next frames uint8 [N, H, W, 3] of both videos."""
        for kept, images in zip(self._frames, (reference, output), strict=True):
            kept.extend(_prepare(images))
        while len(self._frames[0]) >= WINDOW:
            for side, kept in enumerate(self._frames):
                with torch.no_grad():
                    self.take(side, self._network(torch.stack(kept[:WINDOW], dim=1)[None]).numpy())
                del kept[:STRIDE]


def _prepare(images: NDArray[np.uint8]) -> list[torch.Tensor]:
    """Resize frames to [3, 224, 224] in [-1, 1], bilinear."""
    return list(F.interpolate(to_float(images), (SIZE, SIZE), mode="bilinear", align_corners=False))


def load_i3d(path: str | Path) -> I3D:
    """Load the network of `i3d_pretrained_400.pt` or `rgb_imagenet.pt`, read without running it. Raises PackError."""
    network: I3D = read_layout(checkpoint_layouts.i3d, Path(path))
    return network
