"""The paper's Table 3: mean head-pose loss (Eq. 2) of stage 4, and of the flow set directly to measured angles.

    python benchmarks/pose_against_measured.py CLIP CLIP CLIP CLIP CLIP [--frames 50] [--reference]

The loss is `method.stage4_pose.PoseObjective`'s: L2 over the rigid face plus the perceptual distance over the face,
without the terms that hold an angle near its neighbours. Times 1000. Ours must be the lower one on every clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cases import jitter, prepare, shorter

from mien.method.image_sequences import synthesise
from mien.method.problems import PoseProblem
from mien.method.solvers.registry import solve_pose, solver_named
from mien.nets.decoder.renderer import Renderer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--reference", action="store_true", help="the plain form too")
    parser.add_argument("--pack", default="mini")
    args = parser.parse_args()
    names = ["gauss-newton", *(["reference"] if args.reference else [])]
    print("| clip | measured | " + " | ".join(f"{n} | moved, degrees | jitter" for n in names) + " |")
    print("|" + " --- |" * (2 + 3 * len(names)))
    for path in args.clips:
        case = prepare(path, pack_name=args.pack, tuned=args.tuned, duration=max(2.0, args.frames / 20))
        case = shorter(case, args.frames)
        target = synthesise(Renderer(case.generator), case.w_plus, min(64, case.generator.resolution))
        cells, before = [], 0.0
        for name in names:
            problem = PoseProblem(case.avatar(), case.pack.perceptual, target, case.measured, case.areas)
            pose = solve_pose(problem, solver_named(name).pose)
            before = float(pose.initial_loss.mean()) * 1000
            cells += [f"{pose.loss.mean() * 1000:.2f}", f"{(pose.angles - case.measured).abs().mean():.2f}",
                      f"{jitter(pose.angles, case.measured):.2f}"]  # fmt: skip
        print(f"| {case.name} | {before:.2f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
