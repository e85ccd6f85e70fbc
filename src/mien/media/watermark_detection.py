"""Find the mark of `mien.media.watermark` in any video, without its stream, and say how sure that is.

Every frame's detail, divided by its local strength, is summed over time: what moves averages out, the mark stays. The
sum is scaled to an assumed size of the tile, all tiles are added up, and of the FFT only the phases count. A mark at the
offset d gives phases phi(f) = phi_mark(f) - 2 pi f d, so that

    z(d) = sqrt(2 / M) sum_f cos(phi(f) - phi_mark(f) + 2 pi f d),    f over the M frequencies of the band

is large; one inverse FFT has all d. Without the mark the M terms are independent of whatever the picture shows, since
the mark's phases were drawn uniformly and know nothing of it: E exp(t z) = I_0(t sqrt(2 / M))^M <= exp(t^2 / 2), hence
P(z >= x) <= exp(-x^2 / 2) for any picture. The p-value is that bound times the number of (size, offset, mirrored) that
were tried (Bonferroni): never too small, whatever is filmed. Half of it is spent on the tile's own place, where a video
that was only coded again or resized has it, and half on the search over sizes and offsets, for what was cropped, laid
into a larger picture or mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.media.watermark import PUBLIC_KEY, TILE, TILES_TO_SIDE, band, spectrum

FOUND = 1e-6  # largest p-value that counts as found
ANALYSED_SIDE = 384  # pixels of the shorter side that frames are reduced to
WINDOW = 250  # frames that are also searched by themselves, for a video of which a part is rendered
MOST_WINDOWS = 40
# Sides of the tile that are searched, of the frame's shorter side: from a video that is 0.3 of a screen to a crop of 0.6.
LEAST_RATIO, MOST_RATIO, RATIO_STEP = 0.15, 0.85, 0.01
OWN_RATIO = 1 / TILES_TO_SIDE
NEAR = 1  # samples of the tile by which its own place may be off
SMALLEST = 32  # pixels of a shorter side below which nothing is looked for

Residual = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Where a tile lies: its side in parts of the frame's shorter side, the offset (rows, columns) in samples of the
    tile, and whether the picture is mirrored."""

    ratio: float
    offset: tuple[int, int]
    mirrored: bool


@dataclass(frozen=True)
class Detection:
    """What was found. `p_value`: at most so likely without a mark (1 where nothing points to one); `place`: of the best
    match; `frames`: first and last + 1 of those in which it was found; `stream_p_value`: the same for the tile of a
    stream that was asked for, None if none was."""

    p_value: float
    place: Place | None
    frames: tuple[int, int]
    stream_p_value: float | None = None

    @property
    def found(self) -> bool:
        return self.p_value <= FOUND


class WatermarkDetector:
    """Takes a video's frames one by one (`add`), then says whether they are marked (`result`)."""

    def __init__(self) -> None:
        self._window: Residual | None = None
        self._windows: list[tuple[int, int, Residual]] = []
        self._begin = self._count = 0
        self._length = WINDOW

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Take the next frame, uint8 RGB [H, W, 3]; all of one size."""
        residual = _residual(frame)
        self._window = residual if self._window is None else self._window + residual
        self._count += 1
        if self._count - self._begin >= self._length:
            self._close()

    def result(self, stream_hash: str | None = None) -> Detection:
        """Search all frames together and, if they are more than one window, each window. `stream_hash`: also tell
        whether the mark is that of this stream."""
        self._close()
        if not self._windows or min(self._windows[0][2].shape) < SMALLEST:
            return Detection(1.0, None, (0, self._count))
        whole = sum(part for _, _, part in self._windows)
        spans = [(0, self._count, np.asarray(whole, np.float32))]
        if len(self._windows) > 1:
            spans += self._windows
        best = (float("inf"), Place(OWN_RATIO, (0, 0), False), spans[0])
        for span in spans:
            p_value, place = _search(_evened(span[2]))
            if p_value * len(spans) < best[0]:
                best = (p_value * len(spans), place, span)
            if best[0] <= FOUND:
                break
        p_value, place, (first, last, part) = best
        of_stream = None if stream_hash is None else _of_key(_evened(part), place, stream_hash)
        return Detection(min(1.0, p_value), place, (first, last), of_stream)

    def _close(self) -> None:
        if self._window is None:
            return
        self._windows.append((self._begin, self._count, self._window))
        self._begin, self._window = self._count, None
        if len(self._windows) > MOST_WINDOWS:  # two become one
            pairs = [self._windows[i : i + 2] for i in range(0, len(self._windows), 2)]
            self._windows = [(p[0][0], p[-1][1], np.sum([r for _, _, r in p], axis=0)) for p in pairs]
            self._length *= 2


def _residual(frame: NDArray[np.uint8]) -> Residual:
    """A frame's detail of a tile's frequencies over its local strength."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = ANALYSED_SIDE / min(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey = grey.astype(np.float32)
    side = min(grey.shape)
    near, far = max(3, side // 28), max(5, side // 18)
    detail = grey - cv2.blur(cv2.blur(grey, (near, near)), (near, near))
    return np.asarray(detail / (cv2.blur(np.abs(detail), (far, far)) + 1.0), np.float32)


def _evened(residual: Residual) -> Residual:
    """The sum over time with the same strength everywhere, so that what stands still does not outweigh all else."""
    size = (max(5, min(residual.shape) // 12),) * 2
    strength = np.sqrt(np.maximum(cv2.blur(residual * residual, size), 0))  # running sums fall below 0
    return np.asarray(residual / (strength + 0.1 * strength.mean() + 1e-6), np.float32)


def _phases(residual: Residual, ratio: float) -> NDArray[np.complex64]:
    """The phases of all tiles of that size added up, as unit numbers [TILE, TILE], 0 outside the band."""
    scale = TILE / (ratio * min(residual.shape))
    scaled = cv2.resize(
        residual, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    padded = np.pad(scaled, [(0, -n % TILE) for n in scaled.shape])
    rows, columns = padded.shape
    folded = padded.reshape(rows // TILE, TILE, columns // TILE, TILE).sum((0, 2))
    values = np.fft.fft2(folded)
    return np.where(band(), values / np.maximum(np.abs(values), 1e-12), 0).astype(np.complex64)


def _scores(phases: NDArray[np.complex64], mark: NDArray[np.complex64]) -> NDArray[np.float64]:
    """z of every offset, [TILE, TILE]."""
    count = np.count_nonzero(mark) / 2
    sums = np.fft.ifft2(phases * mark.conj()).real * (TILE * TILE / 2)
    return np.asarray(sums * sqrt(2 / count), np.float64)


def _near(scores: NDArray[np.float64], offset: tuple[int, int]) -> float:
    """The largest z within `NEAR` of an offset."""
    steps = range(-NEAR, NEAR + 1)
    return max(float(scores[(offset[0] + i) % TILE, (offset[1] + j) % TILE]) for i in steps for j in steps)


def _bound(z: float, tests: int) -> float:
    """The p-value of the best of so many tests."""
    return min(1.0, exp(min(0.0, log(tests) - max(z, 0.0) ** 2 / 2)))


def _search(residual: Residual) -> tuple[float, Place]:
    """The p-value of the best place, and that place."""
    mark = spectrum(PUBLIC_KEY)
    mirror = np.roll(mark[:, ::-1], 1, axis=1)  # u becomes -u
    own = _near(_scores(_phases(residual, OWN_RATIO), mark), (0, 0))
    p_own = 2 * _bound(own, (2 * NEAR + 1) ** 2)
    if p_own <= FOUND * FOUND:
        return p_own, Place(OWN_RATIO, (0, 0), False)
    ratios = np.exp(np.arange(log(LEAST_RATIO), log(MOST_RATIO), RATIO_STEP))
    best, place = -1.0, Place(OWN_RATIO, (0, 0), False)
    for ratio in ratios:
        phases = _phases(residual, float(ratio))
        for mirrored, pattern in ((False, mark), (True, mirror)):
            scores = _scores(phases, pattern)
            index = int(scores.argmax())
            if scores.flat[index] > best:
                best, place = float(scores.flat[index]), Place(float(ratio), divmod(index, TILE), mirrored)
    p_any = 2 * _bound(best, 2 * len(ratios) * TILE * TILE)
    return (p_own, Place(OWN_RATIO, (0, 0), False)) if p_own < p_any else (p_any, place)


def _of_key(residual: Residual, place: Place, key: str) -> float:
    """The p-value of a key's own tile at the place where the public one was found."""
    mark = spectrum(key)
    mark = np.roll(mark[:, ::-1], 1, axis=1) if place.mirrored else mark
    return _bound(_near(_scores(_phases(residual, place.ratio), mark), place.offset), (2 * NEAR + 1) ** 2)
