"""What passes between the stages of Fig. 2: frozen values of tensors with documented shapes.

T frames, L rows of W+ of width D, C channels of V. Angles are in degrees: yaw is positive to the viewer's right, pitch
positive up, roll positive clockwise on the screen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.face.frame_bounds import FrameBounds
from mien.face.masks import ClipRegions
from mien.face.measures import blinks
from mien.method.image_sequences import CropFrames, InvertedFrames, Latents
from mien.nets.generator import Generator
from mien.nets.styleflow import HeadPoseFlow
from mien.runtime.frame_store import CropFile

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FaceTrack:
    """Stage 1: the crops I_t of a clip and where they came from. T frames, `size` pixels a crop.

    `crops` are uint8 RGB, on disk. `quads` are the crop's corners in frame pixels: top left, bottom left, bottom right,
    top right. `roll` is R_t of the paper; `yaw` and `pitch` are the mesh's. `key_frame` is the index of the frame that
    frame t was registered to (t itself where it is a key frame), `residual` what the registration left, in grey levels
    (0..255). `bridged`: the face was out of sight for less than half a second, the crop goes smoothly across. `lost`:
    it was out of sight for longer; the crop stays where it was last, and the landmarks and angles go straight from the
    last known ones to the next. `landmarks` are the mesh's points in crop pixels. `cuts` are the frames at which another shot begins.
    """

    crops: CropFile  # [T, size, size, 3]
    quads: Array  # [T, 4, 2]
    roll: Array  # [T]
    key_frame: NDArray[np.int64]  # [T]
    residual: Array  # [T]
    bridged: NDArray[np.bool_]  # [T]
    lost: NDArray[np.bool_]  # [T]
    landmarks: NDArray[np.float32]  # [T, 478, 2]
    yaw: Array  # [T]
    pitch: Array  # [T]
    frame_size: tuple[int, int]  # width, height
    cuts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def size(self) -> int:
        return self.crops.size

    def __len__(self) -> int:
        return len(self.crops)

    @cached_property
    def blink(self) -> NDArray[np.bool_]:
        """Frames `[T]` in which the eyes are closed, or nearly so."""
        return blinks(self.landmarks)

    @cached_property
    def bounds(self) -> FrameBounds | None:
        """Where the frame ends within the crops; None where they lie within it."""
        bounds = FrameBounds(self.quads, self.frame_size)
        return bounds if bounds.cut else None

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Frames `[T]` that show the face with open eyes."""
        return ~self.blink & ~self.lost & ~self.bridged

    def angles(self, flow: HeadPoseFlow) -> Tensor:
        """Measured yaw and pitch `[T, 2]`, within what the flow can turn to, on its device."""
        measured = torch.from_numpy(np.stack([self.yaw, self.pitch], 1)).float().to(flow.neutral.device)
        return flow.clamp(measured)

    def masks(self, device: torch.device | str) -> ClipRegions:
        """The masks of every frame, made when they are looked at."""
        return ClipRegions(self.landmarks, self.size, device, self.bounds)

    def images(self, size: int, device: torch.device | str) -> CropFrames:
        """I_t `[T, 3, size, size]`."""
        return CropFrames(self.crops, size, device)


@dataclass(frozen=True)
class Inversion:
    """Stage 2: L_t = E(I_t), `w_plus [T, L, D]`, and the generator that draws S_t = G(L_t)."""

    w_plus: Latents
    generator: Generator

    def images(self, size: int | None = None) -> InvertedFrames:
        """S_t `[T, 3, size, size]`, by default at the generator's own resolution."""
        return InvertedFrames(self.generator, self.w_plus, size)


@dataclass(frozen=True)
class Identity:
    """Stage 3: `frame`: index of the chosen frame; `similarity`: of I_t and S_t there, in [-1, 1]; `w_plus [L, D]`:
    L_ID facing the camera, rounded to half floats as it travels."""

    frame: int
    similarity: float
    w_plus: Tensor


@dataclass(frozen=True)
class HeadPose:
    """Stage 4: `angles [T, 2]`: yaw and pitch, rounded to half floats as they travel; `loss [T]`: Eq. 2's loss there;
    `initial_loss [T]`: at the measured angles (the comparison of the paper's Table 3)."""

    angles: Tensor
    loss: Tensor
    initial_loss: Tensor


@dataclass(frozen=True)
class Attributes:
    """Stage 5: `alpha [T, C]`, rounded to half floats as it travels; `loss [T]`: Eq. 9's L2 and perceptual part at the
    end; `initial_loss [T]`: at the start."""

    alpha: Tensor
    loss: Tensor
    initial_loss: Tensor


@dataclass(frozen=True)
class Motion:
    """The numbers of each frame, 35 with 32 channels: `roll [T]` and `angles [T, 2]` (yaw, pitch) in degrees, `alpha
    [T, C]` in units of StyleSpace."""

    roll: Tensor
    angles: Tensor
    alpha: Tensor

    def __len__(self) -> int:
        return len(self.angles)

    def part(self, frames: slice | Tensor) -> Motion:
        """The motion of some frames."""
        return Motion(self.roll[frames], self.angles[frames], self.alpha[frames])

    def rows(self) -> NDArray[np.float16]:
        """As a stream carries it: float16 `[T, 3 + C]`, in the order R, Y, P, alpha."""
        columns = [self.roll[:, None], self.angles, self.alpha]
        return np.concatenate([c.detach().cpu().numpy() for c in columns], axis=1).astype(np.float16)

    @staticmethod
    def from_rows(rows: NDArray[np.floating], device: torch.device | str = "cpu") -> Motion:
        """From the rows `[T, 3 + C]` of a stream."""
        numbers = torch.from_numpy(np.asarray(rows, np.float32)).to(device)
        return Motion(numbers[:, 0], numbers[:, 1:3], numbers[:, 3:])
