"""Whether the driver is the person whose face is shown, so that the face's own rest is the driver's too."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mien.face.mesh import rigid_quad, warp_crop
from mien.media.images import to_float
from mien.method.shots import SIZE
from mien.packs.pack import Pack

# Cosine similarity by `mini`'s identity network, of a frame and a tuned render: 0.80 to 0.99 for one person (six), at most
# 0.59 for two (47 pairs), 0.74 for one pair.
SAME = 0.76


class PersonCheck:
    """`check(frame, mesh)` says whether a frame uint8 RGB `[H, W, 3]` with a mesh `[478, 3]` in its pixels shows the person of
    `picture`, a face crop uint8 RGB `[R, R, 3]` in FFHQ framing."""

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        self._network = Pack.load("mini").identity
        self._known = self._embedding(picture)

    def __call__(self, frame: NDArray[np.uint8], mesh: NDArray[np.floating]) -> bool:
        seen = self._embedding(warp_crop(frame, rigid_quad(mesh.astype(np.float64)), SIZE))
        return float(seen @ self._known) > SAME

    @torch.no_grad()
    def _embedding(self, crop: NDArray[np.uint8]) -> torch.Tensor:
        device = next(self._network.parameters()).device  # an encode in this process may have moved the network
        return torch.nn.functional.normalize(self._network(to_float(crop[None], device=device)), dim=1)[0].cpu()
