"""LibreFace (Chang et al. 2024), trained on DISFA: a face to the intensities of twelve action units.

ResNet-18 and two linear layers. Names of tensors are those of its `resnet.pt`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets import resnet

SIZE, INSIDE = 256, 224  # of the FFHQ crop, and of its middle that the network sees
UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)  # of FACS, in the order of the outputs


class LibreFace(nn.Module):
    """FFHQ-framed images `[N, 3, H, W]` in [-1, 1] -> intensities `[N, 12]` of `UNITS`, 0 to 5."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*resnet.layers(resnet.Basic, (2, 2, 2, 2)))
        # 3 is a dropout in the checkpoint, and 5 the sigmoid.
        self.classifier = nn.ModuleDict({"0": nn.Linear(512, 128), "2": nn.BatchNorm1d(128), "4": nn.Linear(128, 12)})

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
        edge = (SIZE - INSIDE) // 2
        x = self.encoder(resnet.normalise(x[:, :, edge:-edge, edge:-edge])).mean((2, 3))
        x = self.classifier["2"](self.classifier["0"](x).relu())
        return 5 * self.classifier["4"](x).sigmoid()
