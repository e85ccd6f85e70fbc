"""How a person is learned: what tuning and refinement have in common. Each layer beyond the paper can be left out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Self

# Most bytes of the tuned weights, None: all of them; `auto`: `default_person_size`.
PersonSize = int | Literal["auto"] | None

# Pixels a side. In larger pictures noise constants take a large part of a small person.
LARGEST_SMALL_PICTURE = 256


def default_person_size(resolution: int) -> int:
    """Most bytes of the tuned weights for pictures of `resolution` pixels a side.

    With 188,000 a person's file has 200,000 at most with `mini`. In larger pictures noise constants take much of that: at
    1024 the layers of `ffhq-mobile` would be left a rank of 5, where 400,000 give 31.
    """
    return 188_000 if resolution <= LARGEST_SMALL_PICTURE else 400_000


@dataclass(frozen=True)
class MuonOptions:
    """Muon for convolutions and their factors (`mien.personalize.muon`). `momentum` of their gradients; `max_update`: how
    far they move at a step, in learning rates."""

    momentum: float = 0.85
    max_update: float = 0.6


@dataclass(frozen=True)
class NoiseOptions:
    """Learning of noise constants. `rate`: so many times faster than weights, since each stands for one pixel."""

    rate: float = 3.5


@dataclass(frozen=True)
class PivotLocalityOptions:
    """PTI's locality regularisation (Roich et al. 2021, Eq. 4 to 6): the tuned generator stays the same at latents
    `distance` away from the pivot, towards other people. Weights of its `l2` and `perceptual` parts; every `interval`
    steps."""

    distance: float = 30.0
    l2: float = 0.1
    perceptual: float = 0.1
    interval: int = 1


@dataclass(frozen=True)
class TrainingOptions:
    """What tuning and refinement share.

    `steps` of `batch` frames each, and more on a long clip, so that each frame is drawn `passes` times on average
    (`for_clip`). `generator_rate`: learning rate of weights. `pixel_loss`: `pyramid` (L1, gradients and L2 over three
    levels, weighted by what matters to a viewer) or `l2`. Beside it the weights of the `perceptual` distance and of that of
    `imagenet` features, where their network is installed. `even_sampling`: rare expressions are drawn as often as common ones. `windows`: at large sizes the last
    block is drawn in a random window only. `noise`, `muon`: None leaves them out; without Muon, Adam moves all.
    """

    steps: int = 60
    passes: float = 2.0
    batch: int = 4
    generator_rate: float = 6e-3
    pixel_loss: Literal["pyramid", "l2"] = "pyramid"
    perceptual: float = 0.3
    imagenet: float = 0.2
    even_sampling: bool = True
    windows: bool = True
    noise: NoiseOptions | None = field(default_factory=NoiseOptions)
    muon: MuonOptions | None = field(default_factory=MuonOptions)
    seed: int = 0

    def for_clip(self, frames: int, effort: float = 1.0, batch: int | None = None) -> Self:
        """With as many steps as a clip of so many frames takes, times `effort`. `batch`: the frames that a step really
        draws, where memory allows fewer than were asked for."""
        steps = max(self.steps, self.passes * frames / (batch or self.batch))
        return replace(self, steps=max(math.ceil(steps * effort), 1))


@dataclass(frozen=True)
class TuningOptions(TrainingOptions):
    """Pivotal tuning (the paper, Sec. 4.1).

    `encoder_rate`: the encoder is tuned along, where it is small enough to learn a person from one clip; None: the
    pivots are fixed. `pivot_locality`: PTI's. `coarse_first`: two thirds of the steps run at `resolution`, but at most half of the generator's own, and the last third at that.
    """

    encoder_rate: float | None = 4e-4
    pivot_locality: PivotLocalityOptions | None = None
    coarse_first: bool = True
    resolution: int = 256

    @staticmethod
    def paper() -> TuningOptions:
        """As the paper tunes: fixed pivots, L2 and perceptual distance, PTI's locality, Adam, the whole picture."""
        return TuningOptions(
            steps=350,
            passes=8.0,
            generator_rate=3e-4,
            windows=False,
            coarse_first=False,
            pixel_loss="l2",
            perceptual=1.0,
            imagenet=0.0,
            even_sampling=False,
            noise=None,
            muon=None,
            encoder_rate=None,
            pivot_locality=PivotLocalityOptions(),
        )


@dataclass(frozen=True)
class RefinementOptions(TrainingOptions):
    """The joint pass after stage 5 (ours): weights, L_ID and the numbers of each frame. Learning rates of identity
    latent, angles (degrees) and channels (units of their scale); `hold`: weight that keeps the numbers near where
    stages 4 and 5 put them."""

    steps: int = 120
    passes: float = 4.8
    generator_rate: float = 4e-3
    identity_rate: float = 2e-3
    angle_rate: float = 0.1
    channel_rate: float = 0.04
    hold: float = 2e-4
