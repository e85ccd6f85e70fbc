"""A visible sign in a picture: that it is synthetic, small, in the lower left corner."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

TEXT = "synthetic (mien)"
HEIGHT = 0.035  # of the letters, in the picture's shorter side
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DRAWN = 4  # times as large as it is shown, so that its edges are smooth


class VisibleSign:
    """`sign(picture)` puts the sign into pictures of `height` x `width` pixels: white letters with a dark edge."""

    def __init__(self, height: int, width: int) -> None:
        letters = max(HEIGHT * min(height, width), 6.0)
        scale = _DRAWN * letters / cv2.getTextSize(TEXT, _FONT, 1.0, 1)[0][1]
        thick = max(round(_DRAWN * letters / 9), 1)
        (wide, high), below = cv2.getTextSize(TEXT, _FONT, scale, 3 * thick)
        edge = 3 * thick
        canvas = np.zeros((high + below + 2 * edge, wide + 2 * edge), np.uint8)
        dark, light = canvas.copy(), canvas.copy()
        place = (edge, edge + high)
        cv2.putText(dark, TEXT, place, _FONT, scale, 255, 3 * thick, cv2.LINE_AA)
        cv2.putText(light, TEXT, place, _FONT, scale, 255, thick, cv2.LINE_AA)
        size = (min(round(canvas.shape[1] / _DRAWN), width), min(round(canvas.shape[0] / _DRAWN), height))
        small = [
            cv2.resize(layer, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for layer in (dark, light)
        ]
        margin = round(0.02 * min(height, width))
        top = max(height - size[1] - margin, 0)
        left = min(margin, width - size[0])
        self._where = (slice(top, top + size[1]), slice(left, left + size[0]))
        share = np.maximum(0.7 * small[0], small[1])
        self._kept = (1 - share)[..., None]
        self._added = 255 * small[1][..., None]

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture with the sign, uint8 RGB `[H, W, 3]`; the one given stays as it is."""
        signed = picture.copy()
        signed[self._where] = np.rint(picture[self._where] * self._kept + self._added).astype(np.uint8)
        return signed
