"""How far a render is from the frames of a batch: pixels and the perceptual network's features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.nets.generator import Generator
from mien.personalize.losses import feature_loss, pyramid_loss
from mien.personalize.sampling import Batch, Wanted
from mien.personalize.schedule import Schedule
from mien.personalize.training_data import TrainingData


class ImageLoss:
    """The image losses of a schedule, a scalar."""

    def __init__(self, data: TrainingData, schedule: Schedule) -> None:
        self._schedule, self._data, self._perceptual = schedule, data, data.perceptual

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
            loss = self._pixels(detail, batch.window.cut(target), batch.window.cut(whole))
            target = F.avg_pool2d(target, 2)
        loss = loss + self._pixels(image, target, weight)
        with torch.no_grad():
            features = self._perceptual.features(target)
        return loss + schedule.perceptual * feature_loss(self._perceptual.features(image), features, weight)

    def _pixels(self, image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The pixel loss."""
        if self._schedule.pixel_loss == "l2":
            return (image - target).square().mean()
        return pyramid_loss(image, target, weight)
