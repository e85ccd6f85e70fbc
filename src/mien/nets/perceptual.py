"""Perceptual distances of packs: LPIPS, or normalised feature differences of the face parser at four scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets.face_parser import FaceParser, LandmarkReader
from mien.nets.lpips import LPIPS


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


@dataclass(frozen=True)
class Analysis:
    """What a pack's networks make of N images.

    Maps of the perceptual network; landmarks `[N, len(POINTS), 2]` in [0, 1] and parsing logits `[N, K, h, w]`, None where
    not asked for or without a network for them."""

    features: list[Tensor]
    landmarks: Tensor | None = None
    logits: Tensor | None = None


class PerceptualNetwork(Protocol):
    """A pack's perceptual distance: squared differences of maps, summed over channels and averaged over pixels."""

    def features(self, images: Tensor, /) -> list[Tensor]:
        """Maps `[N, C, h, w]`, one a scale, of images `[N, 3, H, W]` in [-1, 1]."""
        ...

    def analyse(self, images: Tensor, /, parser: nn.Module | None = None, *, landmarks: bool = False) -> Analysis:
        """Maps, with logits of a `parser` and landmarks where asked for; networks that are one take one pass."""
        ...


class ParserPerceptual:
    """The perceptual distance of a pack without LPIPS: the face parser's normalised features (not LPIPS)."""

    def __init__(self, parser: FaceParser) -> None:
        self.parser = parser

    def features(self, images: Tensor, /) -> list[Tensor]:
        """Maps `[N, C, h, w]` at 64, 32, 16 and 8 pixels."""
        return normalised(self.parser.features(images))

    def analyse(self, images: Tensor, /, parser: nn.Module | None = None, *, landmarks: bool = False) -> Analysis:
        """See `PerceptualNetwork.analyse`; one pass of the parser serves all three."""
        maps = self.parser.features(images)
        logits = None
        if parser is not None:
            logits = self.parser.parse(maps) if parser is self.parser else parser(images)[0]
        return Analysis(normalised(maps), self.parser.landmarks(maps) if landmarks else None, logits)


class SeparatePerceptual:
    """A perceptual network of its own, such as LPIPS, beside whatever reads a pack's landmarks."""

    def __init__(self, network: LPIPS, reader: LandmarkReader | None) -> None:
        self.network, self.reader = network, reader

    def features(self, images: Tensor, /) -> list[Tensor]:
        """See `LPIPS.features`."""
        return self.network.features(images)

    def analyse(self, images: Tensor, /, parser: nn.Module | None = None, *, landmarks: bool = False) -> Analysis:
        """See `PerceptualNetwork.analyse`; each network takes a pass of its own."""
        read = self.reader.read_landmarks(images) if landmarks and self.reader is not None else None
        return Analysis(self.network.features(images), read, None if parser is None else parser(images)[0])
