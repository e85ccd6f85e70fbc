"""Between the raw and the coded mode: how coarse each parameter may be for a wanted quality or rate.

An error e_c in parameter c changes the image by about sensitivity_c * e_c (root mean square over pixels and colours, in
[-1, 1]). With uniform steps the error's mean square is step^2 / 12, so the steps that share a wanted image error equally
among the parameters are step_c = sqrt(12 * mse / 35) / sensitivity_c, which is also the cheapest way to share it as long
as every parameter moves by more than its step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from . import codec
from .errors import InputError
from .limits import PARAMETERS
from .stream import Stream

DEFAULT_QUALITY = 40.0
QUALITIES = (10.0, 90.0)  # dB that can be asked for
STILL_PSNR = 24.0  # of a face that does not move against one that talks: scales the curves where no pack tells
_POSE = 3
_POSE_STEP = 0.5  # degrees: the coarsest R, Y, P; R acts on the frame around the crop, which no sensitivity sees
_RATE_ROUNDS = 9

Draw = Callable[[np.ndarray], np.ndarray]


def transcode(
    stream: Stream, *, quality: float | None = None, rate: float | None = None, sensitivity: np.ndarray | None = None,
    key_interval: int = codec.DEFAULT_KEY_INTERVAL, tick: Callable[[int], None] = lambda frames: None,
) -> Stream:  # fmt: skip
    """The stream with coded frames.

    Args:
        stream: raw or coded; what is coded again loses again.
        quality: wanted PSNR in dB between the renders of the raw and the coded stream; 40 where no rate is given.
        rate: instead of a quality, the most bits per second of the frames, identity and tuning not counted.
        sensitivity: float [35], root mean square change of the image in [-1, 1] for a change of each parameter by 1
            (`measure_sensitivity`, or the pack's). None: as if every curve's spread were equally visible.
        key_interval: frames from one key frame to the next, 1 to 512.
        tick: called with the number of frames done since the last call.

    Returns:
        A stream whose `frames` are what the coded ones decode to.

    Raises:
        InputError: a value out of range, both a quality and a rate, or a rate that cannot be reached.
    """
    if quality is not None and rate is not None:
        raise InputError("give a quality or a rate, not both.")
    if sensitivity is None:
        sensitivity = assumed_sensitivity(stream.frames)

    def coded(decibels: float) -> bytes:
        steps = steps_for(decibels, sensitivity, stream.frames)
        return codec.encode_frames(stream.frames, steps, key_interval, tick)

    if rate is None:
        return _with(stream, coded(DEFAULT_QUALITY if quality is None else quality))
    budget = rate * stream.seconds / 8
    best, low, high = coded(QUALITIES[0]), *QUALITIES
    if len(best) > budget:
        least = 8 * len(best) / stream.seconds
        raise InputError(f"the clip needs at least {least:,.0f} bit/s; {rate:,.0f} bit/s cannot be reached.")
    for _ in range(_RATE_ROUNDS):
        middle = (low + high) / 2
        data = coded(middle)
        if len(data) <= budget:
            best, low = data, middle
        else:
            high = middle
    return _with(stream, best)


def raw(stream: Stream) -> Stream:
    """The same frames, 70 bytes each."""
    return replace(stream, coded=b"")


def steps_for(quality: float, sensitivity: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The steps of the 35 parameters for a PSNR in dB of the image.

    Args:
        quality: dB, 10 to 90.
        sensitivity: float [35], see `transcode`.
        frames: float16 [T, 35]; no step is larger than twice a curve's spread, nor than half a degree for R, Y, P.

    Returns:
        float [35], greater than 0.

    Raises:
        InputError: a value out of range.
    """
    sensitivity = np.asarray(sensitivity, np.float64)
    if sensitivity.shape != (PARAMETERS,) or not np.isfinite(sensitivity).all() or (sensitivity < 0).any():
        raise InputError(f"the sensitivity must be {PARAMETERS} finite numbers, 0 or more.")
    if not QUALITIES[0] <= quality <= QUALITIES[1]:
        raise InputError(f"the quality must be {QUALITIES[0]:g} to {QUALITIES[1]:g} dB, not {quality:g}.")
    mse = 4 * 10 ** (-quality / 10)  # the peak is 2
    spread = _spread(frames)
    coarsest = 2 * spread
    coarsest[:_POSE] = np.minimum(coarsest[:_POSE], _POSE_STEP)
    return 1 / (sensitivity / np.sqrt(12 * mse / PARAMETERS) + 1 / coarsest)


def assumed_sensitivity(frames: np.ndarray) -> np.ndarray:
    """A sensitivity from the curves alone: each one's spread is equally visible, and all together make `STILL_PSNR`.

    Args:
        frames: float16 [T, 35].

    Returns:
        float [35].
    """
    return np.sqrt(4 * 10 ** (-STILL_PSNR / 10) / PARAMETERS) / _spread(frames)


def measure_sensitivity(draw: Draw, frames: np.ndarray, probes: int = 4) -> np.ndarray:
    """What a change of each parameter does to the image, by central differences at some frames of the clip.

    Args:
        draw: renders parameters [N, 35] to images of any shape [N, ...] in [-1, 1].
        frames: float16 [T, 35].
        probes: how many frames, spread evenly; each takes 70 images.

    Returns:
        float [35]: root mean square change of the image for a change by 1.
    """
    values = np.asarray(frames, np.float64)
    places = np.unique(np.linspace(0, len(values) - 1, probes + 2).round().astype(int)[1:-1])
    offsets = np.diag(_spread(frames) / 4)
    total = np.zeros(PARAMETERS)
    for place in places:
        up, down = (np.asarray(draw(values[place] + sign * offsets), np.float64) for sign in (1, -1))
        slope = (up - down).reshape(PARAMETERS, -1) / (2 * offsets.diagonal()[:, None])
        total += (slope**2).mean(axis=1)
    return np.sqrt(total / len(places))


def _with(stream: Stream, coded: bytes) -> Stream:
    return replace(stream, frames=codec.decode_frames(coded), coded=coded)


def _spread(frames: np.ndarray) -> np.ndarray:
    """Standard deviation of each curve, kept from zero for the ones that stand still. [T, 35] -> float [35]."""
    spread = np.asarray(frames, np.float64).std(axis=0)
    moving = spread[spread > 0]
    floor = 0.02 * float(np.median(moving)) if len(moving) else 0.0
    return np.maximum(spread, max(floor, 2**-10))
