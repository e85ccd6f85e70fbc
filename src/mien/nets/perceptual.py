"""The embedded pack's perceptual distance: normalised feature differences of the face parser, at four scales."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mien.nets.face_parser import FaceParser


def normalised(maps: list[Tensor]) -> list[Tensor]:
    """Unit-normalise each map over its channels, as LPIPS does (Zhang et al. 2018), so that no scale dominates."""
    return [F.normalize(m.float(), dim=1, eps=1e-4) for m in maps]


def distance_maps(a: list[Tensor], b: list[Tensor], size: int) -> Tensor:
    """Sum over scales of squared feature differences, `[N, 1, size, size]`; `a`, `b` as from `normalised`."""
    total: Tensor | None = None
    for x, y in zip(a, b, strict=True):
        d = (x - y).square().sum(1, keepdim=True)
        if d.shape[-1] != size:
            d = F.interpolate(d, (size, size), mode="bilinear", align_corners=False)
        total = d if total is None else total + d
    assert total is not None
    return total


class ParserPerceptual:
    """The perceptual network of a pack without one of its own: the face parser's normalised features."""

    def __init__(self, parser: FaceParser) -> None:
        self.parser = parser

    def features(self, image: Tensor) -> list[Tensor]:
        """Maps `[N, C, h, w]` at 64, 32, 16 and 8 pixels; their squared differences are the distance."""
        return normalised(self.parser.features(image))
