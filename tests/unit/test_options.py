"""What encode options refuse, and what is kept of them without tuning."""

from __future__ import annotations

from typing import Any

import pytest

from mien.errors import InputError
from mien.method.solvers.adam_reference import AdamPoseOptions
from mien.options import MOST_SEED, EncodeOptions


@pytest.mark.parametrize(
    "keywords, says",
    [
        ({"seed": -1}, "seed"),
        ({"seed": MOST_SEED + 1}, "seed"),
        ({"tune": False, "effort": 2.0}, "without it"),
        ({"tune": False, "minutes": 3.0}, "without it"),
        ({"tune": False, "person_size": 200_000}, "tuning only"),
        ({"person_size": 0}, "from 1 on, not 0"),
        ({"person_size": -5}, "from 1 on, not -5"),
    ],
)
def test_refused(keywords: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        EncodeOptions.of(**keywords)


@pytest.mark.parametrize("left_out", ["tuning", "refinement"])
def test_minutes_are_refused_where_no_time_is_planned(left_out: str) -> None:
    with pytest.raises(InputError, match="both"):
        EncodeOptions(minutes=2.0, **{left_out: None})  # type: ignore[arg-type]
    assert EncodeOptions(effort=2.0, **{left_out: None}).effort == 2.0  # type: ignore[arg-type]
    assert EncodeOptions(minutes=2.0).minutes == 2.0


def test_effort_is_refused_where_nothing_is_trained() -> None:
    with pytest.raises(InputError, match="without it"):
        EncodeOptions(tuning=None, refinement=None, effort=2.0)


def test_without_tuning_the_numbers_are_solved_in_the_same_way() -> None:
    asked = EncodeOptions.of(optimizer="reference", real_targets=True, size=256, seed=3, start=2.0)
    plain = asked.without_tuning()
    assert plain.tuning is None and plain.refinement is None and plain.refit is None
    assert isinstance(plain.pose, AdamPoseOptions) and plain.pose == asked.pose
    assert plain.attributes == asked.attributes and plain.attributes.target == "frame"
    assert (plain.size, plain.seed, plain.clip) == (256, 3, asked.clip)
