"""The ways to solve stages 4 and 5: Gauss-Newton, which is ours, and Adam, the paper's plain form. The options say which."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mien.errors import InputError
from mien.face.masks import Masks
from mien.method.avatar import Avatar
from mien.method.image_sequences import ImageSequence
from mien.method.landmark_targets import Reading
from mien.method.losses import LossNetworks
from mien.method.solvers.adam_reference import (
    AdamAttributeOptions,
    AdamPoseOptions,
    fit_attributes_reference,
    fit_pose_reference,
)
from mien.method.stage4_pose import PoseOptions, fit_pose
from mien.method.stage5_attributes import AttributeOptions, fit_attributes
from mien.method.types import Attributes, HeadPose
from mien.nets.perceptual import PerceptualNetwork
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
    avatar: Avatar,
    perceptual: PerceptualNetwork,
    targets: ImageSequence,
    measured: Tensor,
    regions: Masks,
    options: PoseOptions | AdamPoseOptions,
    reading: Reading | None = None,
    *,
    monitor: StageMonitor = UNWATCHED,
) -> HeadPose:
    """Stage 4, see `mien.method.stage4_pose.fit_pose`."""
    if isinstance(options, AdamPoseOptions):
        return fit_pose_reference(avatar, perceptual, targets, measured, regions, options, reading, monitor=monitor)
    return fit_pose(avatar, perceptual, targets, measured, regions, options, reading, monitor=monitor)


def solve_attributes(
    avatar: Avatar,
    networks: LossNetworks,
    angles: Tensor,
    targets: ImageSequence,
    regions: Masks,
    start: Tensor,
    blink: Tensor,
    identity_image: Tensor,
    options: AttributeOptions | AdamAttributeOptions,
    reading: Reading | None = None,
    *,
    monitor: StageMonitor = UNWATCHED,
) -> Attributes:
    """Stage 5, see `mien.method.stage5_attributes.fit_attributes`."""
    if isinstance(options, AdamAttributeOptions):
        return fit_attributes_reference(
            avatar, networks, angles, targets, regions, start, blink, identity_image, options, reading, monitor=monitor
        )
    return fit_attributes(
        avatar, networks, angles, targets, regions, start, blink, identity_image, options, reading, monitor=monitor
    )
