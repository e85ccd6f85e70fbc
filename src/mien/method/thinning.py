"""Stages 4 and 5 at some of the frames: how far these are from where they started, and their losses, are interpolated for
those between.

Where a refinement follows, both stages give no more than its start, and neighbours in time need nearly the same
correction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mien.face.masks import Masks, Regions
from mien.method.image_sequences import ImageSequence
from mien.method.problems import AttributeProblem, PoseProblem


@dataclass(frozen=True)
class Thinning:
    """`chosen [K]`: the numbers, ascending, of those of `count` frames that are solved."""

    chosen: Tensor
    count: int

    @staticmethod
    def every(n: int, count: int, device: torch.device) -> Thinning:
        """Each n-th of `count` frames, and the last."""
        chosen = torch.arange(0, count, n, device=device)
        if count and int(chosen[-1]) != count - 1:
            chosen = torch.cat([chosen, chosen.new_tensor([count - 1])])
        return Thinning(chosen, count)

    def pose(self, problem: PoseProblem) -> PoseProblem:
        """Eq. 2 of the chosen frames."""
        return replace(
            problem, targets=_Chosen(problem.targets, self.chosen), masks=_ChosenMasks(problem.masks, self.chosen),
            measured=problem.measured[self.chosen],
        )  # fmt: skip

    def attributes(self, problem: AttributeProblem) -> AttributeProblem:
        """Eq. 3 of the chosen frames."""
        return replace(
            problem, targets=_Chosen(problem.targets, self.chosen), masks=_ChosenMasks(problem.masks, self.chosen),
            angles=problem.angles[self.chosen], start=problem.start[self.chosen], blink=problem.blink[self.chosen],
        )  # fmt: skip

    def spread(self, values: Tensor) -> Tensor:
        """Values `[K, ...]` of the chosen frames, linear between them: `[T, ...]`."""
        frames = torch.arange(self.count, device=values.device)
        after = torch.searchsorted(self.chosen, frames).clamp_max(len(self.chosen) - 1)
        before = (after - 1).clamp_min(0)
        gap = (self.chosen[after] - self.chosen[before]).clamp_min(1)
        share = ((frames - self.chosen[before]) / gap).view(-1, *[1] * (values.ndim - 1)).to(values.dtype)
        return torch.lerp(values[before], values[after], share)


@dataclass(frozen=True)
class _Chosen:
    """Some of a sequence's images."""

    images: ImageSequence
    frames: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, part: slice | Tensor, /) -> Tensor:
        return self.images[self.frames[part]]


@dataclass(frozen=True)
class _ChosenMasks:
    """The masks of some frames."""

    masks: Masks
    frames: Tensor

    def part(self, frames: slice | Tensor, /) -> Regions:
        return self.masks.part(self.frames[frames])
