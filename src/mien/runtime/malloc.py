"""Memory that a step of arithmetic needs again in the next one is kept, not given back to the system each time.

glibc maps every block of some megabytes anew and returns it when it is freed, so that each large tensor costs page
faults again and again: a training step of the generator at 256x256 took 1.6 times as long on a CPU.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1


def tune_malloc() -> bool:
    """Tell the C library to keep freed memory for this process; True where it could be told (glibc)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST))
