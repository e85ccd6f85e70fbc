"""How far a render is from the frames of a batch: pixels, the perceptual network's features, and those of a network
that was trained on ImageNet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.nets.generator import Generator
from mien.personalize.losses import feature_loss, pyramid_loss
from mien.personalize.sampling import Batch, Wanted
from mien.personalize.schedule import Schedule
from mien.personalize.training_data import TrainingData

# Side of the largest picture whose ImageNet features are compared: the time that they take grows with its area.
LARGEST_FEATURES_PX = 256


class ImageLoss:
    """The image losses of a schedule, a scalar."""

    def __init__(self, data: TrainingData, schedule: Schedule) -> None:
        self._schedule, self._data, self._perceptual = schedule, data, data.perceptual
        self._imagenet = data.imagenet if schedule.imagenet > 0 else None

    def __call__(self, generator: Generator, styles: list[Tensor], batch: Batch) -> Tensor:
        """Of the render of `styles` beside the frames of the batch."""
        wanted = Wanted.of(batch, self._data)
        schedule, target, weight, loss = self._schedule, wanted.target, wanted.weight, wanted.target.new_zeros(())
        if schedule.pixel_loss == "l2":
            weight = torch.ones_like(weight)
        if batch.window is None:
            image = generator.picture(styles, target.shape[-1])
        else:
            image, detail = generator.synthesis_with_detail(styles, batch.window)
            whole = F.interpolate(weight, target.shape[-2:], mode="bilinear")
            seen = detail, batch.window.cut(target), batch.window.cut(whole)
            loss = self._pixels(*seen) + self._textures(*(_corner(x, batch.step) for x in seen))
            target = F.avg_pool2d(target, 2)
        loss = loss + self._pixels(image, target, weight) + self._textures(_small(image), _small(target), weight)
        with torch.no_grad():
            features = self._perceptual.features(target)
        return loss + schedule.perceptual * feature_loss(self._perceptual.features(image), features, weight)

    def _textures(self, image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The distance of ImageNet features."""
        if self._imagenet is None:
            return target.new_zeros(())
        with torch.no_grad():
            wanted = self._imagenet(target)
        return self._schedule.imagenet * feature_loss(self._imagenet(image), wanted, weight)

    def _pixels(self, image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The pixel loss."""
        if self._schedule.pixel_loss == "l2":
            return (image - target).square().mean()
        return pyramid_loss(image, target, weight)


def _small(image: Tensor) -> Tensor:
    """An image averaged down until it is no larger than `LARGEST_FEATURES_PX`."""
    while image.shape[-1] > LARGEST_FEATURES_PX:
        image = F.avg_pool2d(image, 2)
    return image


def _corner(image: Tensor, step: int) -> Tensor:
    """What of a window is looked at: a corner of `LARGEST_FEATURES_PX` at most, another one at each step."""
    if max(image.shape[-2:]) <= LARGEST_FEATURES_PX:
        return image
    down, right = (max(side - LARGEST_FEATURES_PX, 0) for side in image.shape[-2:])
    top, left = down * (step // 2 % 2), right * (step % 2)
    return image[..., top : top + LARGEST_FEATURES_PX, left : left + LARGEST_FEATURES_PX]
