"""The paper's method and what its ablation changes in it (Sec. 4.2, Tables 1 and 3), judged by models that nothing was
fitted to.

    python benchmarks/paper_ablation.py CLIP[@START] ... [--panel CLIP[@START] ...] [--rows ROW ...] [--frames 12]
                                        [--every 2] [--effort 0.1] [--epochs 0.3] [--pack PACK] [--size S]
                                        [-o runs/paper_ablation.jsonl]
    python benchmarks/paper_ablation.py --table runs/paper_ablation.jsonl

`--panel`: clips of squares side by side, of which the first is taken as an aligned clip. Each run is one clip and one
row, and one line of the output file; those that are there with the same settings are not made again, and the table is
one for all runs of the same settings. Rows that tune alike share the tuned generator. `--effort`: so many times the
usual steps of tuning; `--epochs`: so many times those of the paper's gradient descent. PSNR and SSIM are of the render
beside the frames I_t and beside S_t = G(L_t) of the generator that was rendered with; `pose loss` is Eq. 2 at the
angles that were fitted, and at those that the mesh measured. Seconds are of one core, without those of stages that
another row had done.

Rows:
    mien                    the default method
    paper                   the paper's, Eq. 2 and Algorithm 1 by gradient descent
    paper, GN               the same with Eq. 2 and 3 by Gauss-Newton, as in the rows below
    paper, GN, I_t          real frames as the target of stage 5
    paper, GN, untuned      without tuning of the generator
    paper, GN, several looks  a latent that is corrected by E(I) - E(G(w)) four times: ReStyle's form, with an encoder
                            that was trained for one look, for packs without a ReStyle network
    paper, GN, pose measured  the angles that the face mesh measured, given to the flow as they are
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from ablate import Case, figures, thinned
from cases import panel
from run_file import RunFile, tables
from torch import Tensor, nn

from mien.api import align_clip
from mien.evaluate.judges import judge
from mien.evaluate.metrics.ssim import ssim
from mien.media.video import read_video
from mien.method.stage1_align.align import AlignOptions
from mien.method.stage4_pose import PoseOptions
from mien.options import EncodeOptions
from mien.packs.pack import Pack
from mien.pipeline import encode_track
from mien.report import as_bytes, mean_psnr
from mien.runtime.monitor import Monitor, StageMonitor
from mien.runtime.stage_cache import NullCache

LOOKS = 5
T = TypeVar("T")
ROWS = (
    "mien", "paper, GN", "paper, GN, I_t", "paper, GN, pose measured", "paper, GN, untuned", "paper, GN, several looks",
    "paper",
)  # fmt: skip
SHARED = ("invert", "tune")  # stages that rows which tune alike have in common


class SeveralLooks(nn.Module):
    """w := E(I), then w := w + E(I) - E(G(w))."""

    def __init__(self, pack: Pack) -> None:
        super().__init__()
        self.encoder, self.generator = pack.encoder, pack.generator

    def forward(self, images: Tensor) -> Tensor:
        first = self.encoder(images).float()
        w_plus = first
        for _ in range(LOOKS - 1):
            w_plus = w_plus + first - self.encoder(self.generator.synthesis(w_plus)).float()
        return w_plus


def load(argument: str, frames: int, every: int, pack: Pack, aligned: bool) -> Case:
    """Align CLIP[@START], START in seconds, and take every n-th of its frames, `frames` of them."""
    path, _, start = argument.partition("@")
    begin, source = float(start or 0), Path(path)
    seconds = frames * every / float(read_video(path, begin, None).fps)
    if aligned:
        source = panel(source, 0, Path(f"runs/panels/{source.stem}-{begin:g}-{seconds:.3f}.mkv"), begin, seconds)
    clip = read_video(source, 0.0 if aligned else begin, seconds)
    track = align_clip(clip, pack, AlignOptions(aligned=aligned), monitor=StageMonitor())
    return Case(f"{Path(path).stem}@{begin:g}", thinned(track, every))


class SharedStages(NullCache):
    """Results of the `SHARED` stages, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Any] = {}

    def stage(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        if name not in SHARED:
            return make()
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


def options_of(row: str, effort: float, epochs: float) -> EncodeOptions:
    """The options of a row."""
    if row == "mien":
        return replace(EncodeOptions.mien(), effort=effort)
    tune = "untuned" not in row
    found = EncodeOptions.of(
        "paper", tune=tune, real_targets="I_t" in row, effort=effort if tune else 1.0,
        optimizer="gauss-newton" if "GN" in row else None,
    )  # fmt: skip
    if row == "paper":
        pose, attributes = (replace(o, epochs=max(round(o.epochs * epochs), 1)) for o in (found.pose, found.attributes))
        found = replace(found, pose=pose, attributes=attributes)
    return replace(found, pose=PoseOptions(iterations=0)) if "pose measured" in row else found


def run(case: Case, row: str, pack: Pack, effort: float, epochs: float, cache: NullCache) -> dict[str, float]:
    """Encode, render and judge."""
    torch.manual_seed(0)
    if "several looks" in row:
        pack = replace(pack, networks={**pack.networks, "encoder": SeveralLooks(pack)})
    begin = time.process_time()
    encoding = encode_track(case.track, pack, options_of(row, effort, epochs), Monitor(cache=cache))
    seconds = time.process_time() - begin
    crops = np.asarray(case.track.crops)
    renders = list(as_bytes(encoding.avatar.images(encoding.motion, pack.resolution)))
    inverted = list(as_bytes(encoding.inversion.images()))
    found = figures(judge(crops, renders))
    for name, against in (("I_t", crops), ("S_t", inverted)):
        found[f"PSNR {name}"] = mean_psnr(against, renders)
        found[f"SSIM {name}"] = float(np.mean([ssim(a, b) for a, b in zip(against, renders, strict=True)]))
    found["PSNR of S_t to I_t"] = mean_psnr(crops, inverted)
    if "pose measured" not in row:
        found["pose loss"] = float(encoding.pose.loss.mean())
        found["pose loss, measured"] = float(encoding.pose.initial_loss.mean())
    found["process seconds a frame"] = seconds / len(case.track)
    return found


def table(records: Iterable[dict[str, Any]]) -> str:
    """The Markdown table of runs: means over clips."""
    values: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for record in records:
        values[record["row"]][record["clip"]] = record["figures"]
    names = list(dict.fromkeys(name for runs in values.values() for run in runs.values() for name in run))
    rows = [f"| row | clips | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 2)]
    for row, runs in values.items():
        of = lambda name, runs=runs: [run[name] for run in runs.values() if name in run]
        cells = [f"{np.mean(of(name)):.4g}" if of(name) else "-" for name in names]
        rows.append(f"| {row} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--panel", nargs="*", default=[])
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS)
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--size", type=int, help="side of the pictures, where the pack draws several")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--effort", type=float, default=0.1)
    parser.add_argument("--epochs", type=float, default=0.3)
    parser.add_argument("--table", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/paper_ablation.jsonl"))
    options = parser.parse_args()
    if options.table is not None:
        print(tables(options.table.read_text().splitlines(), table))
        return
    pack = Pack.load(options.pack).at(options.size)
    cases = [load(clip, options.frames, options.every, pack, False) for clip in options.clips]
    cases += [load(clip, options.frames, options.every, pack, True) for clip in options.panel]
    settings = (
        f"{options.pack}, {pack.resolution} pixels, {options.frames} frames, every {options.every}, "
        f"effort {options.effort:g}, epochs {options.epochs:g}"
    )
    runs = RunFile(options.output, "settings", "clip", "row")
    for case in cases:
        shared = SharedStages()
        for row in options.rows:
            if (settings, case.name, row) in runs:
                continue
            begin = time.perf_counter()
            alone = row == "mien" or "untuned" in row or "several looks" in row
            cache = NullCache() if alone else shared
            found = run(case, row, pack, options.effort, options.epochs, cache)
            runs.add({"settings": settings, "clip": case.name, "row": row, "figures": found})
            print(f"{row}, {case.name}: {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
