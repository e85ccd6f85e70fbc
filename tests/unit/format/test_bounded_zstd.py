"""Compressed weights of unknown origin: whatever they claim, no more than what fits is ever unpacked."""

from __future__ import annotations

import resource
import struct

import pytest
import zstandard

from mien.errors import StreamError
from mien.format.bounded_zstd import inflate

WHOLE = bytes(range(256)) * 40


def claiming(size: int) -> bytes:
    """A frame of a few bytes whose header says that `size` bytes are in it."""
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"\x01\x00\x00"


def unsized(data: bytes) -> bytes:
    """A frame that does not say how much is in it."""
    parts = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return parts.compress(data) + parts.flush()


@pytest.mark.parametrize("pack", [zstandard.ZstdCompressor().compress, unsized])
def test_what_was_packed_is_unpacked(pack) -> None:
    assert inflate(pack(WHOLE), len(WHOLE)) == WHOLE
    for size in (len(WHOLE) - 1, len(WHOLE) + 1):
        with pytest.raises(StreamError, match="another generator"):
            inflate(pack(WHOLE), size)


@pytest.mark.parametrize(
    "data",
    [b"", b"no such thing", claiming(100 << 30), claiming(10_240), unsized(bytes(50 << 20)), unsized(WHOLE)[:-9],
     zstandard.ZstdCompressor().compress(WHOLE)[:-2] + b"xx"],
)  # fmt: skip
def test_a_small_blob_cannot_ask_for_memory(data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StreamError):
        inflate(data, len(WHOLE))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 << 10
