"""Rate against what is seen: each stream coded at several qualities, rendered, and compared with its raw render.

    python benchmarks/rate_curve.py a.mien b.mien ... -o runs/rate
    python benchmarks/rate_curve.py clips/dev/*.mp4 --panels clips/paper/*.mp4 --duration 3 --no-tune -o runs/rate

Videos are encoded first, into the folder OUT (and not again where that was done before); of `--panels` the first square
of a row of squares. For each quality (PSNR that the worst frame must have) one row: bits a second of the frames
(identity and tuning apart), the PSNR in dB of all frames together and of the worst one, the perceptual distance by the
pack's own network (not LPIPS, unless the pack holds that), and Pearson's r over time of the face mesh's measures, all
between the renders of the raw and of the coded stream. r is not given for what moves by less than the mesh trembles.

Writes OUT/rate.json, OUT/rate.png and OUT/rate.md. Exit code 1 if a clip needs more than 3,500 bit/s for 40 dB in its
worst frame.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from mien.apps.cli.cli import main as mien
from mien.evaluate.frames import frames as panel_of
from mien.evaluate.metrics.facemesh import MEASURES, measures, pearson
from mien.face.mesh import FaceMesh
from mien.format.rate_control import transcode
from mien.format.stream import Stream
from mien.media.images import psnr_from_mse, to_float
from mien.media.video import read_video, write_video
from mien.method.stage6_render.render import render
from mien.method.stage6_render.render_probe import RenderProbe
from mien.packs.pack import Pack
from mien.runtime.files import atomic_path, write_text

QUALITIES = (36.0, 40.0, 45.0, 50.0)
TARGET_PSNR, TARGET_RATE = 40.0, 3500.0
COLOURS = plt.get_cmap("tab20")
MESH_SIZE = 512  # the mesh is found on renders of this size
STILL = {"mouth_open": 0.01, "mouth_width": 0.01, "eye_open": 0.01, "brow": 0.01, "gaze": 0.02, "yaw": 0.02,
         "pitch": 0.01}  # standard deviations below which nothing moves; roll is not in the crop  # fmt: skip


def measure(stream: Stream, pack: Pack, qualities: list[float], device: str, probes: int) -> list[dict[str, Any]]:
    """One row for each quality, see the module."""
    raw = np.stack(list(render(stream, pack=pack, device=device)))
    mesh = face_measures(raw)
    probe = RenderProbe(stream, pack=pack, device=device)
    sensitivity = probe.sensitivity(probes)
    rows = []
    for quality in qualities:
        coded = transcode(stream, quality=quality, sensitivity=sensitivity, look=probe.psnr)
        shown = np.stack(list(render(coded, pack=pack, device=device)))
        errors = np.square(raw.astype(np.float32) - shown).reshape(len(raw), -1).mean(1)
        rows.append({
            "quality": quality,
            "bits_per_second": coded.rates()["frames"],
            "psnr": round(float(psnr_from_mse(errors.mean())), 2),
            "worst_frame": round(float(psnr_from_mse(errors.max())), 2),
            "perceptual": round(perceptual(pack, raw, shown), 5),
            "r": agreement(mesh, face_measures(shown)),
        })  # fmt: skip
    return rows


def face_measures(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The eight measures of each frame [T, 8], NaN where no face is found."""
    mesher = FaceMesh(video=True)
    rows = []
    for image in images:
        found = mesher(cv2.resize(image, (MESH_SIZE, MESH_SIZE), interpolation=cv2.INTER_CUBIC))
        rows.append(measures(np.asarray(found[0], np.float64)) if found else np.full(len(MEASURES), np.nan))
    mesher.close()
    return np.array(rows)


def agreement(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float | None]:
    """Pearson's r by measure, None where it does not move or no face was found."""
    found: dict[str, float | None] = {}
    for i, name in enumerate(MEASURES):
        if name in STILL:
            r = pearson(a[:, i], b[:, i]) if np.nanstd(a[:, i]) >= STILL[name] else None
            found[name] = None if r is None else round(r, 4)
    return found


@torch.no_grad()
def perceptual(pack: Pack, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean distance by the pack's perceptual network: squared feature differences, summed over scales."""
    total = 0.0
    for first in range(0, len(a), 8):
        x, y = (to_float(images[first : first + 8], device=pack.device) for images in (a, b))
        for f, g in zip(pack.perceptual.features(x), pack.perceptual.features(y), strict=True):
            total += float((f - g).square().sum(1).mean((1, 2)).sum())
    return total / len(a)


def encoded(clip: Path, given: argparse.Namespace, panel: bool) -> Path:
    """The clip's .mien in the output folder, made if it is not there."""
    target = given.output / f"{clip.stem}.mien"
    if target.exists():
        return target
    source = clip
    if panel:
        source = given.output / f"{clip.stem}.panel.mp4"
        part = read_video(clip, 0.0, given.duration)
        whole = panel_of(clip, size=min(part.size[1], 768), panel=0)
        write_video(source, (frame for frame, _ in zip(whole, range(part.frame_count), strict=False)), part.fps)
    line = ["encode", str(source), "-o", str(target), "--no-sound", "--duration", str(given.duration)]
    line += ["--no-tune"] if given.no_tune else []
    line += ["--pack", given.pack] if given.pack else []
    if mien(line):
        sys.exit(f"{clip} could not be encoded")
    return target


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Rate against PSNR (worst frame), perceptual distance and the lowest r, a curve for each clip."""
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    shown = (
        ("worst frame, PSNR in dB", lambda row: row["worst_frame"]),
        ("perceptual distance", lambda row: row["perceptual"]),
        (
            "lowest r of the mesh's measures",
            lambda row: min((r for r in row["r"].values() if r is not None), default=np.nan),
        ),
    )
    for axes, (label, value) in zip(panels, shown, strict=True):
        for number, (name, rows) in enumerate(results.items()):
            axes.plot([row["bits_per_second"] / 1000 for row in rows], [value(row) for row in rows], "o-", label=name,
                      markersize=3, lw=1, color=COLOURS(number % 20))  # fmt: skip
        axes.axvline(TARGET_RATE / 1000, color="0.6", lw=0.8, ls="--")
        axes.set_xscale("log")
        axes.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("frames, kbit/s")
        axes.set_ylabel(label)
    panels[0].axhline(TARGET_PSNR, color="0.6", lw=0.8, ls="--")
    panels[2].legend(fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """The rows from the target quality on, as Markdown."""
    lines = [
        "| clip | asked, dB | bit/s | PSNR, all frames | worst frame | perceptual | r, lowest | of |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in results.items():
        for row in rows:
            if row["quality"] >= TARGET_PSNR:
                r, key = min(
                    ((r, key) for key, r in row["r"].items() if r is not None), default=(None, "nothing moves")
                )
                lines.append(
                    f"| {name} | {row['quality']:g} | {row['bits_per_second']:,.0f} | {row['psnr']:.1f} | "
                    f"{row['worst_frame']:.1f} | {row['perceptual']:.4f} | {'-' if r is None else f'{r:.3f}'} | "
                    f"{key.replace('_', ' ')} |"
                )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measures the files, prints a table and writes it."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("files", nargs="*", type=Path)
    options.add_argument("--panels", nargs="*", type=Path, default=[])
    options.add_argument("--duration", type=float, default=3.0)
    options.add_argument("--no-tune", action="store_true")
    options.add_argument("-o", "--output", type=Path, default=Path("runs/rate"))
    options.add_argument("--pack")
    options.add_argument("--device", default="auto")
    options.add_argument("--qualities", nargs="+", type=float, default=list(QUALITIES), help="40 must be among them")
    options.add_argument("--probes", type=int, default=3)
    given = options.parse_args()
    if TARGET_PSNR not in given.qualities:
        options.error(f"{TARGET_PSNR:g} must be among the qualities")
    given.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {}
    for path, panel in [*((path, False) for path in given.files), *((path, True) for path in given.panels)]:
        stream = Stream.load(path if path.suffix == ".mien" else encoded(path, given, panel))
        rows = measure(stream, Pack.load(given.pack or stream.pack_name), given.qualities, given.device, given.probes)
        results[path.stem] = rows
        for row in rows:
            print(path.stem, json.dumps(row), flush=True)
        # After each clip, so that what was measured is kept.
        write_text(given.output / "rate.json", json.dumps(results, indent=1) + "\n")
        write_text(given.output / "rate.md", table(results))
        draw(results, given.output / "rate.png")
    print(table(results))
    at_target = [next(row for row in rows if row["quality"] == TARGET_PSNR) for rows in results.values()]
    return int(any(row["bits_per_second"] > TARGET_RATE or row["worst_frame"] < TARGET_PSNR for row in at_target))


if __name__ == "__main__":
    sys.exit(main())
