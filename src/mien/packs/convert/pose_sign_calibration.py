"""Signs of yaw and pitch of an official flow, measured: random people are turned, rendered and looked at.

StyleFlow was trained on angles of a face service whose signs its authors do not state. `mien`'s are fixed (yaw positive
to the viewer's right, pitch positive up), and a fit that starts in the wrong direction may not find back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.nets.generator import Generator

ANGLE = 10.0  # degrees, to either side
PEOPLE = 6
TRUNCATION = 0.6  # of their latents: usual faces, which the mesh finds
LEAST_PEOPLE = 3  # fewer measured faces than this say nothing
LEAST_SLOPE = 0.2  # measured degrees per asked degree; less is noise
SMALLEST = 128  # pixels; smaller renders are not looked at

Angles = tuple[float, float] | None
Turn = Callable[[Tensor, Tensor, Tensor], Tensor]
Look = Callable[[Tensor], list[Angles]]


def measured_angles(generator: Generator) -> Look:
    """A function from latents `[N, L, D]` to the yaw and pitch of their renders in degrees, None without a face."""
    from mien.face.mesh import FaceMesh, head_pose
    from mien.media.images import to_bytes

    mesh = FaceMesh()

    def look(w_plus: Tensor) -> list[Angles]:
        angles: list[Angles] = []
        for latent in w_plus:
            image = generator.synthesis(latent[None])
            if image.shape[-1] > 512:
                image = F.interpolate(image, (512, 512), mode="area")
            faces = mesh(to_bytes(image)[0])
            pose = head_pose(faces[0]) if faces else None
            angles.append((pose.yaw, pose.pitch) if pose else None)
        return angles

    return look


@torch.no_grad()
def pose_signs(flow: Turn, people: Tensor, look: Look) -> tuple[float | None, float | None]:
    """Whether the flow's yaw and pitch grow with ours, +1, or against them, -1; each on its own evidence, None without.

    `flow(w_plus, now, wished)`: as `HeadPoseFlow`; `people [N, L, D]`: latents; `look`: as from `measured_angles`.
    """
    shown = [latent for latent, angles in zip(people, look(people), strict=True) if angles is not None]
    slopes: tuple[list[float], list[float]] = ([], [])
    for latent in shown:
        for axis in range(2):
            wished = torch.zeros(2, 2)
            wished[:, axis] = torch.tensor([-ANGLE, ANGLE])
            before, after = look(flow(latent.expand(2, -1, -1), torch.zeros(2, 2), wished))
            if before is not None and after is not None:
                slopes[axis].append((after[axis] - before[axis]) / (2 * ANGLE))
    return _sign(slopes[0]), _sign(slopes[1])


def _sign(slopes: list[float]) -> float | None:
    """Sign of the median slope, in measured degrees per asked degree; None of too few people or a slope within
    noise."""
    if len(slopes) < LEAST_PEOPLE or abs(np.median(slopes)) < LEAST_SLOPE:
        return None
    return float(np.sign(np.median(slopes)))
