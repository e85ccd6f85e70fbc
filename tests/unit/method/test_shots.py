"""Another person after a cut is found; frames without a face hold and ease the numbers."""

from __future__ import annotations

import numpy as np

from mien.method.shots import hold_while_lost


def test_numbers_are_held_while_the_face_is_lost_and_eased_when_it_returns() -> None:
    rows = np.zeros((20, 4), np.float16)
    rows[:5], rows[5:15], rows[15:] = 1.0, 99.0, 3.0
    lost = np.zeros(20, bool)
    lost[5:15] = True
    held = hold_while_lost(rows, lost, 10.0)
    assert (held[:5] == 1).all() and (held[15:] == 3).all()
    assert (held[5:12] == 1).all(), "held until 0.3 s before it returns"
    assert (np.diff(held[11:16, 0].astype(float)) > 0).all(), "then eased"
    start = np.array([True, True, False, False])
    assert (hold_while_lost(np.array([[9], [9], [2], [3]], np.float16), start, 25.0)[:2] == 2).all()
    assert (hold_while_lost(np.array([[2], [3], [9], [9]], np.float16), ~start, 25.0)[2:] == 3).all()
