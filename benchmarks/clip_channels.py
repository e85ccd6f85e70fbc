"""Channels V chosen for one clip, where the paper has one V for all (Sec. 3.4): a part of `ablate_fit.py`.

A channel is worth sending where it moves the picture (its index sensitivity, Eq. 5) and is moved by the clip (its
spread there). Two channels that do the same thing are worth one (StyleSpace is not unique, Eq. 6), so they are taken
one after the other, each for what it still explains of S_t - G(LH_t) over the clip: simultaneous orthogonal matching
pursuit (Tropp et al. 2006) on the forward differences of every channel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.face.masks import Masks, Regions
from mien.method.index_sensitivity import Candidates, moved_styles
from mien.nets.generator import Generator
from mien.nets.stylespace import Channel

COUNT = 32
LEAST = 1e-3  # of a channel's effect: where less is left beside those taken, it is one of their shadows


@torch.no_grad()
def clip_channels(
    generator: Generator,
    w_plus: Tensor,
    posed: Tensor,
    regions: Masks,
    pose_rows: int,
    count: int = COUNT,
    *,
    frames: int = 32,
    resolution: int = 64,
    batch: int = 32,
    tick: Callable[[int], None] = lambda n: None,
) -> tuple[Channel, ...]:
    """`count` channels for a clip of latents `w_plus [T, L, D]` whose head-posed identity is `posed [T, L, D]`.

    Channels of the first `pose_rows` rows of W+ are the head pose's and are left out, as are ToRGB's. `scale` of each is
    its spread over the clip (root mean square of A(L_t) - A(LH_t)), its `attribute` the region where it does most.
    """
    layers = [i for i, x in enumerate(generator.layers) if not x.to_rgb and x.row >= pose_rows]
    wanted, base = generator.styles(w_plus), generator.styles(posed)
    spread = [(a - b).square().mean(0).sqrt() for a, b in zip(wanted, base, strict=True)]
    tried = Candidates.all(generator, spread, layers)
    moved = torch.cat([(wanted[i] - base[i]).abs() for i in layers], 1) / tried.scale.to(w_plus.device).clamp_min(1e-9)
    size = min(resolution, generator.resolution)
    chosen = torch.linspace(0, len(w_plus) - 1, min(frames, len(w_plus))).round().long()
    # The frame that the channels are probed at is one of the clip's usual ones.
    middle = int(moved.mean(1).argsort()[len(moved) // 2])
    here = regions.part(slice(middle, middle + 1))
    shared = F.interpolate(here.attention, (size, size), mode="area")[0].sqrt()
    left = torch.cat([
        (generator.picture([s[i] for s in wanted], size) - generator.picture([s[i] for s in base], size)) * shared
        for i in chosen.split(batch)
    ])  # fmt: skip
    probe = [s[middle : middle + 1] for s in base]
    still = generator.picture(probe, size)
    effects = []
    for start in range(0, len(tried), batch):
        part = slice(start, min(start + batch, len(tried)))
        change = generator.picture(moved_styles(probe, tried, part, 1.0), size) - still
        effects.append(change * shared)
        tick(len(change))
    effect = torch.cat(effects)
    rows = _pursue(effect.flatten(1), left.flatten(1), count)
    names = _attributes(effect[rows], here, size)
    gamma = effect[rows].square().mean((1, 2, 3)).tolist()
    return tuple(
        Channel(int(tried.layer[r]), int(tried.index[r]), name, float(tried.scale[r].clamp_min(1e-3)), g, 0.0)
        for r, name, g in zip(rows, names, gamma, strict=True)
    )


def _pursue(effects: Tensor, left: Tensor, count: int) -> list[int]:
    """Rows of `effects [K, P]` that explain `left [T, P]` best, one after the other."""
    effects, left = effects.clone(), left.clone()
    first = effects.square().sum(1)
    rows: list[int] = []
    for _ in range(min(count, len(effects))):
        size = effects.square().sum(1)
        gain = (effects @ left.T).square().sum(1) / size.clamp_min(1e-12)
        gain[size <= LEAST * first.clamp_min(1e-12)] = -1.0
        gain[rows] = -2.0
        best = int(gain.argmax())
        rows.append(best)
        unit = F.normalize(effects[best], dim=0)
        effects = effects - (effects @ unit)[:, None] * unit
        left = left - (left @ unit)[:, None] * unit
    return rows


def _attributes(effects: Tensor, areas: Regions, size: int) -> list[str]:
    """The region in which each of `effects [N, 3, s, s]` is densest: its name as a pack's channels have it."""
    names = ("mouth", "eyes", "gaze")
    masks = torch.cat([F.interpolate(m, (size, size), mode="area") for m in (areas.mouth, areas.eyes, areas.pupils)])
    energy = effects.square().sum(1, keepdim=True).flatten(1)
    inside = energy @ masks.flatten(1).T / masks.flatten(1).sum(1).clamp_min(1.0)
    # An iris is moved by lids and brows too: gaze is what does more there than anywhere around it.
    inside[:, 2] *= 0.5
    return [names[i] for i in inside.argmax(1).tolist()]
