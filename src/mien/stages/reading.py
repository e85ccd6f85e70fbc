"""What landmarks say of each frame's expression, in the units in which the embedded parser reads it off pictures.

Stage 1 has measured mouth, lids, brows and irises on the real frames (MediaPipe's mesh); the parser reads the same eight
measures off any picture, with a gradient (`expression_measures`). So they can be asked for: a lid that is half shut is
some dark pixels to an L2, and the whole matter to a viewer. Beyond the paper, whose Eq. 10-12 compare pictures only.

The parser has its own bias on a person. On the frames themselves (`of_frames`) it is calibrated, a line for each measure,
and trusted as far as it agrees with the mesh; on untuned renders (`of_inversions`), which look like what it was trained on,
only its mean is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.models.parsing import POINTS, FaceParser, expression_measures
from mien.stages.frames import Frames

FEWEST = 12  # frames, under which a clip says nothing of how well the parser reads it
_AT_MOST = 240  # frames that are looked at
_BATCH = 16
# How much each measure counts, small motions more; and the eye opening under which gaze is a guess.
_WEIGHTS = (1.0, 1.0, 0.5, 2.0, 2.0, 1.0, 1.0, 1.0)
_OPEN = 0.06


@dataclass(frozen=True)
class Reading:
    """`wanted [T, 8]`: what the parser is to read off a render of each frame, in `expression_measures`' order and units;
    `weight [T, 8]`: how much that counts, 0 for not at all."""

    wanted: Tensor
    weight: Tensor

    def part(self, frames: slice | Tensor) -> Reading:
        """Of some frames."""
        return Reading(self.wanted[frames], self.weight[frames])


def of_mesh(landmarks: NDArray[np.floating], size: int) -> Tensor:
    """The measures of mesh landmarks `[T, 478, 2]` in pixels of crops of side `size`: `[T, 8]`."""
    points = np.ascontiguousarray(landmarks[:, list(POINTS)]).astype(np.float32) / size
    return expression_measures(torch.from_numpy(points))


def of_frames(parser: object, frames: Frames, mesh: Tensor) -> Reading | None:
    """For renders that look like the frames I_t; `mesh [T, 8]`: see `of_mesh`. None where the parser knows no landmarks
    or the clip is too short to calibrate it."""
    if not isinstance(parser, FaceParser) or len(mesh) < FEWEST:
        return None
    read = _read(parser, frames, torch.arange(len(mesh)))
    a, b = read - read.mean(0), mesh - mesh.mean(0)
    agrees = (a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt().clamp_min(1e-8)
    return Reading(read, _weight(mesh) * agrees.clamp_min(0))


def of_inversions(parser: object, frames: Frames, mesh: Tensor) -> Reading | None:
    """For renders that look like S_t; as `of_frames`."""
    if not isinstance(parser, FaceParser) or len(mesh) < FEWEST:
        return None
    some = _some(len(mesh))
    return Reading(_read(parser, frames, some).mean(0) + mesh - mesh[some].mean(0), _weight(mesh))


def _some(count: int) -> Tensor:
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(count, _AT_MOST)).round().astype(np.int64)))


@torch.no_grad()
def _read(parser: FaceParser, frames: Frames, some: Tensor) -> Tensor:
    return torch.cat(
        [expression_measures(parser.landmarks(parser.features(frames[part]))) for part in some.split(_BATCH)]
    )


def _weight(mesh: Tensor) -> Tensor:
    weight = mesh.new_tensor(_WEIGHTS).repeat(len(mesh), 1)
    weight[:, -1] *= mesh[:, 3:5].amin(1) > _OPEN
    return weight
