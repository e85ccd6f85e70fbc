"""Crops that reach beyond their frame, completed by the generator (ours).

Stage 1 mirrors the frame at its border: a face that is cut at the forehead gets a second one, an ear a twin. An encoder
takes them for real, and a generator that is tuned to them draws them. So what lies outside is drawn anew: by the
inversion, which knows how heads go on, in colours that meet the frame's at its border.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from mien.face.frame_bounds import FrameBounds
from mien.media.images import to_bytes
from mien.method.image_sequences import synthesise
from mien.method.stage2_invert import invert
from mien.method.types import FaceTrack
from mien.nets.decoder.renderer import Renderer
from mien.nets.generator import Generator
from mien.runtime.frame_store import CropFile
from mien.runtime.team import team

ROUNDS = 3  # the first inversion still sees the mirrored border
BATCH = 8
REACH = 0.04  # of the side, over which colours are carried on from the frame's border
_LEAST = 0.02  # share of the frame under the blur, from which on its colours say something

Image = NDArray[np.uint8]


def completed(faces: FaceTrack, encoder: nn.Module, generator: Generator) -> FaceTrack:
    """The track with crops whose part outside the frame is the generator's; itself where the crops lie within the
    frame."""
    bounds = faces.bounds
    if bounds is None:
        return faces
    crops, renderer = CropFile(faces.size), Renderer(generator)
    with team(generator.device) as threads:
        most = max(1, BATCH // threads.size)

        def one(part: slice) -> Image:
            return complete(faces.crops[part], FrameBounds(bounds.quads[part], bounds.frame_size), encoder, renderer)

        # Some at a time: what is made ahead of its turn stays in memory.
        for start in range(0, len(faces), BATCH):
            here = range(start, min(start + BATCH, len(faces)), most)
            for done in threads.map(one, [slice(i, min(i + most, start + BATCH)) for i in here]):
                for crop in done:
                    crops.append(crop)
    return replace(faces, crops=crops)


def complete(crops: Image, bounds: FrameBounds, encoder: nn.Module, renderer: Renderer) -> Image:
    """Crops uint8 `[N, S, S, 3]`: within the frame as they are, outside as G(E(I)) continues them."""
    within = bounds.within(slice(None), crops.shape[1])[:, 0].numpy()
    whole = crops
    for _ in range(ROUNDS):
        drawn = to_bytes(synthesise(renderer, invert(encoder, whole, renderer.generator.device), crops.shape[1]))
        whole = np.stack([_joined(*these) for these in zip(crops, drawn, within, strict=True)])
    return whole


def _joined(crop: Image, drawn: Image, within: NDArray[np.float32]) -> Image:
    mask = within[..., None]
    difference = (crop.astype(np.float32) - drawn) * mask
    blur = lambda x: cv2.GaussianBlur(x, (0, 0), REACH * len(crop), borderType=cv2.BORDER_REPLICATE)
    offset = blur(difference) / (blur(within) + _LEAST)[..., None]
    return np.clip(np.rint(crop * mask + (drawn + offset) * (1 - mask)), 0, 255).astype(np.uint8)
