"""The decoder's way from an identity and 34 numbers to styles (the paper, Eq. 4 and 13)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.format.stream import Stream
from mien.nets.styleflow import HeadPoseFlow
from mien.nets.stylegan2 import Generator
from mien.nets.stylespace import Channel
from mien.packs.pack import Pack
from mien.packs.resolve import stream_channels


def channel_difference(pack: Pack, stream: Stream, identity: NDArray[np.floating]) -> NDArray[np.float32]:
    """What to add to the stream's channels so that on `identity [L, D]` they take the values they have on its own.

    Returns `[32]`, the channels' values in A(L_ID) of the stream less those in A(`identity`); 0 for channels outside
    the pack's V (`--channels clip`): only V was chosen, and in the embedded pack taught, to mean the same on everyone,
    so of the others the change from the driver's identity frame is taken over and not the value.
    """
    both = np.stack([np.asarray(stream.identity, np.float32), np.asarray(identity, np.float32)])
    with torch.no_grad():
        styles = pack.generator.styles(torch.from_numpy(both).to(pack.device))
        values = read_channels(styles, stream_channels(stream, pack)).cpu().numpy()
    own = {(c.layer, c.index) for c in pack.channels}
    common = np.array([(x, y) in own for x, y in np.asarray(stream.channels).tolist()])
    return (values[0] - values[1]) * common


def read_channels(styles: Sequence[Tensor], channels: Sequence[Channel]) -> Tensor:
    """The values of the channels V in StyleSpace, `[N, 32]`."""
    return torch.stack([styles[c.layer][:, c.index] for c in channels], dim=1)


def add_channels(styles: Sequence[Tensor], channels: Sequence[Channel], alpha: Tensor) -> list[Tensor]:
    """LH^ss + alpha on the channels V (the paper, Eq. 13): styles `[N, C_l]`, `alpha [N, 32]`."""
    out = list(styles)
    by_layer: dict[int, list[int]] = {}
    for i, channel in enumerate(channels):
        by_layer.setdefault(channel.layer, []).append(i)
    for layer, places in by_layer.items():
        index = torch.tensor([channels[i].index for i in places], device=alpha.device)
        out[layer] = out[layer].index_add(1, index, alpha[:, places].to(out[layer].dtype))
    return out


def driven_styles(
    generator: Generator,
    flow: HeadPoseFlow,
    channels: Sequence[Channel],
    identity: Tensor,
    angles: Tensor,
    alpha: Tensor,
) -> list[Tensor]:
    """A(flow(L_ID, Y_t, P_t)) + alpha_t on V (the paper, Eq. 13): `identity [L, D]`, `angles [N, 2]` in degrees,
    `alpha [N, 32]` -> styles `[N, C_l]`."""
    return add_channels(generator.styles(pose_latents(flow, identity, angles)), channels, alpha)


def pose_latents(flow: HeadPoseFlow, identity: Tensor, angles: Tensor) -> Tensor:
    """LH_t: the identity latent `[L, D]`, facing the camera, turned to `angles [N, 2]` (degrees): `[N, L, D]`."""
    prior = flow.prior(identity[None], angles.new_zeros(1, 2))
    n = len(angles)
    return flow.place(identity.expand(n, -1, -1), prior.expand(n, -1, -1), angles)
