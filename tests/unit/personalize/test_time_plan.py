"""How many steps fit into so many minutes."""

from __future__ import annotations

import pytest

from factories.packs import tiny_pack
from mien.personalize.time_plan import FRAME, REFINEMENT_STEP, TUNING_STEP, gradient_seconds, plan_time


def test_a_gradient_takes_time_and_changes_nothing() -> None:
    pack = tiny_pack()
    before = [(p.requires_grad, p.clone()) for p in pack.generator.parameters()]
    assert 0 < gradient_seconds(pack) < 5
    for parameter, (required, value) in zip(pack.generator.parameters(), before, strict=True):
        assert parameter.requires_grad == required
        assert parameter.grad is None
        assert parameter.equal(value)


def test_effort_fills_the_time_that_the_fit_leaves() -> None:
    whole = FRAME * 10 + TUNING_STEP * 60 + REFINEMENT_STEP * 120
    plan = plan_time(whole, 1.0, 10, 60, 120, 0.1, 10.0)
    assert plan.effort == pytest.approx(1.0)
    assert plan.seconds == pytest.approx(whole) == FRAME * 10 + sum(plan.limits.values())
    half = plan_time((whole + FRAME * 10) / 2, 1.0, 10, 60, 120, 0.1, 10.0)
    assert half.effort == pytest.approx(0.5)
    enough = plan_time(100 * whole, 1.0, 10, 60, 120, 0.1, 1.0)
    assert (enough.effort, enough.seconds) == (1.0, pytest.approx(whole))


def test_without_time_there_is_no_tuning() -> None:
    plan = plan_time(71.0, 1.0, 10, 60, 120, 0.1, 1.0)
    assert (plan.effort, plan.seconds, plan.limits) == (None, FRAME * 10, {})
