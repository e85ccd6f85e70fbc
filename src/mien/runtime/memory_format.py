"""The order of a network's numbers in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def channels_last(network: M) -> M:
    """The network, its convolutions' weights laid out channels last, in place."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this one
