"""Stages 4 and 5: ours beside the paper's plain form, at what loss and at what price.

    python benchmarks/fit_speed.py CLIP ... [--frames 50] [--tuned] [--no-reference]

For each clip and optimiser: Eq. 2's mean loss at the measured angles (StyleFlow set directly, the paper's Table 3) and
as fitted; Eq. 9's mean loss (the paper's terms with this project's weights, the same sum for both); PSNR against S_t; r of
mouth opening, eye opening, brow height and gaze against S_t; process seconds a frame of stages 4 and 5.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from cases import Case, Fit, correlations, faces, fit, prepare, psnr, shorter, targets

from mien.method.image_sequences import synthesise
from mien.method.losses import AttributeObjective, AttributeWeights, identity_loss, parsing_loss
from mien.nets.decoder.renderer import Renderer


@torch.no_grad()
def attribute_loss(case: Case, result: Fit, resolution: int = 128) -> float:
    """Eq. 9 of a solution, as the paper has it (no `face` term), a mean over frames; full renders averaged down."""
    size = min(resolution, case.generator.resolution)
    small = lambda x: F.interpolate(x, (size, size), mode="area") if x.shape[-1] != size else x
    wanted, made = small(synthesise(Renderer(case.generator), case.w_plus)), small(result.frames)
    weights, pack, total = AttributeWeights(face=0.0), case.pack, 0.0
    code = pack.identity(wanted[case.identity_frame : case.identity_frame + 1])
    for i in range(0, len(case), 16):
        part = slice(i, i + 16)
        objective = AttributeObjective(pack.perceptual, wanted[part], case.areas.part(part), weights)
        loss = objective.residual(made[part]).square().sum(1)
        loss += objective.inter_frame(made[part], slice(None), made[i - 1 : i] - wanted[i - 1 : i] if i else None)
        loss += weights.identity * identity_loss(pack.identity, made[part], code)
        labels = pack.parser(wanted[part])[0].argmax(1)
        loss += weights.parsing * parsing_loss(pack.parser, made[part], labels)
        total += float(loss.sum())
    return total / len(case)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--aligned", action="store_true")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--pack", default="mini")
    args = parser.parse_args()
    names = (
        "measured angles",
        "pose loss",
        "Eq. 9",
        "PSNR",
        "r mouth",
        "r eye",
        "r brow",
        "r gaze",
        "s/frame 4",
        "s/frame 5",
    )
    print("| clip | optimiser | " + " | ".join(names) + " |\n|" + " --- |" * (len(names) + 2))
    for path in args.clips:
        case = prepare(path, pack_name=args.pack, aligned=args.aligned, tuned=args.tuned,
                       duration=max(2.0, args.frames / 20))  # fmt: skip
        case = shorter(case, args.frames)
        wanted = targets(case)
        seen = faces(wanted)
        for name in ("gauss-newton",) if args.no_reference else ("gauss-newton", "reference"):
            result = fit(case, name=name)
            r = correlations(seen, faces(result.frames))
            print(f"| {case.name} | {name} | {result.pose.initial_loss.mean():.5f} | {result.pose.loss.mean():.5f} "
                  f"| {attribute_loss(case, result):.5f} | {psnr(result.frames, wanted).mean():.2f} "
                  f"| {r['mouth_open']:.3f} | {r['eye_open']:.3f} | {r['brow']:.3f} | {r['gaze']:.3f} "
                  f"| {result.seconds['pose'] / len(case):.3f} | {result.seconds['attributes'] / len(case):.3f} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
