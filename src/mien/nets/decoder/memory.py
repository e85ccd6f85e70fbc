"""Memory for feature maps."""

from __future__ import annotations

import contextlib
import math
import mmap

import torch
from torch import Tensor


def zeros_on_huge_pages(*shape: int) -> Tensor:
    """Zeros, on huge pages where the system has them: a tile's planes lie in more pages than the processor's first
    table of addresses holds."""
    side = 1 << 21
    size = 4 * math.prod(shape)
    memory = mmap.mmap(-1, (size + 2 * side - 1) // side * side)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    flat = torch.frombuffer(memory, dtype=torch.float32)
    first = -flat.data_ptr() % side // 4 if size >= side else 0
    return flat[first : first + math.prod(shape)].view(shape)
