"""Styles of one person at any angles, from a table: what the flow and the affine layers take a fifth of a frame's time
for.

A(flow(L_ID, Y, P)) is smooth in the two angles, so it is computed once on a grid, and between its nodes by Catmull-Rom
splines (cubic convolution, Keys 1981).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.method.avatar import Avatar

STEP = 5.0  # degrees from node to node
_BATCH = 16


class StyleTable:
    """`table(angles, alpha)` is `avatar.styles` of one frame, by interpolation; angles within the flow's limit."""

    @torch.no_grad()
    def __init__(self, avatar: Avatar) -> None:
        limit = avatar.flow.pose.limit
        self._least, self._nodes = -limit, max(int(np.ceil(2 * limit / STEP)) + 1, 4)
        self._step = 2 * limit / (self._nodes - 1)
        line = torch.linspace(-limit, limit, self._nodes)
        angles = torch.cartesian_prod(line, line).to(avatar.identity)
        none = angles.new_zeros(_BATCH, len(avatar.channels))
        parts = [avatar.styles(a, none[: len(a)]) for a in angles.split(_BATCH)]
        self._widths = [style.shape[1] for style in parts[0]]
        flat = torch.cat([torch.cat(styles, 1) for styles in parts]).float().cpu().numpy()
        self._table: NDArray[np.float32] = flat.reshape(self._nodes, self._nodes, -1)
        begin = np.concatenate([[0], np.cumsum(self._widths)])
        self._places = np.array([begin[c.layer] + c.index for c in avatar.channels])
        self._device = avatar.identity.device

    def __call__(self, angles: NDArray[np.floating], alpha: NDArray[np.floating]) -> list[Tensor]:
        """Styles `[1, C_l]` of a frame, on the identity's device: `angles [2]` (yaw, pitch in degrees), `alpha [C]`."""
        (yaw, at_yaw), (pitch, at_pitch) = (self._weights(float(a)) for a in angles)
        near = self._table[at_yaw : at_yaw + 4, at_pitch : at_pitch + 4].reshape(16, -1)
        flat = np.outer(yaw, pitch).ravel().astype(np.float32) @ near
        np.add.at(flat, self._places, alpha.astype(np.float32))
        return list(torch.from_numpy(flat)[None].to(self._device).split(self._widths, 1))

    def _weights(self, angle: float) -> tuple[NDArray[np.float64], int]:
        """Weights of four nodes, and the first of them. Between the outermost two nodes it is the cubic through
        the four at the border."""
        place = min(max((angle - self._least) / self._step, 0.0), self._nodes - 1.0)
        first = min(max(int(place) - 1, 0), self._nodes - 4)
        t = place - first - 1
        if 0 <= t <= 1:
            return np.array(
                [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
            ) / 2, first
        x = t + 1  # outside the two middle nodes: the cubic through all four
        return np.array([-(x - 1) * (x - 2) * (x - 3) / 6, x * (x - 2) * (x - 3) / 2, -x * (x - 1) * (x - 3) / 2,
                         x * (x - 1) * (x - 2) / 6]), first  # fmt: skip
