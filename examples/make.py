"""How the clip and the portrait in this folder were made: rendered by mien itself, of people who do not exist.

    python examples/make.py CLIP.mp4 FACE.webp

CLIP and FACE are of generated people (the training data of `mini`). The clip is encoded with tuning and rendered; the
portrait is the face's own encoding, rendered facing the camera.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

import mien
from mien.media.still_images import read_image, write_image
from mien.media.video import write_video

HERE = Path(__file__).parent
SIZE = 256


def larger(frame: np.ndarray) -> np.ndarray:
    """The render at 256x256."""
    return cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_LANCZOS4) if frame.shape[0] < SIZE else frame


def main(clip: str, face: str) -> None:
    stream = mien.encode(clip, start=3.4, duration=2.4)
    stream.save(HERE / "clip.mien")
    write_video(HERE / "clip.mp4", (larger(f) for f in mien.render(stream)), stream.fps)
    puppet = mien.puppeteer(stream, read_image(face))
    still = puppet.frames[:1].copy()
    still[:, :3] = 0
    still[:, 3:] = 0
    image = next(mien.render(replace(puppet, frames=still, placement=None, audio=b"")))
    write_image(HERE / "portrait.png", larger(image))


if __name__ == "__main__":
    main(*sys.argv[1:3])
