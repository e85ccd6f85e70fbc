"""The order in which the compiled products read a weight matrix."""

from __future__ import annotations

from torch import Tensor

COLUMNS = 16  # outputs of a panel


def panels(weight: Tensor) -> Tensor:
    """A product's weights `[O, C]`, O a multiple of 16, in panels: `[O / 16, C, 16]`, float32."""
    outputs, channels = weight.shape
    return weight.float().reshape(outputs // COLUMNS, COLUMNS, channels).transpose(1, 2).contiguous()
