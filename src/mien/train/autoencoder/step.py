"""What one training step of the autoencoder passes from one function to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mien.nets.stylegan2 import Window
from mien.train.dataset import Batch


class StepLosses(NamedTuple):
    """Weighted losses of one step, and what the adversary sees: renders with the images they are to equal, and renders
    of swaps and single channels, which equal no image."""

    losses: dict[str, Tensor]
    rendered: Tensor
    images: Tensor
    unpaired: Tensor


@dataclass(frozen=True)
class StepInputs:
    """One step's data: N = stills + 2 * pairs images in this order, S of them swapped.

    `images [N, 3, S, S]` with colours changed, `target [N, 3, low, low]`; base codes `[N, D]` and offsets `[N, L, D]`
    of the encoder, whose sum with `w_mean` is `w_plus`; `pose [N, 2]` in degrees.
    """

    stills: Batch
    first: Batch
    second: Batch
    images: Tensor
    target: Tensor
    base: Tensor
    offsets: Tensor
    w_plus: Tensor
    pose: Tensor

    @property
    def low(self) -> int:
        """Resolution at which whole renders are compared."""
        return self.target.shape[-1]

    @property
    def recipients(self) -> int:
        """How many images, from the first, may receive a swap: stills and first frames of the pairs."""
        return len(self.stills.index) + len(self.first.index)

    @property
    def reconstructed(self) -> Tensor:
        """Indices of the images that are reconstructed: stills, and half of the second frames."""
        half = torch.arange(self.recipients, self.recipients + len(self.first.index) // 2)
        return torch.cat([torch.arange(len(self.stills.index)), half]).to(self.images.device)


@dataclass(frozen=True)
class Swaps:
    """Swaps of S recipients with S donors (indices of images): `turned [S, 1]`, whether the head pose comes along;
    `pose [S, 2]`, the one that results; `chosen [S, 4]`, whether an attribute's channels do."""

    recipients: Tensor
    donors: Tensor
    turned: Tensor
    pose: Tensor
    chosen: Tensor


@dataclass(frozen=True)
class StepRenders:
    """Renders of reconstructions and pairs `[N, 3, low, low]`, of swaps and of single channels; the window at full
    resolution where there is one; styles of the N images and of the swaps; losses that were found on the way."""

    image: Tensor
    swap: Tensor
    single: Tensor
    detail: Tensor | None
    window: Window
    styles: list[Tensor]
    swap_styles: list[Tensor]
    leak: Tensor
    gaze_error: Tensor


def concatenated(first: Batch, second: Batch, count: int) -> Batch:
    """`first`, then `count` items of `second`."""
    return Batch(*(torch.cat([getattr(first, f), getattr(second, f)[:count]]) for f in Batch.__dataclass_fields__))
