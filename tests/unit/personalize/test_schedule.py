"""Steps and rates of a training loop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from factories.training import quick_schedule
from mien.personalize.options import TuningOptions
from mien.personalize.schedule import LAST_SHARE


def test_long_clips_and_more_effort_get_more_steps() -> None:
    options = TuningOptions(steps=60, passes=2.0, batch=4)
    cases = ((10,), (120,), (300,), (10, 2.0), (300, 0.5), (10, 0.1), (300, 1.0, 2))
    assert [options.for_clip(*case).steps for case in cases] == [60, 60, 150, 120, 75, 6, 300]


def test_a_schedule_is_shortened_to_the_time_that_is_left() -> None:
    schedule = replace(quick_schedule(60), low_steps=40)
    assert schedule.shortened(5, 1.0, 100.0) == schedule
    short = schedule.shortened(5, 1.0, 25.0)
    assert (short.steps, short.low_steps) == (30, 20)
    assert short.shortened(10, 1.0, -1.0).steps == 10, "no time is left: no further step"
    assert short.shortened(10, 0.1, 90.0).steps == 30, "never longer"


def test_rates_rise_to_their_full_value_and_fall_to_a_share_of_it() -> None:
    schedule = replace(quick_schedule(100), warm=10)
    factors = [schedule.rate_factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == factors[9] > 0.97
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[-1] == pytest.approx(LAST_SHARE, abs=1e-3)
