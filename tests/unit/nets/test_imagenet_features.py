"""Features of networks that were trained on ImageNet: the faster form is the same function, and Lite1's weights are whose
they are said to be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from skimage.data import coffee

from factories.judges import seeded
from mien.media.images import to_float
from mien.nets.efficientnet_lite import EfficientNetLite
from mien.nets.imagenet_features import MAPS, ImageNetFeatures
from mien.nets.perceptual import normalised
from mien.packs.imagenet import TUNING_VARIANT, load_efficientnet_lite, weights_file


@pytest.mark.parametrize("variant", [0, 1])
def test_fused_normalisations_are_the_same_function(variant: int) -> None:
    network = seeded(EfficientNetLite(variant)).eval()
    images = torch.rand(2, 3, 48, 48) * 2 - 1
    with torch.no_grad():
        for a, b in zip(ImageNetFeatures(network)(images), normalised(network.features(images, MAPS)), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(a.norm(dim=1), torch.ones_like(a[:, 0]), atol=1e-3, rtol=1e-3)


def test_features_have_a_gradient_for_the_image_alone() -> None:
    features = ImageNetFeatures(seeded(EfficientNetLite(1)))
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    sum(f.sum() for f in features(image)).backward()  # type: ignore[union-attr]
    assert image.grad is not None and torch.isfinite(image.grad).all() and image.grad.abs().max() > 0
    assert not any(p.requires_grad for p in features.parameters())


@pytest.mark.skipif(weights_file(TUNING_VARIANT) is None, reason="NOT TESTED: EfficientNet-Lite1's weights are missing")
def test_the_weights_of_tunings_features_know_a_cup_of_coffee() -> None:
    image = to_float(coffee()[None, :, 100:500])
    network = load_efficientnet_lite(TUNING_VARIANT)
    with torch.no_grad():
        small = F.interpolate(image, (240, 240), mode="area")
        assert int(network(small).argmax()) in (967, 968)  # espresso, cup
        assert int(network.with_fused_norms()(small).argmax()) in (967, 968)
