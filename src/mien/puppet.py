"""What makes a person that learned from a clip fit to be driven by another one.

Noise constants are pictures that stay in place (`stages/noise.py`). Where a face moves they are right for the
motions of the person's own clip and in the way of another driver's: lips that stayed shut while the person was learned
stay shut. So there they count half. Measured (docs/person.md), on d18 driven by d14: mouth 0.30 -> 0.85 where the person was
learned from 2 s, 0.94 -> 0.95 from 4 s, width 0.21 -> 0.93 and 0.84 -> 0.93; at a fifth the face goes soft.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.models.parsing import CLASSES, FaceParser
from mien.models.stylegan2 import Generator, SynthesisLayer
from mien.packs.delta import MAGIC, apply_delta, encode_delta
from mien.packs.pack import Pack

_MOVING = ("brows", "eyes", "irises", "lips", "inner mouth")
_KEPT = 0.5  # of a noise constant where the face moves


@torch.no_grad()
def to_be_driven(pack: Pack, tuning: bytes, identity: Tensor) -> bytes:
    """The tuning of a stream, whose identity is `identity [L, D]`, with what its noise constants learned halved where the
    face moves.

    A compact tuning is left as it is: written anew it would grow. So is one of a pack whose parser is not of the
    embedded kind. Raises StreamError where the tuning does not fit the pack's generator.
    """
    parser = pack.networks.get("parser")
    if tuning[:4] != MAGIC or not isinstance(parser, FaceParser):
        return tuning
    generator = apply_delta(pack.generator, tuning)
    label = parser(generator.synthesis(identity[None]).clamp(-1, 1))[0].argmax(1)
    face = torch.stack([label == CLASSES.index(name) for name in _MOVING]).any(0).float()[:, None]
    moving = F.avg_pool2d(F.max_pool2d(face, 7, 1, 3), 5, 1, 2)
    return encode_delta(pack.generator, with_less_noise(generator, pack.generator, moving))


def with_less_noise(generator: Generator, base: Generator, moving: Tensor) -> Generator:
    """A copy whose noise constants go half the way back to those of `base` where `moving [1, 1, h, w]` is 1."""
    out = copy.deepcopy(generator)
    for block, before in zip(out.blocks, base.blocks, strict=True):
        if isinstance(block, SynthesisLayer) and isinstance(before, SynthesisLayer) and block.has_noise:
            size = block.noise_const.shape[-1]
            mask = F.interpolate(moving, (size, size), mode="area" if size < moving.shape[-1] else "bilinear")[0, 0]
            block.noise_const.lerp_(before.noise_const, (1 - _KEPT) * mask)
    return out
