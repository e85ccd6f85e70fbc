"""The invisible mark of rendered videos: a pattern of luma that is the same in every video, and one of its stream's.

The mark is a sum of two square tiles, laid side by side over the picture from its upper left corner, two tiles to the
shorter side. A tile is band-limited noise of 4 to 14 cycles, every frequency of the same amplitude, with phases that
SHA-256 draws from a key: the fixed `PUBLIC_KEY`, by which anyone detects the mark without the stream, and the stream's
hash, by which whoever has the stream tells that the video is of it. Neither is a secret: the mark says "synthetic" to
whoever looks for it, and keeps nobody from copying or removing it.

A frame's mark is `round(gain * field)`, added to R, G and B alike and clipped to 0..255. `field` belongs to the video;
`gain` follows the picture, least where it is flat and most where detail hides the mark:

    side  = min(height, width), block = max(1, side // 32)
    Y     = round(0.299 R + 0.587 G + 0.114 B)
    dev   = the mean of |Y - mean of Y over (2 (block // 2) + 1)^2 pixels| over each block
    gain  = clip(GAIN_FLAT + GAIN_SLOPE * dev, up to GAIN_MOST), linearly between the blocks

A program in Python calls it so:

    mark = Watermark(file_hash(stream), height, width)    # once a video
    frame = mark(frame)                                   # each uint8 [H, W, 3]

The web page's decoder does the same: `watermark` in apps/page/native/page.c.

Method: additive spread-spectrum marks, Cox et al. 1997; detection: `mien.media.watermark_detection`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

PUBLIC_KEY = "mien watermark 1"
TILE = 64  # samples to a side of a tile as it is drawn; in the picture its side is TILES_TO_SIDE of the shorter side
TILES_TO_SIDE = 2
BAND = (4.0, 14.0)  # cycles a tile: above the content's own low frequencies, below what strong coding drops
PUBLIC_SHARE = 0.81  # of the mark's energy; the rest is the stream's own tile
GAIN_FLAT, GAIN_SLOPE, GAIN_MOST = 1.0, 0.04, 2.0  # grey levels, RMS; a grey level of deviation adds GAIN_SLOPE


def band() -> NDArray[np.bool_]:
    """Return which frequencies of a tile's two-dimensional FFT carry the mark, [TILE, TILE]."""
    cycles = np.fft.fftfreq(TILE, 1 / TILE)
    radius = np.hypot(cycles[:, None], cycles[None])
    return np.asarray((radius >= BAND[0]) & (radius <= BAND[1]))


def spectrum(key: str) -> NDArray[np.complex64]:
    """Return a key's tile as its FFT, [TILE, TILE]: magnitude 1 in the band, 0 elsewhere, Hermitian.

    The phases of the frequencies (v, u) with v > 0, or v = 0 and u > 0, are the 16-bit big-endian numbers of
    SHA-256(key, ":", i in decimal), i = 0, 1, ..., times 2 pi / 65536, in the order of v, then u, both as the FFT has
    them.
    """
    cycles = np.fft.fftfreq(TILE, 1 / TILE).astype(int)
    rows, columns = np.nonzero(band())
    half = (cycles[rows] > 0) | ((cycles[rows] == 0) & (cycles[columns] > 0))
    rows, columns = rows[half], columns[half]
    digests = (hashlib.sha256(f"{key}:{i}".encode()).digest() for i in range(len(rows) // 16 + 1))
    drawn = np.frombuffer(b"".join(digests), ">u2")[: len(rows)]
    values = np.exp(2j * np.pi / 65536 * drawn.astype(np.float64))
    full = np.zeros((TILE, TILE), np.complex64)
    full[rows, columns] = values
    full[-rows % TILE, -columns % TILE] = values.conj()
    return full


def tile(key: str) -> NDArray[np.float32]:
    """Return a key's tile, [TILE, TILE], of mean 0 and RMS 1."""
    samples = np.fft.ifft2(spectrum(key)).real
    return (samples / samples.std()).astype(np.float32)


class Watermark:
    """Marks the frames of one video of `height` x `width` pixels whose stream has the hash `key`.

    `field`: float32 [H, W] of mean 0 and RMS 1, the mark before its gain.
    """

    def __init__(self, key: str, height: int, width: int) -> None:
        both = PUBLIC_SHARE**0.5 * tile(PUBLIC_KEY) + (1 - PUBLIC_SHARE) ** 0.5 * tile(key)
        scale = TILE * TILES_TO_SIDE / min(height, width)
        # The centre of pixel i lies i + 1/2 pixels from the corner; two samples more at each side for the interpolation.
        x, y = (np.mod((np.arange(n) + 0.5) * scale - 0.5, TILE).astype(np.float32) + 2 for n in (width, height))
        columns, rows = np.meshgrid(x, y)
        padded = np.pad(both, 2, mode="wrap")
        self.field: NDArray[np.float32] = cv2.remap(padded, columns, rows, cv2.INTER_CUBIC)  # type: ignore[assignment]
        self._size = (width, height)
        block = max(1, min(height, width) // 32)
        self._blocks = (max(1, width // block), max(1, height // block))
        self._window = (block // 2 * 2 + 1,) * 2

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the marked frame, uint8 RGB [H, W, 3]; the one given stays as it is."""
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        detail = cv2.absdiff(grey, cv2.blur(grey, self._window))
        deviation = cv2.resize(detail.astype(np.float32), self._blocks, interpolation=cv2.INTER_AREA)
        gain = cv2.resize(np.minimum(GAIN_FLAT + GAIN_SLOPE * deviation, GAIN_MOST), self._size)
        added = np.rint(cv2.multiply(gain, self.field)).astype(np.int16)
        return np.asarray(cv2.add(frame, cv2.merge([added] * 3), dtype=cv2.CV_8U), np.uint8)


def marked(frames: Iterable[NDArray[np.uint8]], key: str) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of one video with the mark of the stream of hash `key`; all uint8 [H, W, 3] of one size."""
    mark: Watermark | None = None
    for frame in frames:
        mark = mark or Watermark(key, *frame.shape[:2])
        yield mark(frame)
