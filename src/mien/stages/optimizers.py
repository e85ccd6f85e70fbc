"""The ways to solve stages 4 and 5: `gauss-newton`, which is ours, and `reference`, the paper's plain form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mien.errors import InputError
from mien.stages.attributes import Attributes, fit_attributes
from mien.stages.descent import DescentOptions
from mien.stages.polish import Polished, polish
from mien.stages.pose import Pose, fit_pose
from mien.stages.reference import fit_attributes_reference, fit_pose_reference


@dataclass(frozen=True)
class Optimizer:
    """`pose` is called as `stages.pose.fit_pose`, `attributes` as `stages.attributes.fit_attributes`, `attributes_to_refine`
    likewise where `stages.tune.refine` follows, which moves the same numbers on: there the last percent need not be had.
    `polish`: what ends a tuned encode, as `stages.polish.polish`; None for nothing, as in the paper."""

    name: str
    pose: Callable[..., Pose]
    attributes: Callable[..., Attributes]
    attributes_to_refine: Callable[..., Attributes]
    polish: Callable[..., Polished] | None


OPTIMIZERS = {
    "gauss-newton": Optimizer(
        "gauss-newton",
        fit_pose,
        fit_attributes,
        partial(fit_attributes, options=DescentOptions(iterations=4, enough=0.03)),
        polish,
    ),
    "reference": Optimizer("reference", fit_pose_reference, fit_attributes_reference, fit_attributes_reference, None),
}


def optimizer(name: str) -> Optimizer:
    """The optimizer of that name; raises InputError."""
    if name not in OPTIMIZERS:
        raise InputError(f"there is no optimizer {name!r}: take {' or '.join(OPTIMIZERS)}.")
    return OPTIMIZERS[name]
