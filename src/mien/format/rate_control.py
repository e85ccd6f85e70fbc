"""Between the raw and the coded mode: how coarse each parameter may be for a wanted quality or rate.

An error e_c in parameter c changes the image by about sensitivity_c * e_c (root mean square over pixels and colours,
in [-1, 1]). With uniform steps the error's mean square is step^2 / 12, so the steps that share a wanted image error
equally among the parameters are step_c = sqrt(12 * mse / 35) / sensitivity_c, which is also the cheapest way to share
it as long as every parameter moves by more than its step.

Parameters whose changes look alike can make up for each other. With the whole matrix G of mean products of their
changes the image error of errors e is e' G e. Once the errors of the parameters before c are known, the best that those
from c on can do is to aim at -inv(G[c:, c:]) G[c:, :c] e[:c], and what an error in c then costs is
1 / inv(G[c:, c:])[0, 0] instead of G[c, c]: steps can be larger for the same image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mien.errors import InputError, RateError
from mien.format import motion_codec
from mien.format.limits import PARAMETERS
from mien.format.stream import Stream

DEFAULT_QUALITY = 45.0  # dB, at which small motions of the mouth are kept
QUALITIES = (10.0, 90.0)  # dB that can be asked for
STILL_PSNR = 24.0  # of a face that does not move against one that talks: scales the curves where no pack tells
_POSE_STEPS = (0.5, 1.0, 1.0)  # degrees: the coarsest R, Y, P; R turns the crop in its frame, which no image here shows
_COARSEST = 3.0  # spreads of a curve: a change that is hardly visible on this face may be on another
_RATE_ROUNDS = 9
_OWN_VALUE = 0.1  # weight of a parameter's own value beside the image: on another face other changes look alike

_MAX_RENDERS = 5  # renders of the whole clip at most, to meet a quality in its worst frame
_TOLERANCE_DB = 0.7  # dB above the wanted quality are near enough

Draw = Callable[[np.ndarray], np.ndarray]
Look = Callable[[np.ndarray], np.ndarray]


def transcode(
    stream: Stream, *, quality: float | None = None, rate: float | None = None, sensitivity: np.ndarray | None = None,
    look: Look | None = None, key_interval: int = motion_codec.DEFAULT_KEY_INTERVAL,
    tick: Callable[[int], None] = lambda frames: None,
) -> Stream:  # fmt: skip
    """Code the frames of a stream.

    Args:
        stream: raw or coded; what is coded again loses again.
        quality: wanted PSNR in dB between the renders of the raw and the coded stream; 45 where no rate is given. With
            `look` the worst frame has it, without it is an estimate for the mean from the sensitivity.
        rate: instead of a quality, the most bits per second of the frames, identity and tuning not counted.
        sensitivity: float [35], root mean square change of the image in [-1, 1] for a change of each parameter by 1, or
            [35, 35], the mean products of these changes (`measure_sensitivity`), which saves about a tenth. None: as
            if every curve's spread were equally visible.
        look: PSNR in dB [N] of frames rendered from curves [T, 35] against those of the raw stream
            (`RenderProbe.psnr`). The loop is closed with it: steps get finer until the worst frame has the quality.
        key_interval: frames from one key frame to the next, 1 to 512.
        tick: called with the number of frames done since the last call.

    Returns:
        A stream whose `frames` are what the coded ones decode to.

    Raises:
        InputError: a value out of range, or both a quality and a rate; RateError: a rate that cannot be reached.
    """
    check_coding(quality, rate, key_interval)
    if sensitivity is None:
        sensitivity = assumed_sensitivity(stream.frames)

    alone, feedback = _conditioned(sensitivity)

    def coded(decibels: float) -> bytes:
        steps = steps_for(decibels, alone, stream.frames)
        shaped = feedback
        if shaped is not None:  # a step that is finer than the image needs leaves nothing to make up for
            shaped = shaped * (alone * steps > 0.99 * _allowed_change(decibels))[:, None]
        return motion_codec.encode_frames(stream.frames, steps, key_interval, shaped, tick)

    if rate is None:
        wanted = DEFAULT_QUALITY if quality is None else quality
        return _with_coded(stream, coded(wanted) if look is None else _meet_quality(coded, look, wanted))
    budget = rate * stream.seconds / 8
    best, low, high = coded(QUALITIES[0]), *QUALITIES
    if len(best) > budget:
        least = 8 * len(best) / stream.seconds
        raise RateError(f"the clip needs at least {least:,.0f} bit/s; {rate:,.0f} bit/s cannot be reached.")
    for _ in range(_RATE_ROUNDS):
        middle = (low + high) / 2
        data = coded(middle)
        if len(data) <= budget:
            best, low = data, middle
        else:
            high = middle
    return _with_coded(stream, best)


def _meet_quality(coded: Callable[[float], bytes], look: Look, wanted: float) -> bytes:
    """Search for the cheapest coding whose worst frame has the wanted PSNR in dB; the finest one where none has."""
    ask, low, high = wanted, QUALITIES[0] - 1, QUALITIES[1] + 1
    tried: list[tuple[float, float, bytes]] = []
    for _ in range(_MAX_RENDERS):
        data = coded(ask)
        above = float(look(motion_codec.decode_frames(data)).min()) - wanted
        tried.append((above, ask, data))
        if 0 <= above < _TOLERANCE_DB or (above < 0 and ask == QUALITIES[1]):
            break
        low, high = (low, ask) if above >= 0 else (ask, high)
        ask = ask - above + _TOLERANCE_DB / 2
        if not low < ask < high:
            ask = (low + high) / 2
        ask = min(max(ask, QUALITIES[0]), QUALITIES[1])
    good = [(len(data), ask, data) for above, ask, data in tried if above >= 0]
    if not good:
        return max(tried)[2]
    size, ask, best = min(good)
    # A block has at least a byte a frame: where it is filled up with zeros, finer steps cost nothing.
    for finer in np.arange(ask + 1, QUALITIES[1], 1.0):
        data = coded(float(finer))
        if len(data) > size:
            break
        best = data
    return best


def raw(stream: Stream) -> Stream:
    """The same frames, 70 bytes each."""
    return replace(stream, coded=b"")


def check_coding(quality: float | None, rate: float | None, key_interval: int) -> None:
    """Raise InputError where frames cannot be coded so: see `transcode`."""
    if quality is not None and rate is not None:
        raise InputError("give a quality or a rate, not both.")
    if quality is not None and not QUALITIES[0] <= quality <= QUALITIES[1]:
        raise InputError(f"the quality must be {QUALITIES[0]:g} to {QUALITIES[1]:g} dB, not {quality:g}.")
    if rate is not None and not 0 < rate < float("inf"):
        raise InputError(f"the rate is a number of bits a second, more than 0, not {rate:g}.")
    motion_codec.check_key_interval(key_interval)


def steps_for(quality: float, sensitivity: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Choose the steps of the 35 parameters for a PSNR in dB of the image.

    Args:
        quality: dB, 10 to 90.
        sensitivity: float [35], see `transcode`.
        frames: float16 [T, 35]; no step is larger than three times a curve's spread, nor than half a degree for R and
            one degree for Y and P.

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
    coarsest = _COARSEST * _spread(frames)
    coarsest[: len(_POSE_STEPS)] = np.minimum(coarsest[: len(_POSE_STEPS)], _POSE_STEPS)
    with np.errstate(divide="ignore"):
        return np.minimum(_allowed_change(quality) / sensitivity, coarsest)


def assumed_sensitivity(frames: np.ndarray) -> np.ndarray:
    """Assume a sensitivity from the curves alone: equal visibility of each one's spread, and `STILL_PSNR` of all
    together.

    Args:
        frames: float16 [T, 35].

    Returns:
        float [35].
    """
    return np.sqrt(4 * 10 ** (-STILL_PSNR / 10) / PARAMETERS) / _spread(frames)


def measure_sensitivity(draw: Draw, frames: np.ndarray, probes: int = 4) -> np.ndarray:
    """Measure how changes of the parameters change the image, by central differences at some frames of the clip.

    Args:
        draw: renders parameters [N, 35] to images of any shape [N, ...] in [-1, 1].
        frames: float16 [T, 35].
        probes: how many frames, spread evenly; each takes 70 images.

    Returns:
        float [35, 35]: mean over the image's values of the products of the changes that two parameters' changes by 1
        make. The square roots of its diagonal are the sensitivities of single parameters.
    """
    values = np.asarray(frames, np.float64)
    places = np.unique(np.linspace(0, len(values) - 1, probes + 2).round().astype(int)[1:-1])
    offsets = np.diag(_spread(frames) / 4)
    total = np.zeros((PARAMETERS, PARAMETERS))
    for place in places:
        up, down = (np.asarray(draw(values[place] + sign * offsets)) for sign in (1, -1))
        change = (up - down).reshape(PARAMETERS, -1)
        total += (change @ change.T) / change.shape[1]
    units = 2 * offsets.diagonal()
    return total / len(places) / np.outer(units, units)


def _conditioned(sensitivity: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Sensitivities [35] where later parameters make up for earlier ones, and the feedback [35, 35] that does so."""
    products = np.asarray(sensitivity, np.float64)
    if products.shape != (PARAMETERS, PARAMETERS):
        return products, None
    if not np.isfinite(products).all() or (products.diagonal() < 0).any():
        raise InputError("the sensitivity must be finite numbers.")
    own = products.diagonal()
    products = products + np.diag(_OWN_VALUE * own + 1e-9 * own.max() + 1e-30)
    alone, feedback = np.zeros(PARAMETERS), np.zeros((PARAMETERS, PARAMETERS))
    for channel in range(PARAMETERS):
        inverse = np.linalg.inv(products[channel:, channel:])
        alone[channel] = inverse[0, 0] ** -0.5
        feedback[channel, :channel] = inverse[0] @ products[channel:, :channel]
    return alone, feedback


def _allowed_change(quality: float) -> float:
    """Root mean square change of the image in [-1, 1] that a step of one parameter may make for a PSNR in dB."""
    return float(np.sqrt(12 * 4 * 10 ** (-quality / 10) / PARAMETERS))


def _with_coded(stream: Stream, coded: bytes) -> Stream:
    return replace(stream, frames=motion_codec.decode_frames(coded), coded=coded)


def _spread(frames: np.ndarray) -> np.ndarray:
    """Standard deviation of each curve, kept from zero for the ones that stand still. [T, 35] -> float [35]."""
    spread = np.asarray(frames, np.float64).std(axis=0)
    moving = spread[spread > 0]
    floor = 0.02 * float(np.median(moving)) if len(moving) else 0.0
    return np.maximum(spread, max(floor, 2**-10))
