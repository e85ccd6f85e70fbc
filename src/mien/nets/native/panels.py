"""Weight matrices as the compiled products read them: in panels of 16 outputs, as floats or in 16 bits."""

from __future__ import annotations

import torch
from torch import Tensor

COLUMNS = 16  # outputs of a panel
INT16_FROM = 64  # channels; with fewer, quantising takes as long as products in 16 bits save
WEIGHT_NORM = 65_000  # of an output's quantised weights; times that of what they meet (int16.h) it is below 2^31


def panels(weight: Tensor) -> Tensor:
    """A product's weights `[O, C]`, O a multiple of 16, in panels: `[O / 16, C, 16]`, float32."""
    outputs, channels = weight.shape
    return weight.float().reshape(outputs // COLUMNS, COLUMNS, channels).transpose(1, 2).contiguous()


def quantised_panels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The same in 16 bits, `[O / 16, C / 2, 16, 2]`, and what an output's numbers are to be multiplied by, `[O]`."""
    outputs, channels = weight.shape
    scale = torch.maximum(weight.norm(dim=1) / WEIGHT_NORM, weight.abs().amax(1) / 32_767).clamp_min(1e-20)
    whole = (weight / scale[:, None]).round().to(torch.int16)
    packed = whole.view(outputs // COLUMNS, COLUMNS, channels // 2, 2).transpose(1, 2).contiguous()
    return packed, scale.float().contiguous()
