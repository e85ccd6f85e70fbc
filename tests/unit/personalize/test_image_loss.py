"""The image losses of a step: which pictures ImageNet's features are compared in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from factories.judges import seeded
from factories.packs import tiny_pack
from factories.training import quick_schedule
from mien.nets.efficientnet_lite import EfficientNetLite
from mien.nets.imagenet_features import ImageNetFeatures
from mien.personalize import image_loss
from mien.personalize.image_loss import ImageLoss
from mien.personalize.sampling import Batch
from mien.personalize.training_data import TrainingData


def test_imagenet_features_add_their_distance() -> None:
    pack = tiny_pack()
    crops = np.random.RandomState(0).randint(0, 255, (3, 64, 64, 3)).astype(np.uint8)
    data = TrainingData.of(pack, crops, np.random.RandomState(1).rand(3, 478, 2).astype(np.float32) * 64)
    data = replace(data, imagenet=ImageNetFeatures(seeded(EfficientNetLite(1))))
    batch = Batch(torch.tensor([0, 2]), 64, None, 0)
    styles = pack.generator.styles(pack.people[:2])
    with torch.no_grad():
        plain = ImageLoss(data, quick_schedule(1))(pack.generator, styles, batch)
        seen = ImageLoss(data, replace(quick_schedule(1), imagenet=0.5))(pack.generator, styles, batch)
        without = ImageLoss(replace(data, imagenet=None), replace(quick_schedule(1), imagenet=0.5))
        assert torch.equal(without(pack.generator, styles, batch), plain)
    assert seen > plain


def test_of_a_large_window_each_corner_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_loss, "LARGEST_FEATURES_PX", 4)
    picture = torch.arange(36.0).view(1, 1, 6, 6)
    seen = [image_loss._corner(picture, step) for step in range(4)]
    assert all(corner.shape[-2:] == (4, 4) for corner in seen)
    assert set(torch.cat([c.flatten() for c in seen]).tolist()) == set(range(36))
    assert torch.equal(image_loss._corner(picture[..., :4, :4], 3), picture[..., :4, :4])
    assert image_loss._small(torch.zeros(1, 3, 16, 16)).shape[-1] == 4
