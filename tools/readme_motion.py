"""Draw the moving picture at the head of the README: a clip, its render, and another person doing the same.

    python tools/readme_motion.py examples/clip.mp4 demo/clip.mien docs/images/motion.webp

The clip holds the face as the stream frames it. The other person is one of the pack's people.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import mien
from mien.media.video import read_video
from mien.packs.resolve import pack_for
from mien.reenact.retarget import RetargetOptions, retarget

SIDE, STRIP, GAP, PERSON = 256, 40, 8, 12
BACK, TEXT, SOFT = (13, 17, 23), (232, 237, 244), (154, 167, 184)


def panel(frame: NDArray[np.uint8], title: str, note: str) -> Image.Image:
    """Return the frame with two lines below it."""
    image = Image.new("RGB", (SIDE, SIDE + STRIP), BACK)
    image.paste(Image.fromarray(cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)))
    draw = ImageDraw.Draw(image)
    draw.text((4, SIDE + 4), title, TEXT, ImageFont.load_default(14))
    draw.text((4, SIDE + 22), note, SOFT, ImageFont.load_default(12))
    return image


def main(clip: str, file: str, output: str) -> None:
    """Write the picture."""
    stream = mien.load(file)
    pack = pack_for(stream, None)
    other = pack.people[PERSON]
    rows = retarget(stream, torch.as_tensor(other), pack, RetargetOptions()).rows()
    puppet = replace(stream, identity=other.numpy().astype(np.float16), frames=rows, tuning=b"", coded=b"")
    motion, once = 70 * len(stream), Path(file).stat().st_size - 70 * len(stream)
    notes = (
        ("input", f"{Path(clip).stat().st_size:,} bytes"),
        ("render", f"{motion:,} bytes, and {once:,} once"),
        ("another person", f"the same {motion:,} bytes"),
    )
    pictures = []
    for frames in zip(read_video(clip), mien.render(stream), mien.render(puppet), strict=False):
        whole = Image.new("RGB", (3 * SIDE + 2 * GAP, SIDE + STRIP), BACK)
        for place, (frame, note) in enumerate(zip(frames, notes, strict=True)):
            whole.paste(panel(frame, *note), (place * (SIDE + GAP), 0))
        pictures.append(whole)
    pictures += pictures[-2:0:-1]  # back again: a loop without a jump
    milliseconds = round(1000 / float(stream.fps))
    pictures[0].save(
        output, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, quality=72, method=4
    )
    print(f"{output}: {Path(output).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:4])
