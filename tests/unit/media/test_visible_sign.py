"""The visible sign: it is there, small, and in the corner."""

from __future__ import annotations

import numpy as np
import pytest

from mien.media.visible_sign import VisibleSign


@pytest.mark.parametrize("size", [(128, 96), (256, 256), (720, 1280), (1024, 1024)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_sign_is_seen_on_any_ground_and_small(size: tuple[int, int], level: int) -> None:
    picture = np.full((*size, 3), level, np.uint8)
    signed = VisibleSign(*size)(picture)
    changed = np.abs(signed.astype(int) - level).max(-1)
    assert (picture == level).all() and changed.max() > 100
    rows, columns = np.nonzero(changed > 8)
    assert rows.min() > 0.8 * size[0] and columns.min() < 0.1 * size[1]
    assert (changed > 8).mean() < 0.08
