"""Index sensitivity: how much each StyleSpace channel moves each part of the face (the paper, Sec. 3.4, Eq. 5).

    Gamma_{f,i} = 1/|{delta_k}|  sum over k of  LPIPS(S_k * M_f, S_{k-1} * M_f) / |delta_k - delta_{k-1}|

with S_k = G_ss(L^ss + delta_k on channel i) and the binary mask M_f of attribute f; Gamma_i is the same with a mask of
ones. A forward perturbation of every channel, not a gradient: StyleSpace is not unique (Eq. 6), so a gradient splits
its credit among channels that do the same thing. LPIPS is the pack's perceptual distance, which is LPIPS where the pack
holds it; delta is in units of the channel's own scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.nets.generator import Generator
from mien.nets.stylespace import Channel

ATTRIBUTES = ("mouth", "eyes", "brows", "gaze")
# How many of the 32 channels each attribute gets. The paper's split is in its supplement; this one is ours: the mouth
# has the most to say, and it takes the jaw along.
COUNTS = {"mouth": 16, "eyes": 6, "brows": 6, "gaze": 4}
# {delta_k}, in units of a channel's scale; the paper does not give its own.
DELTAS = (-2.0, 0.0, 2.0)


@dataclass(frozen=True)
class Candidates:
    """Channels to try: `layer [K]`, `index [K]`, and `scale [K]`, the unit of perturbation of each."""

    layer: Tensor
    index: Tensor
    scale: Tensor

    def __len__(self) -> int:
        return len(self.layer)

    @staticmethod
    def of(channels: Sequence[Channel]) -> Candidates:
        """A pack's or a stream's channels."""
        return Candidates(
            torch.tensor([c.layer for c in channels]),
            torch.tensor([c.index for c in channels]),
            torch.tensor([c.scale for c in channels], dtype=torch.float32),
        )

    @staticmethod
    def all(generator: Generator, scales: Sequence[Tensor], layers: Sequence[int] | None = None) -> Candidates:
        """Every channel of `layers`, by default of all convolutions (ToRGB styles only colour). `scales`: the standard
        deviation over people of each layer's channels, `[C_l]`."""
        tried = [i for i, layer in enumerate(generator.layers) if not layer.to_rgb] if layers is None else list(layers)
        return Candidates(
            torch.cat([torch.full((len(scales[i]),), i) for i in tried]),
            torch.cat([torch.arange(len(scales[i])) for i in tried]),
            torch.cat([scales[i].float().cpu() for i in tried]),
        )


@dataclass(frozen=True)
class Sensitivity:
    """Eq. 5 of K channels: `inside [K, F]` is Gamma_{f,i} over the F masks, `whole [K]` is Gamma_i, both per unit of
    `scale [K]`; `area [F]` is the share of the picture that each mask covers."""

    layer: Tensor
    index: Tensor
    scale: Tensor
    inside: Tensor
    whole: Tensor
    area: Tensor

    @property
    def concentration(self) -> Tensor:
        """How much denser a channel's effect is inside each mask than over the whole picture, `[K, F]`."""
        return self.inside / self.area.clamp_min(1e-6) / self.whole[:, None].clamp_min(1e-12)


@torch.no_grad()
def index_sensitivity(
    generator: Generator,
    perceptual: Any,
    styles: Sequence[Tensor],
    masks: Tensor,
    candidates: Candidates,
    *,
    deltas: Sequence[float] = DELTAS,
    resolution: int = 64,
    batch: int = 32,
    masked_images: bool = True,
    tick: Callable[[int], None] = lambda n: None,
) -> Sensitivity:
    """Eq. 5 for one face: `styles` as from `Generator.styles` with N = 1, `masks [F, h, w]` in [0, 1] (made binary at
    one half), `deltas` in units of scale, at least two. Averages over faces and frames are the caller's.

    `masked_images`: the picture is masked before the perceptual network sees it, as Eq. 5 is written (a pass of the
    network for each mask). False masks the network's maps instead, F + 1 times cheaper for the same order of channels
    but for deep features that look beyond the mask.
    """
    if len(deltas) < 2:
        raise ValueError("index_sensitivity needs at least two deltas")
    binary = (masks > 0.5).float()
    inside, whole = torch.zeros(len(candidates), len(masks)), torch.zeros(len(candidates))
    at_rest = generator.picture(list(styles), resolution)
    size = at_rest.shape[-1]
    picture = F.interpolate(binary[:, None], (size, size), mode="nearest")

    def look(images: Tensor) -> list[list[Tensor]]:
        """Feature maps of the whole picture, then of the picture through each mask."""
        seen = [perceptual.features(images)]
        if masked_images:
            seen += [perceptual.features(images * mask[None]) for mask in picture]
        return seen

    rest = look(at_rest)
    batch = generator.frames_at_once(batch, resolution)
    for start in range(0, len(candidates), batch):
        part = slice(start, min(start + batch, len(candidates)))
        n = part.stop - start
        before: list[list[Tensor]] | None = None
        for k, delta in enumerate(deltas):
            if delta == 0:
                now = [[f.expand(n, -1, -1, -1) for f in maps] for maps in rest]
            else:
                now = look(generator.picture(moved_styles(styles, candidates, part, delta), resolution))
            if before is not None:
                step = abs(delta - deltas[k - 1]) * len(deltas)
                whole[part] += _distance(now[0], before[0]) / step
                for column in range(len(masks)):
                    if masked_images:
                        d = _distance(now[1 + column], before[1 + column])
                    else:
                        d = _distance(now[0], before[0], binary[column])
                    inside[part, column] += d / step
            before = now
        tick(n)
    area = binary.mean((1, 2))
    return Sensitivity(candidates.layer, candidates.index, candidates.scale, inside, whole, area)


def moved_styles(styles: Sequence[Tensor], candidates: Candidates, part: slice, delta: float) -> list[Tensor]:
    """Styles with a row for each candidate of `part`, in which only that channel is moved by `delta` of its scale."""
    n = part.stop - part.start
    moved = [s.expand(n, -1).clone() for s in styles]
    for row, (layer, index, scale) in enumerate(
        zip(
            candidates.layer[part].tolist(),
            candidates.index[part].tolist(),
            candidates.scale[part].tolist(),
            strict=True,
        )
    ):
        moved[layer][row, index] += delta * scale
    return moved


def _distance(a: list[Tensor], b: list[Tensor], mask: Tensor | None = None) -> Tensor:
    """The perceptual distance `[N]` of two lists of maps: a mean over the picture, as LPIPS, through `mask [h, w]`."""
    total = torch.zeros(len(a[0]), device=a[0].device)
    for f, g in zip(a, b, strict=True):
        d = (f - g).square().sum(1)
        if mask is not None:
            d = d * F.interpolate(mask[None, None], d.shape[-2:], mode="area")[0]
        total = total + d.mean((1, 2))
    return total.cpu()


def choose(
    sensitivity: Sensitivity, counts: dict[str, int] = COUNTS, *, concentration: float = 2.0
) -> list[tuple[int, str]]:
    """Rank and threshold (Sec. 3.4): for each attribute, the channels with a high Gamma_f and a small Gamma.

    A channel qualifies for an attribute where its effect is at least `concentration` times denser inside the mask than
    over the whole picture, and not much denser in another attribute's mask; qualifying ones are taken in the order of
    Gamma_f, attributes in turn with the most particular first. Where too few qualify, the most sensitive others of the
    attribute follow. Columns of `inside` are `ATTRIBUTES`. Returns `(row of the table, attribute)`.
    """
    taken: set[int] = set()
    chosen: list[tuple[int, str]] = []
    dense = sensitivity.inside / sensitivity.area.clamp_min(1e-6)
    for attribute in sorted(counts, key=lambda name: counts[name]):
        column = ATTRIBUTES.index(attribute)
        elsewhere = dense.clone()
        elsewhere[:, column] = 0
        fits = (sensitivity.concentration[:, column] >= concentration) & (dense[:, column] >= 0.6 * elsewhere.amax(1))
        gamma = sensitivity.inside[:, column] / sensitivity.inside[:, column].amax().clamp_min(1e-12)
        order = torch.argsort(gamma + fits.float(), descending=True)
        rows = [int(i) for i in order if int(i) not in taken][: counts[attribute]]
        taken.update(rows)
        chosen += [(row, attribute) for row in rows]
    return chosen
