"""Where noise constants may learn from a clip, and how fast.

A noise constant is a picture that stays in its place. Where nothing moves it is what makes hair and skin sharp. Where
something moves, Adam (whose steps do not ask how large a gradient is) shakes it by what it cannot explain: ears that a
turning head hides and backgrounds behind it become coloured dots.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.face.masks import MASK_SIZE, ClipRegions
from mien.personalize.options import LARGEST_SMALL_PICTURE
from mien.runtime.frame_store import Crops

SLOW = 0.15  # of the rate, where a face moves
LEAST = 0.05  # of the rate, where the fine picture never stays
_FULL = 1.5  # times the share of the fine picture that stays is the rate
_LOOKED_AT = 40  # frames at most
_FINE = 2 / 256  # of the side: what is smaller is the fine picture


def steadiness(crops: Crops) -> Tensor:
    """The share of the fine picture that stays in its place over the clip, `[1, 1, 64, 64]` in [0, 1].

    `crops` uint8 `[T, S, S, 3]`. The fine picture is what a blur takes away; its share is the energy of its mean over
    time by its mean energy: all that a picture that does not move can explain of it. In large pictures, whose constants
    take most of a small person's bytes, it is near 0 where there is hardly any fine picture, as on a plain background:
    Adam's steps would draw a grain there.
    """
    mean = np.zeros(crops.shape[1:], np.float32)
    energy = np.zeros(crops.shape[1:3], np.float32)
    some = range(0, len(crops), max(1, -(-len(crops) // _LOOKED_AT)))
    for number in some:
        fine = crops[number].astype(np.float32) / 255
        fine = fine - cv2.GaussianBlur(fine, (0, 0), _FINE * len(fine))
        mean += fine / len(some)
        energy += np.square(fine).mean(-1) / len(some)
    stays, whole = (_pooled(x) for x in (np.square(mean).mean(-1), energy))
    return torch.from_numpy(stays / (whole + _faint(crops.shape[1]) ** 2)).clamp(0, 1)[None, None]


def _faint(side: int) -> float:
    """The standard deviation, of the range [0, 1], of a fine picture whose share counts half, in pictures of `side`
    pixels."""
    return 2 / 255 if side > LARGEST_SMALL_PICTURE else 0.001


def _pooled(x: NDArray[np.float32]) -> NDArray[np.float32]:
    small = cv2.resize(x, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32)


def noise_rates(regions: ClipRegions, steady: Tensor) -> Tensor:
    """How fast noise constants learn, `[1, 1, 64, 64]`, as a share of their rate.

    As fast as the fine picture is steady, `steady [1, 1, 64, 64]` (`steadiness`). At eyes, brows, chin and jaw it would
    hold what has to move, so there the weights have to be ahead of it: `SLOW`. Closed altogether, those places are left
    to the weights, and eyes come out smeared (research/personalization.md has the figures). Lips and what is between
    them are free, for teeth and folds of the lips are drawn by nothing else.
    """
    often = regions.mean(lambda these: torch.cat([these.lips, these.eyes, these.mouth], 1))
    lips = (3 * F.max_pool2d(often[:, :1], 3, 1, 1)).clamp(0, 1)
    moving = torch.maximum(often[:, 1:2], often[:, 2:] * (1 - lips))
    share = (_FULL * steady).clamp(LEAST, 1)
    return (1 - (1 - SLOW) * (1.5 * moving).clamp(0, 1)) * torch.maximum(share, lips)
