"""Channels that tuning for a person teaches: what landmarks measure, put on channels of V that show nothing yet.

Beyond the paper. Index sensitivity (Eq. 5) of a small generator leaves channels of V that move next to nothing, gaze
among them, and what no channel carries the tuned generator cannot show either: a glance of two pixels is a small error of
the picture. So such a channel is given a number that the landmarks have, in fixed units, and tuning teaches the weights
what it means. The receiver knows nothing of it: alpha travels as ever. A pack whose gaze channels move the
irises has no idle channel here and is tuned as the paper has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.method.avatar import add_channels
from mien.models.stylegan2 import Generator
from mien.nets.stylespace import Channel
from mien.stages.regions import Masks
from mien.stages.view import at_most

Track = NDArray[np.float64]

# What a unit of each measure is: about its standard deviation over a talking clip.
GAZE_RIGHT, GAZE_DOWN = 0.02, 0.012  # of the eye's width
IDLE = 0.01  # mean change of the attribute's region, in a range of 2, below which a channel shows nothing at one scale
FARTHEST = 3.0  # units


def gaze(landmarks: NDArray[np.floating], blink: NDArray[np.bool_]) -> Track:
    """Where the irises are between the corners of the eyes, to the viewer's right and down, `[T, 2]` in units.

    `landmarks [T, 478, 2]`, `blink [T]`: frames whose values go straight across.
    """
    p = landmarks.astype(np.float64)
    tracks = np.zeros((len(p), 2))
    for left, right, iris in ((33, 133, 468), (362, 263, 473)):
        along, offset = p[:, right] - p[:, left], p[:, iris] - p[:, left]
        width = np.square(along).sum(1).clip(1e-6)
        tracks[:, 0] += 0.5 * (along * offset).sum(1) / width
        tracks[:, 1] += 0.5 * (along[:, 0] * offset[:, 1] - along[:, 1] * offset[:, 0]) / width
    tracks /= (GAZE_RIGHT, GAZE_DOWN)
    seen = np.flatnonzero(~blink)
    if len(seen):
        for track in tracks.T:
            track[:] = np.interp(np.arange(len(p)), seen, track[seen])
    return tracks


@torch.no_grad()
def idle(generator: Generator, channels: Sequence[Channel], latent: Tensor, region: Tensor) -> list[int]:
    """Which of the channels move less than `IDLE` of a region `[1, 1, h, w]` of the picture of `latent [L, D]`."""
    size = min(128, generator.resolution)
    scale = torch.tensor([c.scale for c in channels], device=latent.device)
    moves = torch.cat([torch.zeros(1, len(scale), device=latent.device), torch.diag(scale)])
    styles = generator.styles(latent[None])
    made = []
    for part in moves.split(11):
        shared = [s.expand(len(part), -1) for s in styles]
        made.append(at_most(generator.synthesis_from_styles(add_channels(shared, channels, part), size), size))
    images = torch.cat(made)
    weight = F.interpolate(region, images.shape[-2:], mode="bilinear")
    change = ((images[1:] - images[:1]).abs().mean(1, keepdim=True) * weight).sum((1, 2, 3)) / weight.sum().clamp_min(1)
    return torch.nonzero(change < IDLE)[:, 0].tolist()


def taught(
    generator: Generator,
    channels: Sequence[Channel],
    latent: Tensor,
    anchor: int,
    landmarks: NDArray[np.floating],
    blink: NDArray[np.bool_],
    areas: Masks,
) -> Tensor:
    """What is put on the idle gaze channels: alpha relative to the frame `anchor`, `[T, 32]`, NaN on all others.

    `latent [L, D]`: the anchor's, `generator`: the pack's. The gaze channels take turns, right and down, by layer.
    """
    values = latent.new_full((len(landmarks), len(channels)), float("nan"))
    tracks = gaze(landmarks, blink)
    tracks = (tracks - tracks[anchor]).clip(-FARTHEST, FARTHEST)
    still = idle(generator, channels, latent, areas.part(slice(anchor, anchor + 1)).pupils)
    places = [i for i in still if channels[i].attribute == "gaze"]
    for turn, i in enumerate(places):
        values[:, i] = torch.from_numpy(tracks[:, turn % 2]).to(values) * channels[i].scale
    return values


def tell(alpha: Tensor, values: Tensor, anchor: int) -> Tensor:
    """alpha `[T, 32]` with the taught channels as `values` has them, from where the anchor's are."""
    return torch.where(values.isnan(), alpha, alpha[anchor] + values)
