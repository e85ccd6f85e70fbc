"""Videos side by side, each with a small caption below, so that one sees whether they do the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # [H, W, 3] RGB

PANEL = 384  # the least height of a panel in pixels, so that a small pack's faces can be looked at
STRIP = 28  # height of the captions' strip
GAP = 4
PAPER, INK = 24, 220  # grey levels of the strip and of its letters


def side_by_side(
    videos: Sequence[Iterable[Frame]], captions: Sequence[str], height: int | None = None
) -> Iterator[Frame]:
    """Yield frames uint8 [H, W, 3] that show `videos` beside each other, at the same height, with `captions` below.

    `height` is the panels' height in pixels; None takes the tallest video's, at least `PANEL`. A video that ends
    before the others keeps its last frame. Sides are even, as H.264 wants them.
    """
    strip: Frame | None = None
    last: list[Frame | None] = [None] * len(videos)
    for frames in zip_longest(*videos):
        last = [now if now is not None else before for now, before in zip(frames, last, strict=True)]
        shown = [frame for frame in last if frame is not None]
        if len(shown) < len(videos):
            raise ValueError("one of the videos has no frames")
        if height is None:
            height = max(PANEL, *(frame.shape[0] for frame in shown))
        height += height % 2
        panels = [_fit(frame, height) for frame in shown]
        row = np.concatenate([part for panel in panels for part in (panel, _gap(height))][:-1], axis=1)
        if strip is None:
            strip = _captions(captions, [panel.shape[1] for panel in panels])
        yield np.concatenate([row, strip], axis=0)


def _fit(frame: Frame, height: int) -> Frame:
    width = round(frame.shape[1] * height / frame.shape[0])
    width += width % 2
    if frame.shape[:2] == (height, width):
        return frame
    smaller = height < frame.shape[0]
    resized = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return resized.astype(np.uint8, copy=False)


def _gap(height: int) -> Frame:
    return np.full((height, GAP, 3), PAPER, np.uint8)


def _captions(captions: Sequence[str], widths: Sequence[int]) -> Frame:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (sum(widths) + GAP * (len(widths) - 1), STRIP), (PAPER,) * 3)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    left = 0
    for text, width in zip(captions, widths, strict=True):
        pen.text((left + width / 2, STRIP / 2), text, fill=(INK,) * 3, font=font, anchor="mm")
        left += width + GAP
    return np.asarray(image)
