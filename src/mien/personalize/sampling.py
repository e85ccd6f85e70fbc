"""Which frames a training step learns from, at which size, and in which window of the picture.

At large sizes a step draws the whole picture at half its size and the last block in a random window only, which is
nearly as cheap as half the size and sees every pixel in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.media.images import to_float
from mien.nets.generator import Window
from mien.personalize.schedule import Schedule
from mien.personalize.training_data import TrainingData

# Half of how far windows may begin outside, to be moved inside: else few ever hold the picture's rim.
WINDOW_RIM_PX = 24


def even_sampling(landmarks: NDArray[np.floating], groups: int = 24) -> NDArray[np.float64]:
    """Probability `[T]` of drawing each frame of landmarks `[T, N, 2]`: half uniform, half even over expressions.

    The frames are grouped around at most `groups` expressions, each the farthest from those before it (Gonzalez
    1985); every group is drawn equally often, however many frames it has.
    """
    points = (landmarks - landmarks.mean(1, keepdims=True)).reshape(len(landmarks), -1).astype(np.float64)
    centre = int(np.linalg.norm(points - np.median(points, axis=0), axis=1).argmin())
    nearest = np.full(len(points), np.inf)
    group = np.zeros(len(points), np.int64)
    for number in range(min(groups, len(points))):
        away = np.linalg.norm(points - points[centre], axis=1)
        group = np.where(away < nearest, number, group)
        nearest = np.minimum(nearest, away)
        centre = int(nearest.argmax())
    count = np.bincount(group, minlength=1)
    weight = 0.5 / len(points) + 0.5 / (np.count_nonzero(count) * count[group])
    return weight / weight.sum()


def uniform_sampling(frames: int) -> NDArray[np.float64]:
    """The same probability `[T]` for each of T `frames`."""
    return np.full(frames, 1 / frames)


def of_seen(probability: NDArray[np.float64], lost: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The probabilities `[T]` where frames that are `lost [T]` are not drawn, unless all are."""
    if lost.all() or not lost.any():
        return probability
    kept = np.where(lost, 0.0, probability)
    return kept / kept.sum()


def sample_frames(random: np.random.RandomState, probability: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """`count` indices by their probabilities, spread over the clip (systematic sampling), in random order."""
    places = (random.rand() + np.arange(count)) / count
    chosen = np.searchsorted(np.cumsum(probability), places * (1 - 1e-9), side="right")
    return random.permutation(np.minimum(chosen, len(probability) - 1))


def batch_at(size: int, batch: int) -> int:
    """How many of `batch` frames a step takes at `size` pixels: a gradient at 1024x1024 fills about 1 GiB a frame."""
    return batch if size <= 512 else min(batch, 2)


# The probability `[T]` of drawing each frame, or what gives it for the number of frames that a step draws.
Probability = NDArray[np.float64] | Callable[[int], NDArray[np.float64]]


@dataclass(frozen=True)
class Batch:
    """The frames of one step: their numbers `index [N]`, the `size` of the pictures that are compared, `window`, where
    the last block is drawn, if not everywhere, and the step's number, `step`."""

    index: Tensor
    size: int
    window: Window | None
    step: int

    def part(self, frames: slice) -> Batch:
        """Some of the frames."""
        return replace(self, index=self.index[frames])


@dataclass(frozen=True)
class Wanted:
    """What is to be rendered of the frames of a batch, `target [N, 3, S, S]` in [-1, 1], and how much each pixel
    matters, `weight [N, 1, h, w]`."""

    target: Tensor
    weight: Tensor

    @staticmethod
    def of(batch: Batch, data: TrainingData) -> Wanted:
        """Of all frames of a batch."""
        target = to_float(data.crops[batch.index.numpy()], batch.size, data.others.device)
        return Wanted(target, data.regions.part(batch.index).attention)


class BatchSampler:
    """Draws the batches of a training loop with the loop's own random numbers, `random`."""

    def __init__(
        self, data: TrainingData, schedule: Schedule, probability: Probability, random: np.random.RandomState
    ) -> None:
        self._data, self._schedule, self._random = data, schedule, random
        self._probability = probability
        original = data.original
        # Where the sum of RGB below the last block is no picture, there are no windows.
        able = original.draws_windows and original.rgb_valid_from <= original.resolution // 2
        least = schedule.windows_from
        self._windows = able and least is not None and original.resolution >= least

    def draw(self, step: int, low_resolution: bool) -> Batch:
        """The batch of a step, at the schedule's resolution or at the generator's own."""
        full = self._data.original.resolution
        size = min(self._schedule.resolution, full) if low_resolution else full
        count, probability = batch_at(size, self._schedule.batch), self._probability
        probability = probability(count) if callable(probability) else probability
        chosen = sample_frames(self._random, of_seen(probability, self._data.lost), count)
        window = self._window(size) if size == full and self._windows else None
        return Batch(torch.from_numpy(chosen), size, window, step)

    def _window(self, size: int) -> Window:
        places = 2 * self._random.randint(-WINDOW_RIM_PX, size // 4 + 1 + WINDOW_RIM_PX, size=2)
        top, left = places.clip(0, size // 2).tolist()
        return Window(top, left, top + size // 2, left + size // 2)
