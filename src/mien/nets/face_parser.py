"""The embedded pack's face parser: where skin, brows, eyes, irises, nose, lips and inner mouth are, and landmarks.

A small U-Net trained on labels drawn from MediaPipe's face mesh. Its features also serve as the pack's perceptual
network (`nets/perceptual.py`), since they tell lips, lids and irises apart.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from mien.face.masks import CLASSES
from mien.face.measures import POINTS
from mien.nets.resnet import LeakyResidual

INPUT_SIZE = 128


@runtime_checkable
class LandmarkReader(Protocol):
    """A network that reads landmarks off images with a gradient: a capability that a pack's parser may have."""

    def read_landmarks(self, images: Tensor, /) -> Tensor:
        """Landmarks `[N, len(POINTS), 2]` in [0, 1] of the crop's side, of images `[N, 3, H, W]` in [-1, 1]."""
        ...


class FaceParser(nn.Module):
    """Images `[N, 3, H, W]` in [-1, 1] -> parsing logits `[N, 8, 64, 64]` and landmarks `[N, len(POINTS), 2]`.

    Landmarks are in [0, 1] of the crop's side. Any input size is resampled to 128x128 first.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 6 * width)
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.blocks = nn.ModuleList(LeakyResidual(w, 0.1) for w in widths)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(LeakyResidual(w, 0.1) for w in widths[:-1])
        self.head = nn.Conv2d(widths[0], len(CLASSES), 1)
        self.squeeze = nn.Conv2d(widths[-1], 32, 1)
        self.landmark = nn.Sequential(nn.Linear(32 * 64, 192), nn.LeakyReLU(0.1), nn.Linear(192, 2 * len(POINTS)))

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps at 64, 32, 16 and 8 pixels a side."""
        if image.shape[-1] != INPUT_SIZE:
            mode = {"mode": "area"} if image.shape[-1] > INPUT_SIZE else {"mode": "bilinear", "align_corners": False}
            image = F.interpolate(image, (INPUT_SIZE, INPUT_SIZE), **mode)
        x = self.blocks[0](F.leaky_relu(self.stem(image), 0.1))
        maps = [x]
        for down, block in zip(self.down, self.blocks[1:], strict=True):
            x = block(F.leaky_relu(down(x), 0.1))
            maps.append(x)
        return maps

    def parse(self, maps: list[Tensor]) -> Tensor:
        """Logits `[N, 8, 64, 64]` from `features`."""
        x = maps[-1]
        for i in reversed(range(len(maps) - 1)):
            x = F.interpolate(self.up[i](x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.merge[i](x + maps[i])
        return self.head(x)

    def landmarks(self, maps: list[Tensor]) -> Tensor:
        """Landmarks `[N, len(POINTS), 2]` in [0, 1] from `features`."""
        return 0.5 + 0.25 * self.landmark(self.squeeze(maps[-1]).flatten(1)).float().view(-1, len(POINTS), 2)

    def read_landmarks(self, images: Tensor, /) -> Tensor:
        """Landmarks `[N, len(POINTS), 2]` in [0, 1] of images `[N, 3, H, W]` in [-1, 1]."""
        return self.landmarks(self.features(images))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.features(image)
        return self.parse(maps), self.landmarks(maps)
