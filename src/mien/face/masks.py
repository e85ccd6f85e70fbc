"""Regions of a face: parsing labels from landmarks, and the masks of the paper's attributes (Sec. 3.3, 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.face import mesh as lm
from mien.face.frame_bounds import FrameBounds

_AT_ONCE = 32
OUTSIDE = 0.25  # of the background's weight, for what lies outside the frame
MASK_SIZE = 64  # masks are smooth: one size serves every resolution


def region_labels(points: NDArray[np.floating], size: int, scale: float) -> NDArray[np.uint8]:
    """Face-parsing labels `[size, size]` from crop landmarks `[478, 2]` (times `scale`).

    0 other, 1 skin, 2 brows, 3 eyes, 4 irises, 5 nose, 6 lips, 7 inner mouth.
    """
    label = np.zeros((size, size), np.uint8)
    shift = 4
    poly = lambda ids: ((points[ids] * scale + 0.5 * (scale - 1)) * 2**shift).round().astype(np.int32)
    fill = lambda ids, value: cv2.fillPoly(label, [poly(ids)], value, shift=shift)
    fill(lm.FACE_OVAL, 1)
    fill(lm.NOSE, 5)
    for side in range(2):
        fill(lm.BROWS[side], 2)
        eye = np.zeros_like(label)
        cv2.fillPoly(eye, [poly(lm.EYES[side])], 1, shift=shift)
        label[eye > 0] = 3
        iris = np.zeros_like(label)
        cv2.fillPoly(iris, [cv2.convexHull(poly(lm.IRISES[side][1:]))], 1, shift=shift)
        label[(eye > 0) & (iris > 0)] = 4
    fill(lm.LIPS_OUTER, 6)
    fill(lm.LIPS_INNER, 7)
    return label


@dataclass(frozen=True)
class Regions:
    """Soft masks of T frames, each `[T, 1, 64, 64]` in [0, 1].

    `mouth`: mouth, chin and jaw; `eyes`: eyes and eyebrows; `pupils`: the irises within the lids; `face`: the whole
    face and forehead (the 81-point region of Sec. 3.3); `rigid`: the face without eyes, brows, mouth and chin, which
    only the head's own motion moves; `lips`: lips and the mouth between them; `opening`: the eyes between the lids;
    `nose`: from its bridge to its wings; `within`: what lies within the frame that the crop was cut from, to which the
    others are confined.
    """

    mouth: Tensor
    eyes: Tensor
    pupils: Tensor
    face: Tensor
    rigid: Tensor
    lips: Tensor
    opening: Tensor
    nose: Tensor
    within: Tensor

    def part(self, frames: slice | Tensor) -> Regions:
        """The masks of some frames."""
        return Regions(*(getattr(self, name)[frames] for name in self.__dataclass_fields__))

    def to(self, device: torch.device) -> Regions:
        """The masks on a device."""
        return Regions(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def confined(self, within: Tensor) -> Regions:
        """The masks where `within [T, 1, 64, 64]` says that the camera saw something."""
        return Regions(*(getattr(self, name) * within for name in self.__dataclass_fields__))

    @property
    def attention(self) -> Tensor:
        """Weight of each pixel for a viewer: 0.6 for the background, 1 for the face, up to 4 for its features, and
        little for what the camera did not see."""
        features = torch.maximum(self.eyes, self.mouth * 0.7)
        background = 0.6 * (OUTSIDE + (1 - OUTSIDE) * self.within)
        return background + 0.4 * self.face + 2.0 * features + 1.5 * self.pupils


class Masks(Protocol):
    """The masks of a clip's frames."""

    def part(self, frames: slice | Tensor, /) -> Regions:
        """The masks of some frames."""
        ...


class ClipRegions:
    """The masks of T frames with mesh `landmarks [T, 478, 2]` in pixels of crops of side `size`, computed on access:
    those of a clip would fill more memory than its crops. `bounds`: of the frame, None where all crops lie within
    it."""

    def __init__(
        self, landmarks: NDArray[np.floating], size: int, device: torch.device | str = "cpu",
        bounds: FrameBounds | None = None,
    ) -> None:  # fmt: skip
        self._landmarks, self._size, self._device = landmarks, size, torch.device(device)
        self._bounds = bounds

    def part(self, frames: slice | Tensor, /) -> Regions:
        """The masks of some frames."""
        chosen = self._landmarks[frames.cpu().numpy() if isinstance(frames, Tensor) else frames]
        found = regions(chosen, self._size)
        if self._bounds is not None:
            found = found.confined(self._bounds.within(frames, MASK_SIZE))
        return found.to(self._device)

    def mean(self, of: Callable[[Regions], Tensor]) -> Tensor:
        """Mean over all frames of a function of their masks, `[T, C, 64, 64]` -> `[1, C, 64, 64]`."""
        starts = range(0, len(self._landmarks), _AT_ONCE)
        sums = [of(self.part(slice(i, i + _AT_ONCE))).sum(0, keepdim=True, dtype=torch.float64) for i in starts]
        return (torch.cat(sums).sum(0, keepdim=True) / len(self._landmarks)).float()


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow a mask `[N, 1, h, w]` by `radius` pixels and soften its edge."""
    size = 2 * radius + 1
    return F.avg_pool2d(F.max_pool2d(mask, size, 1, radius), size, 1, radius, count_include_pad=False)


def regions(landmarks: NDArray[np.floating], size: int) -> Regions:
    """Masks from mesh landmarks `[T, 478, 2]` in pixels of crops of side `size`."""
    if not len(landmarks):
        raise ValueError("regions needs at least one frame")
    labels = np.stack([region_labels(p.astype(np.float64), MASK_SIZE, MASK_SIZE / size) for p in landmarks])
    label = torch.from_numpy(labels)[:, None]
    rows = torch.arange(MASK_SIZE).view(1, 1, -1, 1)
    is_any = lambda *values: torch.stack([label == v for v in values]).any(0).float()
    lips = torch.from_numpy(landmarks[:, lm.LIPS_OUTER, 1] * (MASK_SIZE / size)).amin(1).view(-1, 1, 1, 1)
    lower_face = ((label > 0) & (rows >= lips - 1)).float()
    mouth = dilate(torch.maximum(lower_face, is_any(6, 7)), 3)
    eyes = dilate(is_any(2, 3, 4), 2)
    face = dilate((label > 0).float(), 2)
    # The mesh ends at the hairline's lower edge: the 81-point model reaches up the forehead.
    face = torch.maximum(face, F.pad(face, (0, 0, 0, 4))[:, :, 4:])
    rigid = (face - torch.maximum(mouth, dilate(eyes, 2))).clamp(0, 1)
    pupils = F.avg_pool2d(is_any(4), 3, 1, 1)
    return Regions(mouth, eyes, pupils, face, rigid, is_any(6, 7), is_any(3, 4), is_any(5), torch.ones_like(face))


CLASSES = ("other", "skin", "brows", "eyes", "irises", "nose", "lips", "inner mouth")
