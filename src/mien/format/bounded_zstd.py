"""Zstandard data of unknown origin."""

from __future__ import annotations

import zstandard

from mien.errors import StreamError


def inflate(data: bytes, size: int) -> bytes:
    """Decompress one Zstandard frame, which must hold exactly `size` bytes.

    The size that the frame's header claims is checked before anything is allocated: `decompress` believes it, whatever
    its `max_output_size`, and so 20 bytes could ask for 100 GB.

    Raises StreamError where the data is damaged or of another size.
    """
    try:
        claimed = zstandard.get_frame_parameters(data).content_size
        if claimed not in (size, zstandard.CONTENTSIZE_UNKNOWN):
            raise StreamError("the tuned weights in this stream belong to another generator")
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
            data, read_across_frames=False
        ) as reader:
            content = reader.read(size + 1)
    except zstandard.ZstdError as error:
        raise StreamError("the tuned weights in this stream are damaged") from error
    if len(content) != size:
        raise StreamError("the tuned weights in this stream belong to another generator")
    return content
