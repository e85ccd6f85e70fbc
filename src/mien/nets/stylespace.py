"""Channels of StyleSpace, and the table V of them that a pack or a stream carries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ATTRIBUTES = ("mouth", "jaw", "eyes", "brows", "gaze")


@dataclass(frozen=True)
class Channel:
    """One of the 32 StyleSpace channels V: `layer` and `index` in StyleSpace, the attribute it serves, its natural
    unit `scale` (standard deviation over people) and its index sensitivities (Eq. 5): `sensitivity` over the
    attribute's mask and `elsewhere` over the whole face."""

    layer: int
    index: int
    attribute: str
    scale: float = 1.0
    sensitivity: float = 0.0
    elsewhere: float = 0.0


def channel_table(channels: tuple[Channel, ...]) -> np.ndarray:
    """The channels as int16 `[32, 2]` (layer, index), as a stream carries them."""
    return np.array([(c.layer, c.index) for c in channels], dtype=np.int16)
