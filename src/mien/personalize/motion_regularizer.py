"""Motion regulariser: a tuned generator goes on moving as the pack's does.

A clip teaches the motions that are in it. What its person never does, a mouth that stays shut for the whole clip,
tuning would forget, and a driver could not move it afterwards; one picture (`mien.reenact.portrait`) teaches none at
all. So tuning compares how the picture of the person *changes* between two sets of angles and channel values in the
tuned generator and in the pack's, at 32x32: where things go, not how sharp they are. The paper has no counterpart; it
is to motion what locality (Roich et al. 2021) is to other people.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.method.avatar import Avatar
from mien.nets.generator import Generator
from mien.personalize.training_data import TrainingData

EVERY = 8  # steps
_CHANNELS = 1.5  # standard deviation of a moved channel, in units of its scale; half of the channels move
SIDE = 32  # pixels of the pictures that are compared
_ANGLES = 10.0  # standard deviation of yaw and pitch, degrees


def coarse(generator: Generator, styles: list[Tensor]) -> Tensor:
    """Small pictures of styles, `[N, 3, 32, 32]`."""
    return generator.picture(styles, SIDE)


def change_error(made: Tensor, wanted: Tensor, features: Tensor) -> Tensor:
    """How far two pictures `made [2, 3, s, s]` differ otherwise than two that are `wanted`, weighted `[1, s, s]`."""
    return (((made[0] - made[1]) - (wanted[0] - wanted[1])).abs() * features).mean()


class MotionRegularizer:
    """The loss of one step, with random numbers of its own (deterministic for a seed and a step)."""

    def __init__(self, data: TrainingData, identity: Tensor, weight: float, seed: int) -> None:
        """`identity [L, D]`, facing the camera, as the pack's generator has it; `weight`: beside the image losses."""
        self._data, self._identity, self._weight, self._seed = data, identity.detach(), weight, seed
        channels = data.channels
        device = identity.device
        self._scale = torch.tensor([c.scale for c in channels], dtype=torch.float32, device=device)
        side = min(SIDE, data.original.resolution)
        self._features = F.interpolate(data.regions.mean(lambda these: these.attention), (side, side), mode="area")[0]

    def __call__(self, generator: Generator, identity: Tensor, step: int) -> Tensor | None:
        """The loss at a step, None where it is not its turn."""
        if not self._weight or step % EVERY != EVERY // 2:
            return None
        random = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        draw = lambda *size: torch.randn(*size, generator=random).to(self._identity.device)
        angles = self._data.flow.clamp(draw(2, 2) * _ANGLES)
        which = (draw(2, len(self._scale)) > 0).float()
        alpha = draw(2, len(self._scale)) * _CHANNELS * self._scale * which
        with torch.no_grad():
            wanted = self._moved(self._data.original, self._identity, angles, alpha)
        made = self._moved(generator, identity, angles, alpha)
        return self._weight * change_error(made, wanted, self._features)

    def _moved(self, generator: Generator, identity: Tensor, angles: Tensor, alpha: Tensor) -> Tensor:
        data = self._data
        avatar = Avatar(generator, data.flow, data.channels, identity)
        return coarse(generator, avatar.styles(angles, alpha))
