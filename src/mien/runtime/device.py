"""Which device the work is done on."""

from __future__ import annotations

import torch

from mien.errors import InputError


def resolve_device(device: str) -> torch.device:
    """`auto` takes a CUDA device where there is one. Raises InputError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {device!r} is not available here") from error
    return chosen
