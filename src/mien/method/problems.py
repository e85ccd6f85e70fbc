"""What stages 4 and 5 are asked to solve, whichever solver takes it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mien.face.masks import Masks
from mien.method.avatar import Avatar
from mien.method.image_sequences import ImageSequence
from mien.method.losses import LossNetworks
from mien.nets.perceptual import PerceptualNetwork


@dataclass(frozen=True)
class PoseProblem:
    """Eq. 2: the yaw and pitch of T frames.

    `targets [T, 3, R, R]`: S_t, at the size that is looked at; `measured [T, 2]`: the mesh's angles in degrees; `masks`
    of the frames.
    """

    avatar: Avatar
    perceptual: PerceptualNetwork
    targets: ImageSequence
    measured: Tensor
    masks: Masks


@dataclass(frozen=True)
class AttributeProblem:
    """Eq. 3: the channels alpha of T frames.

    `angles [T, 2]`: of stage 4, in degrees; `targets [T, 3, R, R]`: S_t (or I_t, the paper's ablation), at the size
    that is looked at; `masks` of the frames; `start [T, C]`: alpha read off A(L_t); `blink [T]` bool: frames whose gaze
    channels are left alone (Sec. 3.4); `identity_image [1, 3, R, R]`: the identity frame, for L_ID.
    """

    avatar: Avatar
    networks: LossNetworks
    angles: Tensor
    targets: ImageSequence
    masks: Masks
    start: Tensor
    blink: Tensor
    identity_image: Tensor
