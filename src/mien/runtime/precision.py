"""Where a result is a fit and not a render, convolutions may run in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def autocast_bf16(device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where the device computes in it natively (2 to 3 times faster), else nothing."""
    native = device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
