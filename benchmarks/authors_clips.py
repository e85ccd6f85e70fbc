"""The authors' published clips: their result and ours beside the input that they show, by the independent judges
(`mien.evaluate.judges`).

    python benchmarks/authors_clips.py CLIP ... [--pack PACK] [--size S] [--seconds 4] [--person-size auto|full|BYTES]
                                       [--seed 0] [-o runs/authors_clips.jsonl]
    python benchmarks/authors_clips.py --table runs/authors_clips.jsonl

CLIP: squares side by side, the input first and the authors' result second, with a label burnt into the top. The input
is cut out without loss and encoded as an aligned clip with the defaults. Each result is one line of the output file;
those that are there are not made again. `--seconds`: from the start.

PSNR: all frames. SSIM: all frames up to 512 pixels, every sixth above. Identity distance, feature distance, r and
sharpness: all frames up to 512 pixels; above, every second frame, and all but sharpness in pictures averaged down to
512. Sharpness: mean absolute Laplacian within the hull of dlib's landmarks, over the input's. The rows of the label
are left out everywhere. Seconds are of the encode, by the clock.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from ablate import figures
from cases import panel
from numpy.typing import NDArray
from run_file import RunFile

from mien.api import encode_with_report
from mien.evaluate.judges import JudgeModels, judge
from mien.evaluate.metrics.dlib_face import DlibFace
from mien.evaluate.metrics.ssim import ssim
from mien.format.stream import Stream
from mien.media.images import psnr
from mien.media.video import read_video
from mien.method.stage6_render.render import render
from mien.options import EncodeOptions
from mien.packs.pack import Pack

AUTHORS = "the authors"
LABEL = Fraction(10, 256)  # of the side
LARGEST_JUDGED = 512  # dlib's detector takes seconds on larger pictures
SSIM_EVERY, JUDGED_EVERY = 6, 2  # above that size
ORDER = ("PSNR", "SSIM", "sharpness", "identity", "features")

Frame = NDArray[np.uint8]


def sized(frames: Iterable[Frame], side: int) -> Iterator[Frame]:
    """Frames averaged down to a side, without the label's rows."""
    for frame in frames:
        small = frame if frame.shape[0] == side else cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
        yield np.ascontiguousarray(small[round(side * LABEL) :], dtype=np.uint8)


def edges(frame: Frame) -> NDArray[np.float64]:
    """Absolute Laplacian of the brightness."""
    return np.abs(cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_64F))


def sharpness(reference: list[Frame], output: list[Frame], scale: int, dlib: DlibFace) -> float:
    """Of the output over the reference's; faces are found in pictures `scale` times smaller."""
    own = theirs = 0.0
    for a, b in zip(reference, output, strict=True):
        height, width = a.shape[0] // scale, a.shape[1] // scale
        points = dlib.points(a if scale == 1 else cv2.resize(a, (width, height), interpolation=cv2.INTER_AREA))
        if points is None:
            continue
        hull = cv2.convexHull((points * scale).round().astype(np.int32))
        face = cv2.fillConvexPoly(np.zeros(a.shape[:2], np.uint8), hull, 1).astype(bool)
        theirs, own = theirs + float(edges(a)[face].mean()), own + float(edges(b)[face].mean())
    return own / theirs


def compared(reference: list[Frame], output: list[Frame], side: int) -> dict[str, float]:
    """All figures of an output beside its reference, both without the label's rows."""
    models = JudgeModels.installed()
    scale = max(side // LARGEST_JUDGED, 1)
    step = JUDGED_EVERY if scale > 1 else 1
    seen, shown = reference[::step], output[::step]
    judged = (
        [cv2.resize(f, (f.shape[1] // scale, f.shape[0] // scale), interpolation=cv2.INTER_AREA) for f in frames]
        for frames in (seen, shown)
    )
    found = figures(judge(*judged, models=models))
    pairs = list(zip(reference, output, strict=True))
    found["PSNR"] = float(np.mean([psnr(a, b) for a, b in pairs]))
    found["SSIM"] = float(np.mean([ssim(a, b) for a, b in pairs[:: SSIM_EVERY if scale > 1 else 1]]))
    if models.dlib is not None:
        found["sharpness"] = sharpness(seen, shown, scale, models.dlib)
    return found


def encoded(source: Path, out: Path, pack: Pack, options: argparse.Namespace) -> tuple[Stream, dict[str, float]]:
    """Encode with the defaults, or take up the stream that an earlier run left."""
    sizes = {"auto": None, "full": "full"}
    size = sizes[options.person_size] if options.person_size in sizes else int(options.person_size)
    if out.exists():
        return Stream.load(out), {}
    begin = time.perf_counter()
    stream, _ = encode_with_report(
        source,
        options=EncodeOptions.of(size=options.size, seed=options.seed, aligned=True, person_size=size),
        pack=pack,
    )
    stream.save(out)
    return stream, {"seconds": time.perf_counter() - begin, "bytes": float(len(stream.tuning))}


def table(lines: Iterable[str]) -> str:
    """The Markdown table of a file of runs."""
    records = [json.loads(line) for line in lines]
    names = sorted({name for r in records for name in r["figures"]} - set(ORDER))
    names = [*ORDER, *(n for n in names if n.startswith("r ")), *(n for n in names if not n.startswith("r "))]
    rows = [f"| clip | size | | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 3)]
    for r in sorted(records, key=lambda r: (r["size"], r["clip"], not r["row"].startswith(AUTHORS), r["row"])):
        digits = {"PSNR": 2, "sharpness": 2, "seconds": 0, "bytes": 0}
        cells = [f"{r['figures'][n]:.{digits.get(n, 3)}f}" if n in r["figures"] else "" for n in names]
        rows.append(f"| {r['clip']} | {r['size']} | {r['row']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--person-size", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/authors_clips.jsonl"))
    options = parser.parse_args()
    if options.table is not None:
        print(table(options.table.read_text().splitlines()))
        return
    runs, pack, side = RunFile(options.output, "clip", "size", "row"), Pack.load(options.pack), options.size
    row = f"{options.pack}, {options.seconds:g} s, {options.person_size}, seed {options.seed}"
    authors = f"{AUTHORS}, {options.seconds:g} s"
    for clip in options.clips:
        name, folder = clip.stem, options.output.parent / "panels"
        inputs, theirs = (
            panel(clip, index, folder / f"{name}-{options.seconds:g}-{index}.mkv", 0.0, options.seconds)
            for index in (0, 1)
        )
        reference = list(sized(read_video(inputs), side))
        if (name, side, authors) not in runs:
            output = list(sized(read_video(theirs), side))
            runs.add({"clip": name, "size": side, "row": authors, "figures": compared(reference, output, side)})
        if (name, side, row) in runs:
            continue
        out = options.output.parent / f"{name}-{side}-{row.replace(', ', '-').replace(' ', '')}.mien"
        stream, cost = encoded(inputs, out, pack, options)
        found = {**compared(reference, list(sized(render(stream, pack=pack), side)), side), **cost}
        runs.add({"clip": name, "size": side, "row": row, "figures": found})
        print(name, row, found, flush=True)


if __name__ == "__main__":
    main()
