"""What each layer beyond the paper is worth: it is left out alone, and judged by `mien.evaluate.judges`.

    python benchmarks/ablate.py CLIP[@START] ... [--driver DRIVER.mien] [--seeds 3] [--frames 20] [--every 3]
                                [--effort 0.2] [--only NAME ...] [-o runs/ablate.jsonl]
    python benchmarks/ablate.py --table runs/ablate.jsonl

Each run is one clip, one seed and the default method without one layer (`full`: with all). It is judged twice: the
render beside the clip's crops, and a puppet, the person doing what DRIVER does, beside DRIVER's own render, with
identity by the crops. DRIVER is a stream of the same pack. A run is one line of the output file; those that are there
with the same settings are not made again. Seeds go round first, so that a file that was stopped has whole rounds. The
table, one for all runs of the same settings, has the mean of (full less without) over clips, each clip's seeds averaged
first, with the 95 % interval of Student's t over clips.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from run_file import RunFile, tables
from scipy.stats import t as student_t

from mien.api import align_clip
from mien.evaluate.judges import JudgeFigures, judge
from mien.format.stream import Stream
from mien.media.video import read_video
from mien.method.avatar import Avatar
from mien.method.types import FaceTrack, Motion
from mien.options import EncodeOptions
from mien.packs.pack import Pack
from mien.packs.resolve import pack_for, tuned_generator
from mien.personalize.options import RefinementOptions, TuningOptions
from mien.pipeline import encode_track
from mien.reenact.retarget import RetargetOptions, retarget
from mien.report import as_bytes, mean_psnr
from mien.runtime.frame_store import CropFile
from mien.runtime.monitor import Monitor, StageMonitor


def trained(**changes: object) -> Callable[[EncodeOptions], EncodeOptions]:
    """Change fields that tuning and refinement share."""

    def change(options: EncodeOptions) -> EncodeOptions:
        tuning: TuningOptions = replace(options.tuning, **changes)  # type: ignore[type-var]
        refinement: RefinementOptions = replace(options.refinement, **changes)  # type: ignore[type-var]
        return replace(options, tuning=tuning, refinement=refinement)

    return change


def tuned(**changes: object) -> Callable[[EncodeOptions], EncodeOptions]:
    """Change fields of tuning alone."""
    return lambda options: replace(options, tuning=replace(options.tuning, **changes))  # type: ignore[type-var]


LAYERS: dict[str, Callable[[EncodeOptions], EncodeOptions]] = {
    "full": lambda options: options,
    "refinement": lambda options: replace(options, refinement=None),
    "re-fit": lambda options: replace(options, refit=None),
    "noise constants": trained(noise=None),
    "Muon": trained(muon=None),
    "ImageNet features": trained(imagenet=0.0),
    "even sampling": trained(even_sampling=False),
    "small person (without: all weights)": lambda options: replace(options, person_size=None),
    "encoder tuned": tuned(encoder_rate=None),
    "pyramid loss (without: L2)": trained(pixel_loss="l2"),
    "half size first": tuned(coarse_first=False),
}


@dataclass(frozen=True)
class Case:
    """A clip's crops and their name."""

    name: str
    track: FaceTrack


def thinned(track: FaceTrack, every: int) -> FaceTrack:
    """Every n-th frame of a track."""
    kept = slice(None, None, every)
    per_frame = ("quads", "roll", "residual", "bridged", "lost", "landmarks", "yaw", "pitch")
    return replace(
        track,
        crops=CropFile(track.size, track.crops[kept]),
        key_frame=track.key_frame[kept] // every,
        **{name: getattr(track, name)[kept] for name in per_frame},
    )


def load(argument: str, frames: int, every: int, pack: Pack) -> Case:
    """Align CLIP[@START], START in seconds, and take every n-th of its frames, `frames` of them."""
    path, _, start = argument.partition("@")
    begin = float(start or 0)
    whole = read_video(path, begin, None)
    clip = read_video(path, begin, frames * every / float(whole.fps))
    track = align_clip(clip, pack, EncodeOptions().align, monitor=StageMonitor())
    return Case(f"{Path(path).stem}@{begin:g}", thinned(track, every))


def figures(judged: JudgeFigures) -> dict[str, float]:
    """The judges' figures by short names."""
    found = {f"r {name}": r for name, r in judged.correlations.items()}
    if judged.identity_distance is not None:
        found["identity"] = judged.identity_distance
    if judged.feature_distance is not None:
        found["features"] = judged.feature_distance
    return found


def run(
    case: Case, options: EncodeOptions, pack: Pack, driver: Stream, model: Avatar, frames: int
) -> dict[str, dict[str, float]]:
    """Encode, render, puppeteer and judge. `model`: the driver's own person."""
    torch.manual_seed(options.seed)
    begin = time.process_time()
    encoding = encode_track(case.track, pack, options, Monitor())
    seconds = time.process_time() - begin
    crops = np.asarray(case.track.crops)
    renders = list(as_bytes(encoding.avatar.images(encoding.motion, pack.resolution)))
    result = {"render": {**figures(judge(crops, renders)), "PSNR": mean_psnr(crops, renders)}}
    result["cost"] = {"process seconds": seconds, "bytes": float(len(encoding.weights))}
    every = max(len(driver.frames) // frames, 1)
    chosen = torch.arange(0, every * frames, every)
    theirs = Motion.from_rows(driver.frames).part(chosen)
    puppet = retarget(driver, encoding.avatar.identity, pack, RetargetOptions()).part(chosen)
    shown, own = model.images(theirs, pack.resolution), encoding.avatar.images(puppet, pack.resolution)
    result["puppet"] = figures(judge(as_bytes(shown), as_bytes(own), portrait=crops))
    return result


def table(records: Iterable[dict[str, Any]]) -> str:
    """The Markdown table of runs."""
    values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    by_run = {(r["clip"], r["seed"], r["layer"]): r for r in records}
    for (clip, seed, layer), record in by_run.items():
        full = by_run.get((clip, seed, "full"))
        if full is None or layer == "full":
            continue
        for part in ("render", "puppet", "cost"):
            for name, value in record.get(part, {}).items():
                if name in full.get(part, {}):
                    values[layer][f"{part}: {name}"][clip].append(full[part][name] - value)
    names = sorted({name for found in values.values() for name in found})
    rows = [f"| layer | runs | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 2)]
    for layer in values:
        cells = [interval([float(np.mean(v)) for v in values[layer][name].values()]) for name in names]
        rows.append(f"| {layer} | {sum(key[2] == layer for key in by_run)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def interval(means: list[float]) -> str:
    """Mean and half width of the 95 % interval; bold where it does not hold 0."""
    if len(means) < 2:
        return "-"
    half = float(student_t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1)) / len(means) ** 0.5
    mean = float(np.mean(means))
    digits = 3 if abs(mean) + half < 2 else 1
    text = f"{mean:+.{digits}f} ± {half:.{digits}f}"
    return f"**{text}**" if abs(mean) > half else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--driver", type=Path, default=Path("examples/clip.mien"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--effort", type=float, default=0.2)
    parser.add_argument("--only", nargs="*", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablate.jsonl"))
    options = parser.parse_args()
    if options.table is not None:
        print(tables(options.table.read_text().splitlines(), table))
        return
    pack = Pack.load(options.pack)
    driver = Stream.load(options.driver)
    networks = pack_for(driver, pack, pack.resolution)  # a driver of another pack has other channels, and is refused
    model = Avatar.of(driver, networks, tuned_generator(driver, networks))
    cases = [load(clip, options.frames, options.every, pack) for clip in options.clips]
    settings = (
        f"{options.pack}, {options.frames} frames, every {options.every}, effort {options.effort:g}, "
        f"driver {options.driver.stem}"
    )
    runs = RunFile(options.output, "settings", "clip", "seed", "layer")
    for seed in range(options.seeds):
        for layer in options.only:
            for case in cases:
                if (settings, case.name, seed, layer) in runs:
                    continue
                base = replace(EncodeOptions.mien(), effort=options.effort, seed=seed)
                begin = time.perf_counter()
                result = run(case, LAYERS[layer](base), pack, driver, model, options.frames)
                runs.add({"settings": settings, "clip": case.name, "seed": seed, "layer": layer, **result})
                print(f"{layer}, {case.name}, seed {seed}: {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
