"""Tuned weights as a difference to the pack's generator: 8-bit steps a tensor, compressed with Zstandard.

The blob: 4 bytes "MTD1", then a Zstandard frame of: for each tensor in the generator's order that tuning may change,
one little-endian float32 step and its int8 differences in units of the step.
"""

from __future__ import annotations

import copy
import struct

import numpy as np
import torch
import zstandard

from mien.errors import StreamError
from mien.models.stylegan2 import Generator
from mien.packs.inflate import inflate
from mien.stages.tune import tunable

MAGIC = b"MTD1"
LEVELS = 127


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
    if blob[:4] != MAGIC:
        raise StreamError("the tuned weights in this stream are of an unknown kind")
    generator = copy.deepcopy(base)
    weights = tunable(generator)
    expected = sum(4 + p.numel() for p in weights)
    data = inflate(blob[4:], expected)
    place = 0
    with torch.no_grad():
        for p in weights:
            (step,) = struct.unpack_from("<f", data, place)
            if not np.isfinite(step):
                raise StreamError("the tuned weights in this stream are not finite")
            steps = np.frombuffer(data, np.int8, p.numel(), place + 4).astype(np.float32) * np.float32(step)
            p += torch.from_numpy(steps).view(p.shape).to(p.device)
            place += 4 + p.numel()
    return generator
