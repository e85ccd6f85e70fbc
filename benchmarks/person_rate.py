"""What the bytes of a person buy: one clip encoded without tuning, with compact persons of several sizes, and with all
weights.

    python benchmarks/person_rate.py d18.mp4 paper.mp4:0 ... -o runs/person [--pack mini] [--start 0] [--duration 4]
        [--sizes none,50k,200k,1000k,full] [--driver other.mp4] [--quick]

`CLIP:K` takes the K-th square of a side-by-side clip. Crops are cut once; every size is a whole encode on them, with
one seed. Writes OUT/person_rate.json after every row (rows that are there are not measured again), and at the end
OUT/person_rate.png and a table on stdout. For each row:

- bytes of the tuned weights; PSNR in dB of inversion, fit and re-synthesis; the pack's own perceptual distance and
  identity similarity, means over frames, render against crop;
- r over time of mouth opening, lids and yaw, render against crops (face mesh);
- editability: Pearson's r between the index sensitivities (Eq. 5) of the 32 channels before and after tuning, on the
  identity latent, inside the mask of each channel's attribute;
- with --driver: r of mouth, lids and yaw of a puppet with this person as the face, against the driver's own crops;
- process seconds of the whole encode, and of tuning.

`--quick` takes 30 and 20 steps of tuning instead of the default. `--no-noise` leaves the noise constants as they are.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mien.api import to_stream
from mien.apps.cli.common import person_bytes
from mien.evaluate.metrics.facemesh import MEASURES, measures, pearson
from mien.face.masks import regions
from mien.face.mesh import FaceMesh
from mien.format.person import Person
from mien.format.stream import Stream
from mien.format.weights_codec import apply_delta
from mien.media.images import to_float
from mien.media.video import read_video
from mien.method.index_sensitivity import Candidates, index_sensitivity
from mien.method.stage1_align.align import align
from mien.method.stage6_render.render import render
from mien.method.types import FaceTrack
from mien.options import EncodeOptions
from mien.packs.pack import Pack
from mien.pipeline import encode_track
from mien.reenact.puppeteer import puppeteer
from mien.report import summarise
from mien.runtime.files import atomic_path, write_text
from mien.runtime.monitor import Monitor
from mien.runtime.progress import RichProgress

SHOWN = ("mouth_open", "eye_open", "yaw")
Frames = NDArray[np.uint8]


def load(name: str, start: float, duration: float, size: int) -> tuple[FaceTrack, Any]:
    """Stage 1 on a stretch of a clip, or of one panel of it."""
    path, _, panel = name.partition(":")
    source = read_video(path, start, duration)
    frames: Any = source
    if panel:
        frames = [np.ascontiguousarray(f[:, int(panel) * f.shape[0] : (int(panel) + 1) * f.shape[0]]) for f in source]
    return align(frames, float(source.fps), size=size), source.fps


def meshes(frames: Frames, mesher: FaceMesh) -> NDArray[np.float64]:
    """The mesh measures `[T, 8]` of frames, at 256x256 at least; NaN where no face is found."""
    import cv2

    rows = []
    for frame in frames:
        if frame.shape[0] < 256:
            frame = cv2.resize(frame, (256, 256), interpolation=cv2.INTER_CUBIC)
        found = mesher(frame)
        rows.append(measures(found[0]) if found else np.full(len(MEASURES), np.nan))
    return np.array(rows)


def correlations(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float | None]:
    """r over time of the measures that are shown; None where there is no movement."""
    found = {name: pearson(a[:, MEASURES.index(name)], b[:, MEASURES.index(name)]) for name in SHOWN}
    return {name: None if r is None else round(float(r), 3) for name, r in found.items()}


@torch.no_grad()
def sensitivities(pack: Pack, generator: Any, stream: Stream, crops: FaceTrack) -> NDArray[np.float64]:
    """Eq. 5 of the 32 channels on the stream's identity, each inside the mask of its own attribute."""
    areas = regions(crops.landmarks[:1], crops.size)
    masks = {"mouth": areas.mouth, "jaw": areas.mouth, "eyes": areas.eyes, "brows": areas.eyes, "gaze": areas.eyes}
    names = list(masks)
    stacked = torch.cat([masks[n][0] for n in names])
    styles = generator.styles(torch.from_numpy(np.asarray(stream.identity, np.float32))[None])
    table = index_sensitivity(
        generator, pack.perceptual, styles, stacked, Candidates.of(pack.channels), masked_images=False
    )
    column = [names.index(c.attribute) if c.attribute in names else 0 for c in pack.channels]
    return table.inside[torch.arange(len(column)), torch.tensor(column)].double().numpy()


@torch.no_grad()
def look(pack: Pack, crops: Frames, made: Frames) -> tuple[float, float]:
    """Perceptual distance (the pack's) and identity similarity, means over frames."""
    distance, alike = [], []
    for i in range(0, len(made), 8):
        a, b = to_float(crops[i : i + 8]), to_float(made[i : i + 8])
        pairs = zip(pack.perceptual.features(a), pack.perceptual.features(b), strict=True)
        distance.append(sum((f - g).square().sum(1).mean((1, 2)) for f, g in pairs))
        alike.append(F.cosine_similarity(pack.identity(a), pack.identity(b)))
    return float(torch.cat(distance).mean()), float(torch.cat(alike).mean())


def measure(
    pack: Pack,
    crops: FaceTrack,
    fps: Any,
    size: str,
    driver: tuple[Stream, Any] | None,
    mesher: FaceMesh,
    seed: int,
    base: EncodeOptions,
) -> dict[str, Any]:
    """One row."""
    begin, clock = time.process_time(), time.perf_counter()
    options = replace(base, person_size=None if size in ("none", "full") else person_bytes(size), seed=seed)
    if size == "none":
        options = replace(EncodeOptions.untuned(), seed=seed)
    monitor = Monitor(RichProgress())
    encoding = encode_track(crops, pack, options, monitor)
    stream = to_stream(encoding, crops, fps, pack, options)
    report = summarise(encoding, crops, stream, pack, options, monitor)
    spent, passed = time.process_time() - begin, time.perf_counter() - clock
    made = np.stack(list(render(stream, pack=pack)))
    distance, alike = look(pack, crops.crops, made)
    generator = apply_delta(pack.generator, stream.tuning) if stream.tuning else pack.generator
    before = sensitivities(pack, pack.generator, stream, crops)
    after = sensitivities(pack, generator, stream, crops)
    row: dict[str, Any] = {
        "size": size,
        "tuning_bytes": len(stream.tuning),
        "identity_bytes": 2 * stream.identity.size,
        "frames": len(stream),
        "psnr": {k: round(v, 2) for k, v in report.psnr.items()},
        "perceptual": round(distance, 5),
        "identity": round(alike, 4),
        "r": correlations(meshes(crops.crops, mesher), meshes(made, mesher)),
        "editability": round(float(np.corrcoef(before, after)[0, 1]), 4),
        "process_seconds": round(spent, 1),
        "clock_seconds": round(passed, 1),
        "tune_clock_seconds": round(report.seconds["tune"], 1),
    }
    if driver is not None:
        moving, wanted = driver
        face: Any = Person.of(stream, "bench") if stream.tuning else stream
        puppet = puppeteer(moving, face, pack=pack)
        person = face if isinstance(face, Person) else None
        row["puppet_r"] = correlations(wanted, meshes(np.stack(list(render(puppet, pack=pack, person=person))), mesher))
    return row


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Bytes of the person against PSNR, perceptual distance and identity, a line for each clip."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for clip in dict.fromkeys(row["clip"] for row in rows):
        own = sorted((r for r in rows if r["clip"] == clip), key=lambda r: r["tuning_bytes"])
        x = [max(r["tuning_bytes"], 10_000) / 1000 for r in own]
        for axis, values in zip(
            axes, ([r["psnr"]["resynthesis"] for r in own], [r["perceptual"] for r in own],
                   [r["identity"] for r in own]), strict=True,
        ):  # fmt: skip
            axis.plot(x, values, marker="o", label=clip)
    for axis, name in zip(axes, ("re-synthesis, PSNR in dB", "perceptual distance (the pack's)", "identity similarity"),
                          strict=True):  # fmt: skip
        axis.set(xscale="log", xlabel="kB of tuned weights (none at 10)", title=name)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    columns = ("clip", "person", "bytes", "inversion dB", "fit dB", "re-synthesis dB", "perceptual", "identity",
               "mouth, lids, yaw r", "editability", "puppet r", "process s")  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    show = lambda r: ", ".join("-" if r[n] is None else f"{r[n]:.2f}" for n in SHOWN) if r else "-"
    for row in rows:
        p = row["psnr"]
        lines.append(
            f"| {row['clip']} | {row['size']} | {row['tuning_bytes']:,} | {p['inversion']:.2f} | {p['fit']:.2f} | "
            f"{p['resynthesis']:.2f} | {row['perceptual']:.4f} | {row['identity']:.3f} | {show(row['r'])} | "
            f"{row['editability']:.3f} | {show(row.get('puppet_r'))} | {row['process_seconds']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", help="CLIP or CLIP:PANEL")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--start", type=float, default=0.0)
    parser.add_argument("--duration", type=float, default=4.0)
    parser.add_argument("--sizes", default="none,50k,200k,1000k,full")
    parser.add_argument("--driver", help="CLIP or CLIP:PANEL that moves the puppets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-noise", action="store_true")
    options = parser.parse_args()
    base = EncodeOptions.mien()
    assert base.tuning is not None and base.refinement is not None
    if options.quick:
        base = replace(base, tuning=replace(base.tuning, steps=30, passes=0.0),
                       refinement=replace(base.refinement, steps=20, passes=0.0))  # fmt: skip
    if options.no_noise:
        assert base.tuning is not None and base.refinement is not None
        base = replace(base, tuning=replace(base.tuning, noise=None), refinement=replace(base.refinement, noise=None))
    options.output.mkdir(parents=True, exist_ok=True)
    out = options.output / "person_rate.json"
    rows: list[dict[str, Any]] = json.loads(out.read_text()) if out.is_file() else []
    pack, mesher = Pack.load(options.pack), FaceMesh()
    driver = None
    if options.driver:
        crops, fps = load(options.driver, options.start, options.duration, pack.resolution)
        plain = EncodeOptions.untuned()
        moving = to_stream(encode_track(crops, pack, plain, Monitor()), crops, fps, pack, plain)
        driver = moving, meshes(crops.crops, mesher)
    for name in options.clips:
        path, _, panel = name.partition(":")
        clip = Path(path).stem + (f":{panel}" if panel else "")
        todo = [s for s in options.sizes.split(",") if not any(r["clip"] == clip and r["size"] == s for r in rows)]
        if not todo:
            continue
        crops, fps = load(name, options.start, options.duration, pack.resolution)
        for size in todo:
            rows.append({"clip": clip, **measure(pack, crops, fps, size, driver, mesher, options.seed, base)})
            write_text(out, json.dumps(rows, indent=2) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    draw(rows, options.output / "person_rate.png")
    print(table(rows))


if __name__ == "__main__":
    main()
