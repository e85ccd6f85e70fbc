"""Retargeting: a driver's motion in the units of the person who takes it over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mien.editing.curves import MotionCurves, smoothed
from mien.errors import InputError
from mien.format.stream import Stream
from mien.method.avatar import channel_offset_for_identity
from mien.method.types import Motion
from mien.packs.pack import Pack
from mien.packs.resolve import stream_channels

MAX_STRENGTH = 3.0
MAX_SMOOTHING_SECONDS = 10.0


@dataclass(frozen=True)
class RetargetOptions:
    """How a driver's motion is taken over.

    `relative`: take the change of each channel from the driver's identity frame, and head pose about the driver's usual
    one; otherwise the values themselves: channels take the driver's values in StyleSpace. None: as the pack's channels
    ask (`Pack.channels_absolute`). `strength`, 0 to 3, scales all motion about the driver's usual pose and expression
    (the medians): 0 holds that still, 1 is the driver's motion. `smoothing_seconds`, 0 to 10: full width at half
    maximum of a Gaussian over time. Without `blink` the lids, without `gaze` the eyes' direction stay the person's own.

    Raises InputError for a value out of range.
    """

    relative: bool | None = None
    strength: float = 1.0
    smoothing_seconds: float = 0.0
    blink: bool = True
    gaze: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= MAX_STRENGTH:
            raise InputError(f"the strength must lie between 0 and {MAX_STRENGTH:g}, not {self.strength:g}.")
        if not 0 <= self.smoothing_seconds <= MAX_SMOOTHING_SECONDS:
            most = f"{MAX_SMOOTHING_SECONDS:g}"
            raise InputError(f"the smoothing must lie between 0 and {most} seconds, not {self.smoothing_seconds:g}.")


def retarget(driver: Stream, identity: Tensor, pack: Pack, options: RetargetOptions | None) -> Motion:
    """The driver's motion for a person with the latent `identity [L, D]`.

    None leaves all numbers as they are (the paper, Sec. 4.3: L_ID is exchanged and nothing else): `Motion.rows` of the
    result equals `driver.frames` bit for bit.
    """
    if options is None:
        return Motion.from_rows(driver.frames, pack.device)
    rows = _in_units_of(identity, driver, pack, options)
    rest = np.median(rows, axis=0)
    rows = smoothed(rows, options.smoothing_seconds, driver.fps)
    if options.strength != 1:
        rows = rest + options.strength * (rows - rest)
    rows = rows.astype(np.float32, copy=True)
    rows[:, _own_curves(driver, pack, options)] = 0
    return Motion.from_rows(rows, pack.device)


def _in_units_of(identity: Tensor, driver: Stream, pack: Pack, options: RetargetOptions) -> NDArray[np.float32]:
    """The driver's rows `[T, 3 + C]` with alpha as offsets from the person's own channel values."""
    rows = np.asarray(driver.frames, np.float32).copy()
    relative = not pack.channels_absolute if options.relative is None else options.relative
    if relative:
        rows[:, :3] -= np.median(rows[:, :3], axis=0)
    else:
        rows[:, 3:] += channel_offset_for_identity(pack, driver, identity.cpu().numpy())
    return rows


def _own_curves(driver: Stream, pack: Pack, options: RetargetOptions) -> list[int]:
    """Curves that stay the person's own: those of lids and gaze that are not taken over."""
    own = [name for name, taken in (("eyes", options.blink), ("gaze", options.gaze)) if not taken]
    attributes = MotionCurves.of(stream_channels(driver, pack)).attributes
    return [curve for curve, attribute in enumerate(attributes) if attribute in own]
