"""Identity networks that others trained: faces of 112x112 to unit vectors of 512 numbers.

ArcFace (Deng et al. 2019) on IR-SE50, which the paper's L_ID is taken with, and CurricularFace (Huang et al. 2020) on
IR-101, a judge that no loss of ours has seen.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets import irse

INPUT_SIZE = 112


class ArcFace(nn.Module):
    """Identity vectors of FFHQ-framed faces. The cosine of two of them says how alike two people are."""

    def __init__(self, units: irse.Units = irse.UNITS, squeeze: bool = True, affine: bool = True) -> None:
        """`units`: width and number of units of the trunk's groups; `affine`: whether the last normalisation has a
        weight and a bias, which IR-101's has not."""
        super().__init__()
        self.units = units
        width = units[-1][0]
        self.input_layer = irse.input_layer(3, units[0][0])
        self.body = irse.body(units, squeeze)
        # Indices follow the official checkpoint, where 1 and 2 are dropout and flatten.
        self.output_layer = nn.ModuleDict(
            {
                "0": nn.BatchNorm2d(width),
                "3": nn.Linear(width * 7 * 7, 512),
                "4": nn.BatchNorm1d(512, affine=affine),
            }
        )

    def embed(self, face: Tensor) -> Tensor:
        """Faces `[N, 3, 112, 112]` in [-1, 1], framed as ArcFace was trained -> `[N, 512]` of length 1."""
        x = self.output_layer["0"](self.body(self.input_layer(face)))
        return F.normalize(self.output_layer["4"](self.output_layer["3"](x.flatten(1))), dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """FFHQ-framed images `[N, 3, H, W]` in [-1, 1], any square size -> `[N, 512]` of length 1.

        The cut is the one that e4e's identity loss uses: of 256 pixels, rows 35 to 223 and columns 32 to 220.
        """
        if image.shape[-1] > 256:
            image = F.interpolate(image, (256, 256), mode="area")
        elif image.shape[-1] < 256:
            image = F.interpolate(image, (256, 256), mode="bilinear", align_corners=False)
        return self.embed(F.adaptive_avg_pool2d(image[:, :, 35:223, 32:220], INPUT_SIZE))


class CurricularFace(ArcFace):
    """As `ArcFace`, by the network of `CurricularFace_Backbone.pth`."""

    def __init__(self, units: irse.Units = irse.UNITS_101) -> None:
        super().__init__(units, squeeze=False, affine=False)
