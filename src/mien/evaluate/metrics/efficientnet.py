"""Distance of two images by the features of EfficientNet-Lite0, trained on ImageNet for classification.

It is not LPIPS: no weights were learned from people's judgements, and the network is another one. Tuning compares such
features of EfficientNet-Lite1 (`mien.nets.imagenet_features`), so a good value here says in part that it did so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.media.images import to_float
from mien.packs import imagenet

Features = Callable[[Tensor], Sequence[Tensor]]


def weights_file() -> Path | None:
    """Find the file of Lite0's weights; None where the package is missing."""
    return imagenet.weights_file(0)


def load_features() -> Features:
    """Load the network: images [N, 3, H, W] in [-1, 1] to five feature maps [N, C, H', W'], H / 2 to H / 32.

    Raises MienError where the weights are not installed, PackError where they are something else.
    """
    return imagenet.load_efficientnet_lite(0).features


@torch.no_grad()
def feature_distance(
    features: Features, reference: NDArray[np.uint8], output: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return the distance [N], 0 (the same) to 4, frame by frame. Images uint8 [N, H, W, 3].

    The feature vector at each place is brought to length 1; the squared distance of the two images' vectors is averaged
    over the places of each feature map, and over the maps.
    """
    sides = [[_unit(found) for found in features(to_float(images))] for images in (reference, output)]
    maps = [(a - b).square().sum(1).mean((1, 2)) for a, b in zip(*sides, strict=True)]
    return torch.stack(maps).mean(0).double().cpu().numpy()


def _unit(features: Tensor) -> Tensor:
    return features / features.norm(dim=1, keepdim=True).clamp_min(1e-10)
