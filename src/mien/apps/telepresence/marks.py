"""What every picture of a live run bears: the visible sign, and the invisible mark of the face's own stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.apps.provenance import file_hash
from mien.format.stream import Stream
from mien.media.visible_sign import VisibleSign
from mien.media.watermark import Watermark


@dataclass(frozen=True)
class Marks:
    """Which of them: `sign`, that is seen, and `watermark`, that `mien verify` finds."""

    sign: bool = True
    watermark: bool = True


class Marker:
    """`marker(picture)` puts the marks into pictures of a face, uint8 RGB `[R, R, 3]`."""

    def __init__(self, face: Stream, marks: Marks) -> None:
        size = face.resolution
        self._sign = VisibleSign(size, size) if marks.sign else None
        self._mark = Watermark(file_hash(face), size, size) if marks.watermark else None

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The marked picture; the one given stays as it is."""
        if self._sign is not None:
            picture = self._sign(picture)
        return picture if self._mark is None else self._mark(picture)
