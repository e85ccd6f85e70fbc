"""Stage 3: the identity latent (the paper, Eq. 1 and Sec. 3.1).

L_ID is the inversion most like the real face, among near-frontal frames. What travels is L_ID turned to face the
camera by the flow (yaw = pitch = 0), in half floats: then the two angles of a frame are the head's own, and turning
back to the angles of the chosen frame returns that frame's latent.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.method.types import FaceTrack, Identity, Inversion
from mien.nets.styleflow import HeadPoseFlow

NEAR_FRONTAL = 10.0  # degrees; the paper's supplement has the number, this one is ours
BATCH = 32
SMALLEST_SHARE = 0.2  # where fewer frames than this are near frontal, the most frontal fifth is looked at


def near_frontal(angles: NDArray[np.floating]) -> NDArray[np.int64]:
    """Indices of the frames of `angles [T, 2]` (degrees) that qualify as near frontal."""
    turn = np.hypot(angles[:, 0], angles[:, 1])
    chosen = np.flatnonzero(turn < NEAR_FRONTAL)
    least = max(1, int(np.ceil(SMALLEST_SHARE * len(angles))))
    return chosen if len(chosen) >= least else np.sort(np.argsort(turn, kind="stable")[:least])


@torch.no_grad()
def similarities(network: nn.Module, real: Tensor, synthesised: Tensor) -> Tensor:
    """Cosine similarity `[N]` of images `[N, 3, H, W]` under an identity network."""
    return F.cosine_similarity(network(real), network(synthesised), dim=1)


def select_identity(
    network: nn.Module, flow: HeadPoseFlow, faces: FaceTrack, inversion: Inversion, size: int
) -> Identity:
    """Eq. 1: argmax over near-frontal frames of the similarity between I_t and S_t = G(L_t), compared at `size` pixels.

    Frames with shut eyes, or that do not show the face, are left out unless there are no others.
    """
    measured = faces.angles(flow)
    angles = measured.cpu().numpy()
    allowed = next((f for f in (faces.usable, ~faces.lost) if f.any()), np.ones(len(faces), bool))
    shown = np.flatnonzero(allowed)
    candidates = shown[near_frontal(angles[shown])]
    size = min(size, inversion.generator.resolution)
    real, synthesised = faces.images(size, measured.device), inversion.images(size)
    parts = torch.from_numpy(candidates).split(BATCH)
    similarity = torch.cat([similarities(network, real[part], synthesised[part]) for part in parts])
    best = int(similarity.argmax())
    chosen = int(candidates[best])
    return Identity(chosen, float(similarity[best]), frontal(flow, inversion.w_plus[chosen], angles[chosen]))


@torch.no_grad()
def frontal(flow: HeadPoseFlow, w_plus: Tensor, angles: NDArray[np.floating]) -> Tensor:
    """A latent `[L, D]` seen at `angles [2]`, turned to face the camera and rounded as it travels (half floats)."""
    now = flow.clamp(torch.as_tensor(np.asarray(angles), dtype=w_plus.dtype, device=w_plus.device)[None])
    turned = flow(w_plus[None], now, torch.zeros_like(now))[0]
    return turned.half().float()
