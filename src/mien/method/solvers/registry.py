"""The ways to solve stages 4 and 5: `gauss-newton`, which is ours, and `reference`, the paper's plain form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mien.errors import InputError
from mien.method.gauss_newton import DescentOptions
from mien.method.solvers.adam_reference import fit_attributes_reference, fit_pose_reference
from mien.method.stage4_pose import PoseOptions, fit_pose
from mien.method.stage5_attributes import fit_attributes
from mien.method.types import Attributes, HeadPose


@dataclass(frozen=True)
class Optimizer:
    """`pose` is called as `method.stage4_pose.fit_pose`, `attributes` as `method.stage5_attributes.fit_attributes`; `pose_to_refine`,
    `attributes_to_refine` likewise where `personalize.joint_refinement.refine` and the polish follow, which move the same numbers on: what more
    iterations against S_t gained there was lost again (research/speed.md).
    `refits`: whether a re-fit of each frame to I_t (`mien.personalize.refit`) ends a tuned encode; the paper has none."""

    name: str
    pose: Callable[..., HeadPose]
    attributes: Callable[..., Attributes]
    pose_to_refine: Callable[..., HeadPose]
    attributes_to_refine: Callable[..., Attributes]
    refits: bool


OPTIMIZERS = {
    "gauss-newton": Optimizer(
        "gauss-newton",
        fit_pose,
        fit_attributes,
        partial(fit_pose, options=PoseOptions(iterations=1)),
        partial(fit_attributes, options=DescentOptions(iterations=1)),
        True,
    ),
    "reference": Optimizer(
        "reference",
        fit_pose_reference,
        fit_attributes_reference,
        fit_pose_reference,
        fit_attributes_reference,
        False,
    ),
}


def optimizer(name: str) -> Optimizer:
    """The optimizer of that name; raises InputError."""
    if name not in OPTIMIZERS:
        raise InputError(f"there is no optimizer {name!r}: take {' or '.join(OPTIMIZERS)}.")
    return OPTIMIZERS[name]
