"""Index sensitivity: how much each StyleSpace channel moves each part of the face (the paper, Sec. 3.4, Eq. 5).

    Gamma_{f,i} = mean over k of  d(S_k * M_f, S_{k-1} * M_f) / |delta_k - delta_{k-1}|

A forward perturbation of every channel, not a gradient: StyleSpace is not unique (Eq. 6), so a gradient splits its
credit among channels that do the same thing. `d` is the pack's perceptual distance (LPIPS where the pack holds it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.models.stylegan2 import Generator

ATTRIBUTES = ("mouth", "eyes", "brows", "gaze")
# How many of the 32 channels each attribute gets. The paper's split is in its supplement; this one is ours: the mouth
# has the most to say, and it takes the jaw along.
COUNTS = {"mouth": 16, "eyes": 6, "brows": 6, "gaze": 4}


@dataclass(frozen=True)
class Sensitivity:
    """Eq. 5 for every channel: `layer [K]`, `index [K]`, `scale [K]` (unit of perturbation), `inside [K, F]` over each
    attribute's mask and `whole [K]` over the whole image, both per unit of scale."""

    layer: Tensor
    index: Tensor
    scale: Tensor
    inside: Tensor
    whole: Tensor


@torch.no_grad()
def index_sensitivity(
    generator: Generator,
    perceptual: Any,
    styles: Sequence[Tensor],
    masks: Tensor,
    scales: Sequence[Tensor],
    *,
    layers: Sequence[int] | None = None,
    deltas: Sequence[float] = (-2.0, 0.0, 2.0),
    resolution: int = 64,
    batch: int = 32,
    tick: Callable[[int], None] = lambda n: None,
) -> Sensitivity:
    """Eq. 5 for one face: `styles` as from `Generator.styles` with N = 1, `masks [F, h, w]` in [0, 1], `scales`: each
    layer's standard deviation over people `[C_l]`, `deltas` in units of it. Averages over faces are the caller's.

    `layers`: which StyleSpace layers to try; by default all convolutions (ToRGB styles only colour, and pose rows are
    not for expression).
    """
    tried = [i for i, layer in enumerate(generator.layers) if not layer.to_rgb] if layers is None else list(layers)
    layer_of = torch.cat([torch.full((styles[i].shape[1],), i) for i in tried])
    index_of = torch.cat([torch.arange(styles[i].shape[1]) for i in tried])
    scale_of = torch.cat([scales[i] for i in tried])
    inside, whole = torch.zeros(len(layer_of), len(masks)), torch.zeros(len(layer_of))
    for start in range(0, len(layer_of), batch):
        part = slice(start, min(start + batch, len(layer_of)))
        n = part.stop - start
        before: list[Tensor] | None = None
        for k, delta in enumerate(deltas):
            moved = [s.expand(n, -1).clone() for s in styles]
            for row, (layer, index, scale) in enumerate(
                zip(layer_of[part].tolist(), index_of[part].tolist(), scale_of[part].tolist(), strict=True)
            ):
                moved[layer][row, index] += delta * scale
            features = perceptual.features(generator.synthesis_from_styles(moved, resolution))
            if before is not None:
                step = abs(delta - deltas[k - 1]) * (len(deltas) - 1)
                for f, g in zip(features, before, strict=True):
                    d = (f - g).square().sum(1)
                    m = F.interpolate(masks[:, None], d.shape[-2:], mode="area")[:, 0]
                    inside[part] += torch.einsum("nhw,fhw->nf", d, m) / m.sum((1, 2)).clamp_min(1.0) / step
                    whole[part] += d.mean((1, 2)) / step
            before = features
        tick(n)
    return Sensitivity(layer_of, index_of, scale_of, inside, whole)


def choose(sensitivity: Sensitivity, counts: dict[str, int] = COUNTS, *, share: float = 0.5) -> list[tuple[int, str]]:
    """Rank and threshold (Sec. 3.4): for each attribute, the most sensitive channels whose effect stays inside.

    A channel qualifies for an attribute where its sensitivity inside the mask is at least 1/`share` times that over
    the whole image; qualifying ones are taken in the order of their sensitivity, attributes in turn with the most
    particular first. Returns `(row of the table, attribute)`.
    """
    taken: set[int] = set()
    chosen: list[tuple[int, str]] = []
    for attribute in sorted(counts, key=lambda name: counts[name]):
        column = sensitivity.inside[:, ATTRIBUTES.index(attribute)]
        local = column * share / sensitivity.whole.clamp_min(1e-9)
        best_elsewhere = sensitivity.inside.clone()
        best_elsewhere[:, ATTRIBUTES.index(attribute)] = 0
        order = torch.argsort(column * (local > 1) * (column >= 0.6 * best_elsewhere.amax(1)), descending=True)
        rows = [int(i) for i in order if int(i) not in taken][: counts[attribute]]
        taken.update(rows)
        chosen += [(row, attribute) for row in rows]
    return chosen
