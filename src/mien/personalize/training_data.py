"""What a person is learned from: pictures, what is known of them, and the networks that look at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mien.face.frame_bounds import FrameBounds
from mien.face.masks import ClipRegions
from mien.nets.generator import Generator
from mien.nets.imagenet_features import ImageNetFeatures
from mien.nets.perceptual import PerceptualNetwork
from mien.nets.styleflow import HeadPoseFlow
from mien.nets.stylespace import Channel
from mien.packs.imagenet import imagenet_features
from mien.packs.pack import Pack
from mien.personalize.noise_schedule import steadiness
from mien.runtime.frame_store import Crops


@dataclass(frozen=True)
class TrainingData:
    """What a person is learned from. `original`: the pack's generator; `perceptual`: see `Pack.perceptual`; `channels`:
    V; `others [M, L, D]`: latents of other people, for locality; `crops` uint8 `[T, S, S, 3]`; `landmarks [T, 478, 2]`
    and `regions` of them; `imagenet`: see `ImageNetFeatures`, None where it is not installed; `steady [1, 1, 64, 64]`:
    where the fine picture stays (`mien.personalize.noise_schedule`); `lost [T]`: frames that do not show the face, from
    which nothing is learned."""

    original: Generator
    flow: HeadPoseFlow
    perceptual: PerceptualNetwork
    imagenet: ImageNetFeatures | None
    channels: tuple[Channel, ...]
    others: Tensor
    crops: Crops
    landmarks: NDArray[np.floating]
    regions: ClipRegions
    steady: Tensor
    lost: NDArray[np.bool_]

    @staticmethod
    def of(
        pack: Pack,
        crops: Crops,
        landmarks: NDArray[np.floating],
        bounds: FrameBounds | None = None,
        lost: NDArray[np.bool_] | None = None,
    ) -> TrainingData:
        """Of crops and their landmarks, with the pack's networks. `bounds`: of the frame, None where all crops lie
        within it; `lost [T]`: frames that do not show the face, None where all do."""
        return TrainingData(
            original=pack.generator,
            flow=pack.flow,
            perceptual=pack.perceptual,
            imagenet=imagenet_features(pack.device),
            channels=pack.channels,
            others=pack.people,
            crops=crops,
            landmarks=landmarks,
            regions=ClipRegions(landmarks, crops.shape[1], pack.device, bounds),
            steady=steadiness(crops).to(pack.device),
            lost=np.zeros(len(crops), bool) if lost is None else lost,
        )
