"""Rate against what is seen: each .mien file coded at several qualities, rendered, and compared with its raw render.

    python benchmarks/rate_curve.py clip.mien [more.mien ...] -o runs/rate

Writes OUT.json and OUT.png: bits a second of the frames (identity and tuning apart) against the PSNR in dB between the
renders of the raw and the coded stream, and, as the worst frame, the lowest PSNR of any one frame.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from mien.files import atomic_path, write_text
from mien.packs.pack import Pack
from mien.render import render
from mien.stream import Stream
from mien.transcode import transcode
from mien.visible import stream_sensitivity

QUALITIES = (36.0, 40.0, 44.0, 48.0, 52.0)
TARGET_PSNR, TARGET_RATE = 40.0, 3500.0


def measure(stream: Stream, pack: Pack, device: str, probes: int) -> list[dict[str, Any]]:
    """One row for each quality: `quality`, `bits_per_second`, `bytes_per_frame`, `psnr`, `worst_frame`, in dB."""
    raw = np.stack(list(render(stream, pack=pack, device=device)))
    sensitivity = stream_sensitivity(stream, pack=pack, device=device, probes=probes)
    rows = []
    for quality in QUALITIES:
        coded = transcode(stream, quality=quality, sensitivity=sensitivity)
        errors = [
            float(((before.astype(float) - after.astype(float)) ** 2).mean())
            for before, after in zip(raw, render(coded, pack=pack, device=device), strict=True)
        ]
        rows.append({
            "quality": quality,
            "bits_per_second": coded.rates()["frames"],
            "bytes_per_frame": coded.accounting()["per_frame"],
            "psnr": round(_psnr(float(np.mean(errors))), 2),
            "worst_frame": round(_psnr(max(errors)), 2),
        })  # fmt: skip
    return rows


def _psnr(mse: float) -> float:
    return float(10 * np.log10(255**2 / max(mse, 1e-6)))


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The curves of all clips, and the corner where they should be."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, rows in results.items():
        kilobits, psnr = [row["bits_per_second"] / 1000 for row in rows], [row["psnr"] for row in rows]
        axes.plot(kilobits, psnr, "o-", label=name, markersize=4)
    axes.axhline(TARGET_PSNR, color="0.6", lw=0.8, ls="--")
    axes.axvline(TARGET_RATE / 1000, color="0.6", lw=0.8, ls="--")
    axes.set_xlabel("frames, kbit/s")
    axes.set_ylabel("render of coded against render of raw, PSNR in dB")
    axes.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)


def main() -> None:
    """Measures the files, prints a table and writes it."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("-o", "--output", type=Path, default=Path("runs/rate"))
    options.add_argument("--pack")
    options.add_argument("--device", default="auto")
    options.add_argument("--probes", type=int, default=3)
    given = options.parse_args()
    results = {}
    for path in given.files:
        stream = Stream.load(path)
        rows = measure(stream, Pack.load(given.pack or stream.pack_name), given.device, given.probes)
        results[path.stem] = rows
        for row in rows:
            print(path.stem, *(f"{key} {value:g}" for key, value in row.items()), sep="  ", flush=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(given.output.with_suffix(".json"), json.dumps(results, indent=2) + "\n")
    draw(results, given.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
