"""Tuned weights as a difference to the pack's generator, in one of two kinds that their first four bytes tell apart.

"MTD1", all weights: 8-bit steps a tensor, compressed with Zstandard. After the magic one Zstandard frame of: for each
tensor in the generator's order that tuning may change, one little-endian float32 step and its int8 differences in
units of the step. "MTL1", compact: `mien.format.lowrank`.
"""

from __future__ import annotations

import copy
import struct

import numpy as np
import torch
import zstandard
from torch import Tensor, nn

from mien.errors import StreamError
from mien.format import lowrank
from mien.format.bounded_zstd import inflate
from mien.nets.generator import Generator

MAGIC = b"MTD1"
LEVELS = 127


def tunable(generator: Generator) -> list[nn.Parameter]:
    """The weights that tuning may change, in the generator's order."""
    return [generator.get_parameter(name) for name in generator.tunable_names()]


def encode_delta(base: Generator, tuned: Generator, *, level: int = 12) -> bytes:
    """Difference of two generators of one shape, as bytes. A difference is rounded to 1/127 of the tensor's largest."""
    parts = []
    for before, after in zip(tunable(base), tunable(tuned), strict=True):
        d = (after - before).detach().float().cpu().numpy()
        step = float(np.abs(d).max()) / LEVELS
        parts.append(struct.pack("<f", step))
        steps = np.round(d / np.float32(step)) if step > 0 else np.zeros_like(d)
        parts.append(np.clip(steps, -LEVELS, LEVELS).astype(np.int8).tobytes())
    return MAGIC + zstandard.ZstdCompressor(level=level).compress(b"".join(parts))


def apply_delta(base: Generator, blob: bytes) -> Generator:
    """A copy of `base` with the difference added. Raises StreamError where the blob does not fit this generator."""
    if blob[:4] == lowrank.MAGIC:
        return with_weights(base, _compact_weights(base, blob))
    if blob[:4] == MAGIC:
        return with_weights(base, _full_weights(base, blob))
    raise StreamError("the tuned weights in this stream are of an unknown kind")


def with_weights(base: Generator, weights: list[Tensor]) -> Generator:
    """A copy of `base` with other tunable weights, one tensor for each of `tunable(base)`."""
    generator = copy.deepcopy(base)
    with torch.no_grad():
        for p, value in zip(tunable(generator), weights, strict=True):
            p.copy_(value)
    return generator.requires_grad_(False)


@torch.no_grad()
def _compact_weights(base: Generator, blob: bytes) -> list[Tensor]:
    before = [p.detach() for p in tunable(base)]
    plan, values = lowrank.unpack_numbers([tuple(p.shape) for p in before], blob)
    device = base.device
    numbers = [torch.from_numpy(v).to(device) for v in values]
    return lowrank.compose(before, plan, numbers, lowrank.sign_tensors(plan, device))


@torch.no_grad()
def _full_weights(base: Generator, blob: bytes) -> list[Tensor]:
    weights = tunable(base)
    expected = sum(4 + p.numel() for p in weights)
    data = inflate(blob[4:], expected)
    out = []
    place = 0
    for p in weights:
        (step,) = struct.unpack_from("<f", data, place)
        if not np.isfinite(step):
            raise StreamError("the tuned weights in this stream are not finite")
        steps = np.frombuffer(data, np.int8, p.numel(), place + 4).astype(np.float32) * np.float32(step)
        out.append(p + torch.from_numpy(steps).view(p.shape).to(p.device))
        place += 4 + p.numel()
    return out
