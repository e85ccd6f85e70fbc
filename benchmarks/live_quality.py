"""What `mien live` makes of a clip, every frame of it, without the clock: to be measured beside `mien encode`.

    python benchmarks/live_quality.py CLIP FACE.mien -o live.mkv [--seconds N]
    mien evaluate CROPS live.mkv                          # CROPS: `mien align CLIP`, or the clip where it is aligned

With --seconds the clip is looped for so long and nothing is written but a line every minute of it: frames, memory and
rate.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.apps.telepresence.face import live_face
from mien.apps.telepresence.marks import Marker, Marks
from mien.apps.telepresence.outputs import VideoFile
from mien.apps.telepresence.session import LiveOptions, MotionTracker
from mien.apps.telepresence.sources import Captured
from mien.media.video import Clip, read_video, write_video

ROW = np.zeros(35)


def resident() -> float:
    """Megabytes in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def pictures(
    clip: Clip, face_file: Path, loops: int, calibrate: float | None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Each frame's number and the face for it."""
    face = live_face(face_file, None)
    tracker, fps = MotionTracker(face, LiveOptions(calibrate)), float(clip.fps)
    marker = Marker(face.still, Marks(sign=False, watermark=loops > 1))
    frames = itertools.chain.from_iterable(itertools.repeat(clip, loops))
    for i, frame in enumerate(frames):
        yield i, marker(face.paint(tracker(Captured(i, i / fps, frame)).row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("face", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--calibrate", type=float)
    given = parser.parse_args()
    clip = read_video(given.clip)
    if given.seconds is None:
        write_video(given.output, (picture for _, picture in pictures(clip, given.face, 1, given.calibrate)), clip.fps)
        return
    fps = float(clip.fps)
    loops = int(np.ceil(given.seconds * fps / len(clip)))
    video, begin = VideoFile(given.output, clip.fps), time.monotonic()
    for i, picture in pictures(clip, given.face, loops, given.calibrate):
        video.show(picture, ROW, 0)
        if (i + 1) % round(60 * fps) == 0:
            rate = (i + 1) / (time.monotonic() - begin)
            print(f"{(i + 1) / fps / 60:.0f} min, {i + 1} frames, {resident():.0f} MB, {rate:.1f} frames/s", flush=True)
    video.close(0)


if __name__ == "__main__":
    main()
