"""The ways to solve stages 4 and 5: Gauss-Newton, which is ours, and Adam, the paper's plain form. The options say
which."""

from __future__ import annotations

from dataclasses import dataclass

from mien.errors import InputError
from mien.method.problems import AttributeProblem, PoseProblem
from mien.method.solvers.adam_reference import (
    AdamAttributeOptions,
    AdamPoseOptions,
    fit_attributes_reference,
    fit_pose_reference,
)
from mien.method.stage4_pose import PoseOptions, fit_pose
from mien.method.stage5_attributes import AttributeOptions, fit_attributes, starting_point
from mien.method.thinning import Thinning
from mien.method.types import Attributes, HeadPose
from mien.runtime.monitor import UNWATCHED, StageMonitor


@dataclass(frozen=True)
class Solver:
    """A way to solve both stages, as options of each."""

    pose: PoseOptions | AdamPoseOptions
    attributes: AttributeOptions | AdamAttributeOptions


SOLVERS = {
    "gauss-newton": lambda: Solver(PoseOptions(), AttributeOptions()),
    "reference": lambda: Solver(AdamPoseOptions(), AdamAttributeOptions()),
}


def solver_named(name: str) -> Solver:
    """The solver of that name with its usual options; raises InputError."""
    if name not in SOLVERS:
        raise InputError(f"there is no optimizer {name!r}: take {' or '.join(SOLVERS)}.")
    return SOLVERS[name]()


def solve_pose(
    problem: PoseProblem, options: PoseOptions | AdamPoseOptions, *, monitor: StageMonitor = UNWATCHED
) -> HeadPose:
    """Stage 4, by the solver whose options they are."""
    if isinstance(options, AdamPoseOptions):
        return fit_pose_reference(problem, options, monitor=monitor)
    if options.every == 1:
        return fit_pose(problem, options, monitor=monitor)
    thinning = Thinning.every(options.every, len(problem.measured), problem.measured.device)
    some = fit_pose(thinning.pose(problem), options, monitor=monitor)
    monitor.tick(thinning.count - len(thinning.chosen))
    flow = problem.avatar.flow
    start = flow.clamp(problem.measured.float())
    angles = flow.clamp(start + thinning.spread(some.angles - start[thinning.chosen]))
    return HeadPose(angles.half().float(), thinning.spread(some.loss), thinning.spread(some.initial_loss))


def solve_attributes(
    problem: AttributeProblem, options: AttributeOptions | AdamAttributeOptions, *, monitor: StageMonitor = UNWATCHED
) -> Attributes:
    """Stage 5, by the solver whose options they are."""
    if isinstance(options, AdamAttributeOptions):
        return fit_attributes_reference(problem, options, monitor=monitor)
    if options.every == 1:
        return fit_attributes(problem, options, monitor=monitor)
    thinning = Thinning.every(options.every, len(problem.start), problem.start.device)
    some = fit_attributes(thinning.attributes(problem), options, monitor=monitor)
    monitor.tick(thinning.count - len(thinning.chosen))
    start = starting_point(problem, options)
    alpha = start + thinning.spread(some.alpha - start[thinning.chosen])
    return Attributes(alpha.half().float(), thinning.spread(some.loss), thinning.spread(some.initial_loss))
