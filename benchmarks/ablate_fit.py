"""Stages 4 and 5 with each loss and each device left out in turn.

    python benchmarks/ablate_fit.py CLIP[@START] ... [--aligned CLIP ...] [--panel CLIP ...] [--frames 50] [--tuned] [-o OUT.json]

`--panel`: clips of 1024-pixel squares side by side, of which the first is taken as an aligned clip. Prints one Markdown
table a clip: PSNR of the render against S_t (whole, mouth, eyes), Pearson's r of mouth opening, eye opening, brow height
and gaze between S_t and the render, jitter of angles and of channels (root mean square of the second difference over
that of the measured angles, and of the channels as the encoder has them; 1 is as steady as those), process seconds a
frame. Nothing is compared with the crops: what stage 2 lost is not the fit's fault.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from cases import Case, Fit, correlations, face_psnr, faces, fit, jitter, panel, prepare, psnr, shorter, targets
from clip_channels import clip_channels

from mien.method.gauss_newton import DescentOptions
from mien.method.losses import AttributeWeights, LossNetworks
from mien.method.stage4_pose import PoseOptions
from mien.method.stage5_attributes import AttributeOptions, warm_start
from mien.method.types import HeadPose
from mien.runtime.files import write_text

COLUMNS = (
    "psnr",
    "mouth",
    "eyes",
    "r mouth",
    "r eye",
    "r brow",
    "r gaze",
    "jitter angles",
    "jitter channels",
    "s/frame",
)
LOSSES = ("l2_mouth", "l2_eyes", "l2_pupils", "perceptual_mouth", "perceptual_eyes", "inter_frame", "face")


def variants(case: Case, only: set[str]) -> Any:
    """`(name, arguments of fit)`; poses are shared where a variant concerns stage 5 alone."""
    full = DescentOptions()
    less = lambda **k: {"attributes": AttributeOptions(descent=replace(full, **k))}
    weights = lambda **k: less(weights=replace(AttributeWeights(), **k))
    look = LossNetworks(case.pack.perceptual, case.pack.identity, case.pack.parser)
    measured = HeadPose(case.measured.half().float(), torch.zeros(len(case)), torch.zeros(len(case)))
    posed = case.avatar().latents(case.measured)
    found: dict[str, dict[str, Any]] = {"everything": {}}
    found |= {f"- {name}": weights(**{name: 0.0}) for name in LOSSES}
    found["- identity loss"] = {"networks": replace(look, identity=None)}
    found["- parsing loss"] = {"networks": replace(look, parser=None)}
    found["- warm start (all channels from 0)"] = {"start": torch.zeros(len(case), len(case.pack.channels))}
    found["- descent (the warm start alone)"] = less(iterations=0)
    found["- early stopping"] = less(enough=0.0)
    found["- smoothing"] = less(smooth=0.0)
    found["- ridge"] = less(ridge=0.0)
    found["- skipping gaze at blinks"] = {"blink": torch.zeros(len(case), dtype=torch.bool)}
    found["- runs (a preconditioner for each frame)"] = less(run=1)
    found["- stage 4 (measured angles)"] = {"found": measured}
    found["- stage 4's smoothing and prior"] = {"pose": PoseOptions(smooth=0.0, prior=0.0)}
    found["channels chosen for the clip"] = {
        "channels": clip_channels(case.generator, case.w_plus, posed, case.areas, case.pack.flow.pose.rows)
    }
    found["the reference (paper's form)"] = {"name": "reference"}
    return [(name, arguments) for name, arguments in found.items() if not only or name in only or name == "everything"]


def row(case: Case, wanted: torch.Tensor, seen: Any, result: Fit, channels: Any, every: int) -> dict[str, float]:
    """The figures of one variant."""
    r = correlations(seen, faces(result.frames, every))
    avatar = case.avatar(channels)
    scale, areas = avatar.scale, case.areas.part(slice(None))
    encoder = warm_start(avatar, case.w_plus, result.pose.angles) / scale
    return {
        "psnr": float(psnr(result.frames, wanted).mean()),
        "mouth": float(face_psnr(result.frames, wanted, areas.mouth).mean()),
        "eyes": float(face_psnr(result.frames, wanted, areas.eyes).mean()),
        "r mouth": r["mouth_open"], "r eye": r["eye_open"], "r brow": r["brow"], "r gaze": r["gaze"],
        "jitter angles": jitter(result.pose.angles, case.measured),
        "jitter channels": jitter(result.attributes.alpha / scale, encoder),
        "s/frame": sum(result.seconds.values()) / len(case),
    }  # fmt: skip


def run(case: Case, only: set[str], every: int, reference: bool = True) -> dict[str, dict[str, float]]:
    """All variants of one case, printed as they come."""
    wanted = targets(case)
    seen = faces(wanted, every)
    print(f"\n{case.name}, {len(case)} frames, {int(case.blink.sum())} of them blinking\n")
    print("| | " + " | ".join(COLUMNS) + " |\n|" + " --- |" * (len(COLUMNS) + 1), flush=True)
    rows: dict[str, dict[str, float]] = {}
    pose: HeadPose | None = None
    for name, arguments in variants(case, only):
        if arguments.get("name") == "reference" and not reference:
            continue
        own = "pose" in arguments or "found" in arguments or "name" in arguments
        result = fit(case, **arguments) if own or pose is None else fit(case, found=pose, **arguments)
        if pose is None:
            pose, shared = result.pose, result.seconds["pose"]
        elif not own:
            result.seconds["pose"] = shared
        rows[name] = row(case, wanted, seen, result, arguments.get("channels", case.pack.channels), every)
        figures = [f"{rows[name][c]:.3f}" if c[:2] in ("r ", "s/", "ji") else f"{rows[name][c]:.2f}" for c in COLUMNS]
        print(f"| {name} | " + " | ".join(figures) + " |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--aligned", nargs="*", default=[])
    parser.add_argument("--panel", nargs="*", default=[])
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--every", type=int, default=1, help="measure the face in every n-th frame")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--no-reference", action="store_true", help="leave out the paper's form, which takes minutes")
    parser.add_argument("--only", nargs="*", default=[], help="these variants only")
    parser.add_argument("--pack", default="mini")
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    results = {}
    named = [(c, False, False) for c in args.clips] + [(c, True, False) for c in args.aligned]
    for text, aligned, square in named + [(c, True, True) for c in args.panel]:
        name, _, start = text.partition("@")
        path, begin = Path(name), float(start or 0)
        seconds = max(2.0, args.frames / 20)
        if square:
            path, begin = (
                panel(path, 0, Path(f"runs/cases/panel0-{path.stem}-{begin:g}-{seconds:g}.mkv"), begin, seconds),
                0,
            )
        case = prepare(path, pack_name=args.pack, start=begin, duration=seconds, aligned=aligned, tuned=args.tuned)
        results[text] = run(shorter(case, args.frames), set(args.only), args.every, not args.no_reference)
    if args.out:
        write_text(args.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
