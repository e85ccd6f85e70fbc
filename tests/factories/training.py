"""Schedules of quick training loops."""

from __future__ import annotations

from mien.personalize.schedule import Schedule


def quick_schedule(steps: int, windows_from: int | None = None) -> Schedule:
    """Pixels alone, two frames a step."""
    return Schedule(
        steps=steps, batch=2, resolution=64, low_steps=0, warm=2, seed=0, perceptual=0.0,
        windows_from=windows_from,
    )  # fmt: skip
