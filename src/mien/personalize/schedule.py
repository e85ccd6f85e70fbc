"""How a training loop goes: steps, sizes, rates, weights of its losses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mien.personalize.options import MuonOptions, TrainingOptions

LAST_SHARE = 0.05  # of the rates at the start, what is left at the end
WINDOWS_FROM = 256  # pixels: from this size on, the last block is drawn in a window of half the side


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`steps` of `batch` frames each. `low_steps` of them, at first, at `resolution`; the others at the generator's
    own. `warm`: steps until the rates are full. `perceptual`, `imagenet`: weights of the perceptual network's features and of
    ImageNet's, beside the `pixel_loss`. `muon`: None for Adam alone. `windows_from`: pixels from which on the last block is drawn in a window, None for never."""

    steps: int
    batch: int
    resolution: int
    low_steps: int
    warm: int
    seed: int
    perceptual: float
    imagenet: float = 0.0
    pixel_loss: Literal["pyramid", "l2"] = "pyramid"
    muon: MuonOptions | None = field(default_factory=MuonOptions)
    windows_from: int | None = WINDOWS_FROM

    @staticmethod
    def of(options: TrainingOptions, *, resolution: int, low_steps: int, warm: int, seed: int) -> Schedule:
        """The schedule of tuning or refinement."""
        return Schedule(
            steps=options.steps,
            batch=options.batch,
            resolution=resolution,
            low_steps=low_steps,
            warm=warm,
            seed=seed,
            perceptual=options.perceptual,
            imagenet=options.imagenet,
            pixel_loss=options.pixel_loss,
            muon=options.muon,
            windows_from=WINDOWS_FROM if options.windows else None,
        )

    def rate_factor(self, step: int) -> float:
        """The share of the rates at a step: up in the first ones, down on a cosine to `LAST_SHARE`."""
        share = 0.5 * (1 + np.cos(np.pi * step / self.steps)) * (1 - LAST_SHARE) + LAST_SHARE
        return float(share) * min(1.0, (step + 1) / self.warm)

    def shortened(self, done: int, seconds: float, left: float) -> Schedule:
        """With the steps that still fit into `left` seconds after `done` steps, each of which took `seconds`; it is not
        made longer."""
        steps = min(self.steps, done + max(int(left / seconds), 0))
        low = max(min(self.low_steps * steps // self.steps, self.low_steps), min(done, self.low_steps))
        return self.with_steps(steps, low)

    def with_steps(self, steps: int, low_steps: int) -> Schedule:
        """With another number of steps."""
        return replace(self, steps=steps, low_steps=low_steps)
