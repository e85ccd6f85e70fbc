"""The embedded pack's identity network: a small convolutional embedding, trained to tell people apart.

It stands where ArcFace stands in the paper (Eq. 1, L_ID). It is not ArcFace and is never reported under that name.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE = 64
CROP = (0.12, 0.94, 0.14, 0.86)  # top, bottom, left, right of the FFHQ crop: the face, without most of the background


class IdentityNet(nn.Module):
    """Images `[N, 3, H, W]` in [-1, 1] -> unit vectors `[N, dim]`; cosine similarity tells who is who."""

    def __init__(self, width: int = 32, dim: int = 128) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 6 * width)
        self.stem = nn.Conv2d(3, widths[0], 3, stride=2, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.mix = nn.ModuleList(nn.Conv2d(b, b, 3, padding=1) for b in widths[1:])
        self.norms = nn.ModuleList(nn.GroupNorm(8, b) for b in widths[1:])
        self.out = nn.Linear(widths[-1] * 16, dim)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        top, bottom, left, right = (round(c * s) for c, s in zip(CROP, (height, height, width, width)))
        x = F.interpolate(image[:, :, top:bottom, left:right], (INPUT_SIZE, INPUT_SIZE), mode="area")
        x = x - x.mean((2, 3), keepdim=True)  # the colour of the light is not the person
        x = x / x.flatten(1).std(1).clamp_min(1e-2)[:, None, None, None]
        x = F.leaky_relu(self.stem(x), 0.1)
        for down, mix, norm in zip(self.down, self.mix, self.norms, strict=True):
            x = norm(F.leaky_relu(down(x), 0.1))
            x = F.leaky_relu(x + mix(x), 0.1)
        return F.normalize(self.out(x.flatten(1)).float(), dim=1)
