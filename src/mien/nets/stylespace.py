"""Channels of StyleSpace, and the table V of them that a pack or a stream carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ATTRIBUTES = ("mouth", "jaw", "eyes", "brows", "gaze")


@dataclass(frozen=True)
class Channel:
    """One of the 32 StyleSpace channels V: `layer` and `index` in StyleSpace, the attribute it serves, its natural
    unit `scale` (a standard deviation: over frames of many clips in `mini`, over people drawn at random in
    `ffhq-mobile` and in packs converted from official checkpoints) and its index sensitivities (Eq. 5): `sensitivity`
    over the attribute's mask and `elsewhere` over the whole face."""

    layer: int
    index: int
    attribute: str
    scale: float = 1.0
    sensitivity: float = 0.0
    elsewhere: float = 0.0


def channel_table(channels: tuple[Channel, ...]) -> np.ndarray:
    """The channels as int16 `[32, 2]` (layer, index), as a stream carries them."""
    return np.array([(c.layer, c.index) for c in channels], dtype=np.int16)


def read_channels(styles: Sequence[Tensor], channels: Sequence[Channel]) -> Tensor:
    """The values of the channels V in StyleSpace: styles `[N, C_l]` -> `[N, C]`."""
    return torch.stack([styles[c.layer][:, c.index] for c in channels], dim=1)


def add_channels(styles: Sequence[Tensor], channels: Sequence[Channel], alpha: Tensor) -> list[Tensor]:
    """Styles `[N, C_l]` with `alpha [N, C]` added on the channels V."""
    out = list(styles)
    by_layer: dict[int, list[int]] = {}
    for i, channel in enumerate(channels):
        by_layer.setdefault(channel.layer, []).append(i)
    for layer, places in by_layer.items():
        index = torch.tensor([channels[i].index for i in places], device=alpha.device)
        out[layer] = out[layer].index_add(1, index, alpha[:, places].to(out[layer].dtype))
    return out
