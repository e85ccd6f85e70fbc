"""Features of a network that was trained on ImageNet, as LPIPS takes them (Zhang et al. 2018), without its learned
weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mien.nets.efficientnet_lite import EfficientNetLite
from mien.nets.perceptual import normalised

MAPS = 3  # of five; the perceptual network compares what is coarser


class ImageNetFeatures(nn.Module):
    """The finest maps of EfficientNet-Lite, which tell textures apart, such as hair and beads. Not LPIPS: another network,
    and no scale has a weight."""

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.network = network.with_fused_norms().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps `[N, C, h, w]` at a half, a quarter and an eighth of the side, of length 1 over their channels, of images
        `[N, 3, H, W]` in [-1, 1]. In float32, in which depthwise convolutions take no longer than in bfloat16."""
        with torch.autocast(images.device.type, enabled=False):
            return normalised(self.network.features(images.float().contiguous(memory_format=torch.channels_last), MAPS))
