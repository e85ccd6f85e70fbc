"""What a `.mien` file may hold. Both `Stream` and the reader check with these, so neither lets through what the other
refuses. The limits bound what a small file can make a reader allocate or a renderer compute."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np

from mien.errors import StreamError

PARAMETERS = 35  # R, Y, P and 32 alphas
CHANNELS = 32
FRAME_BYTES = 2 * PARAMETERS
MAX_FRAMES = 1 << 22
MAX_NUM_WS = 64
MAX_W_DIM = 4096
MIN_RESOLUTION, MAX_RESOLUTION = 4, 8192
MAX_FRAME_SIDE = 1 << 16
MAX_NAME_BYTES = 64
MAX_FPS = 1000
PLACEMENT_LIMIT = 4.0  # a placement's numbers are smaller, in frames
FINEST = 20  # its steps are no finer than 2^-20 of the frame
_PLACEMENT = struct.Struct("<3i3Bx")
_U32 = 1 << 32


def check_limit(condition: bool, what: str, name: str = "the stream") -> None:
    """Raise the `StreamError` "`name` cannot be used: `what`." unless `condition`."""
    if not condition:
        raise StreamError(f"{name} cannot be used: {what}.")


def fingerprint(pack: str, name: str = "the stream", *, what: str = "pack") -> str:
    """A SHA-256 as 64 lower-case hexadecimal digits.

    Raises:
        StreamError: it is none.
    """
    check_limit(
        isinstance(pack, str) and len(pack) == 64 and not set(pack.lower()) - set("0123456789abcdef"),
        f"its {what}'s fingerprint is not 64 hexadecimal digits",
        name,
    )
    return pack.lower()


def person_name(text: str, named: bool, name: str = "the stream") -> None:
    """Check the name of a person: printable, at most 64 bytes, there when and only when `named`.

    Raises:
        StreamError: it is not.
    """
    check_limit(isinstance(text, str) and text.isprintable(), "its person's name is not printable", name)
    check_limit(len(text.encode("utf-8", "replace")) <= MAX_NAME_BYTES, "its person's name is too long", name)
    check_limit(bool(text) == named, "its person has no name" if named else "it names a person and has none", name)


def pack_name(text: str, name: str = "the stream") -> None:
    """Check the name of a pack: printable, at most 64 bytes.

    Raises:
        StreamError: it is not.
    """
    check_limit(isinstance(text, str) and text.isprintable(), "its pack's name is not printable", name)
    check_limit(len(text.encode("utf-8", "replace")) <= MAX_NAME_BYTES, "its pack's name is too long", name)


def resolution(side: int, name: str = "the stream") -> None:
    """Check the side of the generator's images in pixels, 4 to 8192.

    Raises:
        StreamError: out of range.
    """
    check_limit(MIN_RESOLUTION <= side <= MAX_RESOLUTION, f"the resolution {side} is out of range", name)


def latent_shape(num_ws: int, w_dim: int, name: str = "the stream") -> None:
    """Check the shape of an identity latent that a file claims: 1 to 64 rows of 1 to 4096 numbers.

    Raises:
        StreamError: out of range.
    """
    fits = 1 <= num_ws <= MAX_NUM_WS and 1 <= w_dim <= MAX_W_DIM
    check_limit(fits, f"an identity latent of {num_ws} x {w_dim} is out of range", name)


def identity_latent(values: np.ndarray, name: str = "the stream") -> np.ndarray:
    """A read-only copy as float16 [num_ws, w_dim].

    Raises:
        StreamError: a shape out of range, or numbers that are not finite as half floats.
    """
    array = float16_array(values, "identity latent", 2, name)
    num_ws, w_dim = array.shape
    latent_shape(num_ws, w_dim, name)
    return array


def frame_rate(fps: Fraction, name: str = "the stream") -> Fraction:
    """Frames a second as a rational of two 32-bit numbers, 1/1000 to 1000.

    Raises:
        StreamError: out of range.
    """
    fps = Fraction(fps)
    check_limit(
        fps.numerator < _U32 and fps.denominator < _U32 and Fraction(1, MAX_FPS) <= fps <= MAX_FPS,
        f"{float(fps):g} frames a second is out of range",
        name,
    )
    return fps


def channel_table(channels: np.ndarray, name: str = "the stream") -> np.ndarray:
    """A read-only copy, int16 [32, 2].

    Raises:
        StreamError: another shape, or values that are no layer or index.
    """
    values = np.array(channels)
    whole = values.shape == (CHANNELS, 2) and values.dtype.kind in "iu"
    check_limit(whole, "its channel table is not 32 integer pairs", name)
    check_limit(bool(((values >= 0) & (values < 1 << 15)).all()), "its channel table has a value out of range", name)
    return _frozen(values.astype(np.int16))


def float16_array(values: np.ndarray, what: str, dims: int, name: str = "the stream") -> np.ndarray:
    """A read-only copy as float16.

    Raises:
        StreamError: another number of dimensions, or numbers that are not finite as half floats.
    """
    array = np.asarray(values)
    check_limit(
        array.ndim == dims and array.dtype.kind == "f", f"its {what} is not an array of {dims} dimensions", name
    )
    with np.errstate(over="ignore"):
        array = array.astype(np.float16)  # a copy, in native byte order
    check_limit(bool(np.isfinite(array).all()), f"its {what} has a number that is not finite or too large", name)
    return _frozen(array)


def placement_track(values: np.ndarray, frames: int, name: str = "the stream") -> np.ndarray:
    """A read-only copy as float32 [T, 3] on the grid that the file keeps: per number the finest power of two that the
    track's range has no more than 2^16 steps of, at worst 0.03 pixels of a frame of 1920 that the crop crosses.

    Half floats would be too coarse here: a centre near 1 would jump by a pixel in a frame of 1920.

    Raises:
        StreamError: another shape, or numbers outside -4 to 4.
    """
    array = np.asarray(values)
    check_limit(array.dtype.kind == "f" and array.shape == (frames, 3), "its placement track has a wrong shape", name)
    check_limit(bool((np.abs(array) < PLACEMENT_LIMIT).all()), "its placement track has a number out of range", name)
    units, exponents = _placement_units(array)
    rounded = np.ldexp(units.astype(np.float64), -exponents)
    check_limit(bool((np.abs(rounded) < PLACEMENT_LIMIT).all()), "its placement track has a number out of range", name)
    return _frozen(rounded.astype(np.float32))


def _placement_units(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole steps `[T, 3]` of 2^-e of the frame, and e `[3]`."""
    exponents = np.full(3, FINEST)
    while True:
        units = np.rint(np.ldexp(values.astype(np.float64), exponents)).astype(np.int64)
        wide = np.ptp(units, axis=0) >= 1 << 16
        if not wide.any():
            return units, exponents
        exponents = exponents - wide


def placement_bytes(track: np.ndarray) -> bytes:
    """The part `plac` of a placement float32 [T, 3] that is on its grid."""
    units, exponents = _placement_units(track)
    base = units.min(0)
    return _PLACEMENT.pack(*base.tolist(), *exponents.tolist()) + (units - base).astype("<u2").tobytes()


def placement_length(frames: int) -> int:
    """The length that `plac` must have."""
    return _PLACEMENT.size + 6 * frames


def placement_from_bytes(data: bytes, frames: int, name: str) -> np.ndarray:
    """The placement float32 [T, 3] of a part `plac` of a right length.

    Raises:
        StreamError: steps finer than 2^-20, or numbers out of range.
    """
    *base, x, y, side = _PLACEMENT.unpack_from(data)
    exponents = np.array([x, y, side])
    check_limit(bool((exponents <= FINEST).all()), "its placement track has steps that are too fine", name)
    units = np.frombuffer(data, "<u2", offset=_PLACEMENT.size).reshape(-1, 3) + np.array(base, np.int64)
    values = np.ldexp(units.astype(np.float64), -exponents)
    check_limit(bool((np.abs(values) < PLACEMENT_LIMIT).all()), "its placement track has a number out of range", name)
    return values.astype(np.float32)


def half_bytes(array: np.ndarray) -> bytes:
    """Little-endian half floats, row by row."""
    return array.astype("<f2").tobytes()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
