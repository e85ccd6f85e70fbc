"""Speed of stage 1 by itself: frames a second on the clock and processor time a frame, reading not counted.

    python benchmarks/align_speed.py CLIP [--frames 150] [--repeat 3]

On the clock it means something only on an otherwise idle machine; processor time is of all threads.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path

import cv2

from mien.media.video import read_video
from mien.method.stage1_align.align import align


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    for path in args.clips:
        frames = list(islice(read_video(path), args.frames))
        height, width = frames[0].shape[:2]
        runs = []
        for _ in range(args.repeat):
            clock, used = time.perf_counter(), time.process_time()
            align(frames, 25.0, size=256)
            runs.append((time.perf_counter() - clock, time.process_time() - used))
        clock, used = (min(values) / len(frames) for values in zip(*runs, strict=True))
        print(f"{path.stem} {width}x{height}: {1 / clock:.1f} frames/s, {1000 * used:.1f} ms of processor time a frame")


if __name__ == "__main__":
    main()
