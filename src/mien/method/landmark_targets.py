"""What landmarks say of each frame's expression, in the units in which the embedded parser reads it off pictures.

Stage 1 has measured mouth, lids, brows, irises and head on the real frames (MediaPipe's mesh); the parser reads the
same measures off any picture, with a gradient (`expression_measures`, `pose_measures`). So they can be asked for: a lid
that is half shut is some dark pixels to an L2, and the whole matter to a viewer. Beyond the paper, whose Eq. 10-12
compare pictures only.

The parser has its own bias on a person, and is trusted as far as it agrees with the mesh over the clip. Renders of a
tuned generator, which look like the frames, are to be read as the frames are, with that bias (`targets_from_frames`).
S_t of an untuned one does not follow a real face well, and looks like what the parser was trained on: there the mesh's
own values are asked for (`targets_from_inversions`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.face.measures import face_measures, mesh_points
from mien.method.image_sequences import ImageSequence
from mien.nets.face_parser import LandmarkReader

_BATCH = 16
EXPRESSION, HEAD = slice(0, 8), slice(8, 10)
# How much each measure counts, small motions more; and the eye opening under which gaze is a guess.
_WEIGHTS = (1.0, 1.0, 0.5, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0)
_GAZE = 7
PROPORTIONAL_FROM = 0.03  # difference of a measure from which on its square grows in proportion
_OPEN = 0.06


@dataclass(frozen=True)
class LandmarkTargetOptions:
    """`fewest`: frames, under which a clip says nothing of how well the pack reads its landmarks, so that there are no
    targets; `most`: frames that are looked at for it."""

    fewest: int = 12
    most: int = 240


DEFAULTS = LandmarkTargetOptions()


@dataclass(frozen=True)
class LandmarkTargets:
    """`target [T, 10]`: what the parser is to read off a render of each frame (`mien.face.measures.face_measures`);
    `weight [T, 10]`: how much that counts, 0 for not at all."""

    target: Tensor
    weight: Tensor

    def part(self, frames: slice | Tensor) -> LandmarkTargets:
        """Of some frames."""
        return LandmarkTargets(self.target[frames], self.weight[frames])

    def select(self, what: slice) -> LandmarkTargets:
        """Only `EXPRESSION` or only `HEAD` counts."""
        weight = torch.zeros_like(self.weight)
        weight[:, what] = self.weight[:, what]
        return LandmarkTargets(self.target, weight)


def landmark_residual(measures: Tensor, targets: LandmarkTargets) -> Tensor:
    """Weighted differences `[N, 10]` between the `measures` of renders and their targets, whose squares grow in
    proportion to the difference from `PROPORTIONAL_FROM` on (pseudo-Huber): a glance that the channels V cannot show
    must not bend the face."""
    x = (measures - targets.target) / PROPORTIONAL_FROM
    grown = 2 * ((1 + x.square()).sqrt() - 1)
    return PROPORTIONAL_FROM * targets.weight * x.sign() * (grown + 1e-12).sqrt()


def measures_of_mesh(landmarks: NDArray[np.floating], size: int) -> Tensor:
    """The measures of mesh landmarks `[T, 478, 2]` in pixels of crops of side `size`: `[T, 10]`."""
    return face_measures(mesh_points(landmarks, size))


def targets_from_frames(
    reader: LandmarkReader | None, frames: ImageSequence, mesh: Tensor, options: LandmarkTargetOptions = DEFAULTS
) -> LandmarkTargets | None:
    """For renders that look like the frames I_t; `mesh [T, 10]`: see `measures_of_mesh`. None where the pack reads no
    landmarks or the clip is too short to calibrate it."""
    if reader is None or len(mesh) < options.fewest:
        return None
    read = _read(reader, frames, torch.arange(len(mesh)))
    a, b = read - read.mean(0), mesh - mesh.mean(0)
    agrees = (a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt().clamp_min(1e-8)
    return LandmarkTargets(read, _weight(mesh) * agrees.clamp_min(0))


def targets_from_inversions(
    reader: LandmarkReader | None,
    frames: ImageSequence,
    mesh: Tensor,
    real: LandmarkTargets | None,
    options: LandmarkTargetOptions = DEFAULTS,
) -> LandmarkTargets | None:
    """For renders that look like S_t, `frames`: the mesh's own changes, around what the parser reads off S_t on
    average. `real`: the targets of the frames I_t, whose weights are taken; None where those are."""
    if real is None or reader is None:
        return None
    some = _some(len(mesh), options.most)
    return LandmarkTargets(_read(reader, frames, some).mean(0) + mesh - mesh[some].mean(0), real.weight)


def _some(count: int, most: int) -> Tensor:
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)))


@torch.no_grad()
def _read(reader: LandmarkReader, frames: ImageSequence, some: Tensor) -> Tensor:
    return torch.cat([face_measures(reader.read_landmarks(frames[part])) for part in some.split(_BATCH)])


def _weight(mesh: Tensor) -> Tensor:
    weight = mesh.new_tensor(_WEIGHTS).repeat(len(mesh), 1)
    weight[:, _GAZE] *= mesh[:, 3:5].amin(1) > _OPEN
    return weight
