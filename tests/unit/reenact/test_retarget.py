"""A driver's motion in another person's units, on a tiny pack."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from mien.editing.curves import curves_of
from mien.errors import InputError
from mien.format.stream import Stream
from mien.method.types import Motion
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack
from mien.reenact.retarget import RetargetOptions, retarget
from tolerances import FLOAT16_CURVES


@pytest.fixture(scope="module")
def driver(pack: Pack) -> Stream:
    random = np.random.RandomState(0)
    rows = np.cumsum(random.randn(40, 35), 0) * ([1] * 3 + [0.1] * 32) + ([4, -7, 5] + [0.3] * 32)
    identity = pack.people[0].numpy().astype(np.float16)
    table = channel_table(pack.channels)
    return Stream(pack.fingerprint, pack.name, pack.resolution, Fraction(25), table, identity, rows.astype(np.float16))


def rows_of(driver: Stream, pack: Pack, options: RetargetOptions | None) -> np.ndarray:
    """The driver's motion for the pack's second person, in single precision."""
    motion = retarget(driver, pack.people[1], pack, options)
    assert isinstance(motion, Motion)
    return torch.cat([motion.roll[:, None], motion.angles, motion.alpha], 1).numpy()


def test_without_options_the_numbers_are_the_drivers_bit_for_bit(driver: Stream, pack: Pack) -> None:
    signed = driver.frames.copy()
    signed[0, :3] = -0.0, 6e-8, 65504.0  # a negative zero, the least and the largest half float
    driver = replace(driver, frames=signed)
    assert retarget(driver, pack.people[1], pack, None).rows().tobytes() == driver.frames.tobytes()


def test_absolute_values_are_offset_by_one_constant_a_channel(driver: Stream, pack: Pack) -> None:
    rows = rows_of(driver, pack, RetargetOptions(relative=False))
    np.testing.assert_array_equal(rows[:, :3], driver.frames[:, :3].astype(np.float32))
    offset = rows[:, 3:] - driver.frames[:, 3:].astype(np.float32)
    np.testing.assert_allclose(offset, np.broadcast_to(offset[0], offset.shape), atol=1e-5)
    assert (np.abs(offset[0]) > 1e-3).all()


def test_relative_motion_keeps_changes_and_turns_about_the_front(driver: Stream, pack: Pack) -> None:
    rows = rows_of(driver, pack, RetargetOptions(relative=True))
    np.testing.assert_allclose(np.median(rows[:, :3], axis=0), 0, atol=FLOAT16_CURVES)
    np.testing.assert_array_equal(rows[:, 3:], driver.frames[:, 3:].astype(np.float32))


@pytest.mark.parametrize("absolute", [True, False])
def test_the_pack_says_whether_values_or_changes_are_taken(driver: Stream, pack: Pack, absolute: bool) -> None:
    known = replace(pack, channels_absolute=absolute)
    asked = rows_of(driver, pack, RetargetOptions(relative=not absolute))
    np.testing.assert_array_equal(rows_of(driver, known, RetargetOptions()), asked)


def test_strength_smoothing_blink_and_gaze(driver: Stream, pack: Pack) -> None:
    plain = rows_of(driver, pack, RetargetOptions())
    rest = np.median(plain, axis=0)
    np.testing.assert_allclose(
        rows_of(driver, pack, RetargetOptions(strength=2.0)), rest + 2 * (plain - rest), atol=1e-4
    )
    assert np.ptp(rows_of(driver, pack, RetargetOptions(strength=0.0)), axis=0).max() < 1e-3
    calm = rows_of(driver, pack, RetargetOptions(smoothing_seconds=0.5))
    assert np.abs(np.diff(calm, axis=0)).mean() < 0.5 * np.abs(np.diff(plain, axis=0)).mean()
    curves = curves_of(driver, pack)
    own = rows_of(driver, pack, RetargetOptions(blink=False, gaze=False))
    still = [*curves.select("eyes"), *curves.select("gaze")]
    assert not own[:, still].any()
    np.testing.assert_array_equal(np.delete(own, still, 1), np.delete(plain, still, 1))


@pytest.mark.parametrize("wrong", [{"strength": 4.0}, {"strength": float("nan")}, {"smoothing_seconds": -1.0}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must lie between"):
        RetargetOptions(**wrong)  # type: ignore[arg-type]
