"""Prints how long the built-in metrics take for 300 frames at 256x256, and their agreement with another program's r.

    python benchmarks/evaluate_time.py CLIP [--frames 300] [--panel K]
    python benchmarks/evaluate_time.py CLIP --score score.json [--panel K] [--against K]

CLIP's frames (one panel of a side-by-side video, or the whole) are averaged to 256x256 and written without loss twice,
the second time blurred; then they are compared by `mien evaluate` without networks of others. The process time is what
counts on a busy machine. `--score`: a JSON of another program with l1, psnr, ssim and mouth_open ... roll of CLIP's
panels `--panel` and `--against` (the whole where one is not given), every fourth frame; nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from mien.evaluate.evaluate import Options, evaluate
from mien.evaluate.frames import frames
from mien.evaluate.metrics.facemesh import MEASURES
from mien.evaluate.networks import gather
from mien.media.video import write_video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--panel", type=int)
    parser.add_argument("--against", type=int)
    parser.add_argument("--score", type=Path)
    options = parser.parse_args()
    if options.against is not None and options.score is None:
        parser.error("--against is of --score: what is timed is compared with itself, blurred.")
    if options.score is not None:
        _agreement(options)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = list(islice(frames(options.clip, size=256, panel=options.panel), options.frames))
        write_video(folder / "a.mkv", islice(cycle(kept), options.frames), 25)
        write_video(folder / "b.mkv", islice(cycle(_other(kept)), options.frames), 25)
        clock, process = time.perf_counter(), time.process_time()
        result = evaluate(folder / "a.mkv", folder / "b.mkv", networks=gather())
        clock, process = time.perf_counter() - clock, time.process_time() - process
    print(
        f"{result.frames} frames of 256x256, {result.faces} with a face: {clock:.1f} s by the clock, {process:.1f} s of"
    )
    print(f"process time ({1000 * process / result.frames:.1f} ms a frame), {os.cpu_count()} cores")


def _other(kept: list[np.ndarray]) -> Iterator[np.ndarray]:
    for frame in kept:
        yield np.asarray(cv2.GaussianBlur(frame, (0, 0), 1.2), np.uint8)


def _agreement(options: argparse.Namespace) -> None:
    score = json.loads(options.score.read_text())
    settings = Options(256, 4, 10, options.panel, options.against)
    result = evaluate(options.clip, options.clip, settings)
    print("| measure | mien evaluate | score.py |\n| --- | --- | --- |")
    for key in ("l1", "psnr", "ssim", *MEASURES):
        ours = result.values.get(key, result.values.get(f"mesh_{key}"))
        print(f"| {key} | {ours:.3f} | {score[key]:.3f} |")


if __name__ == "__main__":
    main()
