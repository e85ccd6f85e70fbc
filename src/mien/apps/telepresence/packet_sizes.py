"""What the numbers of a live run would take on a line that loses nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.format.live_packets import PacketWriter, acknowledgement, usual_steps


class PacketSizes:
    """`sizes(number, row)`: bytes of a frame's live packet, where each one is acknowledged before the next."""

    def __init__(self, unit: NDArray[np.floating]) -> None:
        self._writer = PacketWriter(usual_steps(unit))

    def __call__(self, number: int, row: NDArray[np.float64]) -> int:
        """Bytes of the packet of frame `number`, larger than the one before, with the numbers `row [35]`."""
        data = self._writer(number, row)
        self._writer.acknowledged(acknowledgement(number))
        return len(data)
