"""A grey box over the mouth for some frames: what it does to those frames, and to the others.

    python benchmarks/occlusion.py CLIP [--duration 4] [--first 40] [--last 59] [--tune] [-o FOLDER]

The clip is encoded twice, as it is and covered (before stage 1 sees it). Printed: PSNR of both renders against the
*uncovered* crops inside and outside of the covered frames, r of the mouth opening outside, the largest offset in units of a
channel's scale, the largest step from one frame to the next, and which frames the report calls poor. FOLDER gets a sheet:
covered crops above the render.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from cases import covered, faces

from mien.api import to_stream
from mien.format.stream import Stream
from mien.media.images import psnr_from_mse, to_float
from mien.media.still_images import write_image
from mien.media.video import read_video
from mien.method.stage1_align.align import align
from mien.method.stage6_render.render import render
from mien.method.types import FaceTrack
from mien.options import EncodeOptions
from mien.packs.pack import Pack
from mien.pipeline import encode_track
from mien.report import EncodeReport, summarise
from mien.runtime.monitor import Monitor


def encoded(crops: FaceTrack, fps: Fraction, pack: Pack, tune: bool) -> tuple[Stream, EncodeReport, np.ndarray]:
    """Stages 2 to 6."""
    options, monitor = EncodeOptions.of(tune=tune), Monitor()
    encoding = encode_track(crops, pack, options, monitor)
    stream = to_stream(encoding, crops, fps, pack, options)
    report = summarise(encoding, crops, stream, pack, options, monitor)
    return stream, report, np.stack(list(render(stream, pack=pack)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--duration", type=float, default=4.0)
    parser.add_argument("--first", type=int, default=40)
    parser.add_argument("--last", type=int, default=59)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--pack", default="mini")
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    pack = Pack.load(args.pack)
    clip = read_video(args.clip, 0.0, args.duration)
    plain = align(clip, float(clip.fps), size=pack.resolution)
    boxed = align(covered(clip, args.first, args.last), float(clip.fps), size=pack.resolution)
    inside = np.zeros(len(plain), bool)
    inside[args.first : args.last + 1] = True
    scale = np.array([c.scale for c in pack.channels])
    for name, crops in (("as it is", plain), ("covered", boxed)):
        stream, report, frames = encoded(crops, clip.fps, pack, args.tune)
        error = np.square(frames.astype(float) - plain.crops[:]).mean((1, 2, 3))
        values = psnr_from_mse(error)
        seen = faces(to_float(plain.crops[:]))[~inside, 0], faces(to_float(frames))[~inside, 0]
        units = stream.frames[:, 3:].astype(float) / scale
        caught = sum(inside[i] for i in report.unreliable)
        print(f"{name}: PSNR against the uncovered crops {values[~inside].mean():.2f} outside, "
              f"{values[inside].mean():.2f} inside; mouth opening r outside {np.corrcoef(*seen)[0, 1]:.3f}; "
              f"largest offset {np.abs(units).max():.1f}, largest step {np.abs(np.diff(units, axis=0)).max():.1f}; "
              f"poor: {caught} of {inside.sum()} covered, {len(report.unreliable) - caught} others", flush=True)  # fmt: skip
        if args.out and name == "covered":
            args.out.mkdir(parents=True, exist_ok=True)
            moments = np.linspace(args.first - 4, args.last + 4, 10).astype(int).clip(0, len(plain) - 1)
            shown = [np.hstack([cv2.resize(x[i], (128, 128)) for i in moments]) for x in (crops.crops, frames)]
            write_image(args.out / "occlusion.png", np.vstack(shown))


if __name__ == "__main__":
    main()
