"""The 32 expression channels V of a trained pack, and the part of a face that each attribute may change.

V is assigned before training, which gives the channels their meaning; it is not chosen by Eq. 5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# The channels that pairs and swaps work on: StyleSpace layer -> how many for (mouth and jaw, eyes, brows, gaze).
# Layers 6, 8, 9, 11 are 16x16/Conv1 to 64x64/Conv0_up: where expressions are shapes rather than textures.
ATTRIBUTES = ("mouth", "eyes", "brows", "gaze")
EXPRESSION: dict[int, tuple[int, int, int, int]] = {6: (4, 0, 2, 0), 8: (5, 2, 2, 1), 9: (4, 2, 2, 1), 11: (3, 2, 0, 2)}
PARTS = {"mouth": (0, 1, 2), "eyes": (3, 4), "brows": (5, 6), "gaze": (7,)}  # of `expression_measures`
_LABELS = {"eyes": (3, 4), "gaze": (3, 4), "brows": (2,)}


def expression_channels() -> list[tuple[int, int, str]]:
    """(layer, index, attribute) of the 32 expression channels."""
    channels = []
    for layer, counts in EXPRESSION.items():
        index = 0
        for attribute, count in zip(ATTRIBUTES, counts, strict=True):
            channels += [(layer, index + i, attribute) for i in range(count)]
            index += count
    return channels


def swap_channels(styles: list[Tensor], others: list[Tensor], chosen: Tensor) -> list[Tensor]:
    """Replace the expression channels by those of `others` where `chosen [N, 4]`, by attribute, is true."""
    out = list(styles)
    for layer, counts in EXPRESSION.items():
        take = chosen.repeat_interleave(torch.tensor(counts, device=chosen.device), dim=1)
        head = torch.where(take, others[layer][:, : sum(counts)], styles[layer][:, : sum(counts)])
        out[layer] = torch.cat([head, styles[layer][:, sum(counts) :]], dim=1)
    return out


def _blur(mask: Tensor, radius: int) -> Tensor:
    """Dilate by `radius` and soften, `[N, 1, h, w]`."""
    size = 2 * radius + 1
    return F.avg_pool2d(F.max_pool2d(mask, size, 1, radius), size, 1, radius, count_include_pad=False)


def attribute_masks(label: Tensor) -> Tensor:
    """Masks of what each attribute may change, soft `[N, 4, 64, 64]`, from labels `[N, 128, 128]`.

    The mouth's mask is the face below the nose, since the jaw moves cheeks and chin too.
    """
    small = label[:, ::2, ::2]
    masks = []
    lips = ((small == 6) | (small == 7)).float()
    top = torch.where(lips.any(2).any(1), lips.any(2).float().argmax(1), torch.full_like(small[:, 0, 0], 64)).view(
        -1, 1, 1
    )
    below = (torch.arange(64, device=label.device).view(1, 64, 1) >= top - 2) & (small > 0)
    masks.append(_blur((below | (lips > 0)).float()[:, None], 4))
    for name in ATTRIBUTES[1:]:
        mask = torch.stack([small == i for i in _LABELS[name]]).any(0).float()[:, None]
        masks.append(_blur(mask, {"eyes": 3, "gaze": 2, "brows": 4}[name]))
    return torch.cat(masks, dim=1)
