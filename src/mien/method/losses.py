"""The losses of stage 5 (the paper, Eq. 9-12) as residuals, and the attribute masks they are taken over.

Every L2-type term of Eq. 10-12 is a masked sum of squares, so the whole is ||r||^2 for one residual vector a frame:
what a Gauss-Newton step needs, and at the same time the plain loss for a gradient step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.face.masks import Regions
from mien.nets.perceptual import Analysis


@dataclass(frozen=True)
class AttributeWeights:
    """Weights of Eq. 9-12. The paper's are in its supplement; these are ours, in units where L2 over the mouth is 1.

    `face`: an L2 over the whole face, which the paper does not have: it keeps cheeks and forehead in place where a
    channel reaches beyond its attribute.
    """

    l2_mouth: float = 1.0
    l2_eyes: float = 1.0
    l2_pupils: float = 0.5
    perceptual_mouth: float = 0.08
    perceptual_eyes: float = 0.08
    inter_frame: float = 0.15
    face: float = 0.5
    identity: float = 0.002
    parsing: float = 0.002


# What of the error of the frame before L_IF looks at, per pixel in [-1, 1]: usual errors are far smaller; where a hand
# covered the face, the frame after it is not to repeat the mistake.
CARRIED = 0.2


def _normalised(mask: Tensor) -> Tensor:
    return mask / mask.sum((1, 2, 3), keepdim=True).clamp_min(1.0)


@dataclass(frozen=True)
class LossNetworks:
    """The networks that Eq. 9 looks through; `identity` and `parser` may be absent, their terms are then left out."""

    perceptual: Any
    identity: Any | None
    parser: Any | None


class AttributeObjective:
    """Eq. 9 for a batch of consecutive frames against S_t, without the identity and parsing terms.

    `target [N, 3, R, R]`: S_t; `regions`: masks of the same frames.
    """

    def __init__(self, perceptual: Any, target: Tensor, regions: Regions, weights: AttributeWeights) -> None:
        self.perceptual, self.target, self.weights = perceptual, target, weights
        size = target.shape[-1]
        w = weights
        grow = lambda m: F.interpolate(m, (size, size), mode="bilinear") if m.shape[-1] != size else m
        mouth, eyes, pupils, face = (grow(m) for m in (regions.mouth, regions.eyes, regions.pupils, regions.face))
        pixel = w.l2_mouth * _normalised(mouth) + w.l2_eyes * _normalised(eyes)
        pixel = pixel + w.l2_pupils * _normalised(pupils) + w.face * _normalised(face)
        self.pixel = (pixel / 3).sqrt()
        moving = w.inter_frame * (_normalised(mouth) + _normalised(eyes) + _normalised(pupils))
        self.moving = (moving / 3).sqrt()
        with torch.no_grad():
            self.features = perceptual.features(target)
        self.feature_masks = []
        for f in self.features:
            small = lambda m: _normalised(F.interpolate(m, f.shape[-2:], mode="area"))  # noqa: B023
            self.feature_masks.append(
                (w.perceptual_mouth * small(regions.mouth) + w.perceptual_eyes * small(regions.eyes)).sqrt()
            )

    def residual(self, images: Tensor, index: Tensor | slice = slice(None), seen: Analysis | None = None) -> Tensor:
        """`[N, R]`: masked pixel and feature differences of renders of frames `index`; squared and summed, the L2 and
        perceptual terms of Eq. 10-12. `seen`: what the perceptual network made of the renders, where that is known."""
        parts = [((images - self.target[index]) * self.pixel[index]).flatten(1)]
        features = self.perceptual.features(images) if seen is None else seen.features
        for f, g, mask in zip(features, self.features, self.feature_masks, strict=True):
            parts.append(((f - g[index]) * mask[index]).flatten(1))
        return torch.cat(parts, dim=1)

    def inter_frame(self, images: Tensor, index: slice, before: Tensor | None) -> Tensor:
        """L_IF `[n]` of renders of the frames `index`: squared difference between the render's and the target's change
        from the frame before.

        `before [1, 3, R, R]`: render minus target of the frame before these, or None at the start of a run of frames.
        Errors of the frame before are bounded by `CARRIED`.
        """
        wrong = images - self.target[index]
        first = wrong[:1].detach() if before is None else before
        change = wrong - torch.cat([first, wrong[:-1].detach()]).clamp(-CARRIED, CARRIED)
        return (change * self.moving[index]).square().sum((1, 2, 3))


def identity_loss(network: Any, images: Tensor, code: Tensor) -> Tensor:
    """L_ID `[N]`: one minus the cosine similarity to the identity frame's code `[1, E]` or `[N, E]`."""
    return 1 - F.cosine_similarity(network(images), code, dim=1)


def parsing_loss(parser: Any, images: Tensor, labels: Tensor) -> Tensor:
    """L_FP `[N]`: cross entropy of the parser's logits against the labels `[N, h, w]` it gives the target."""
    return logits_loss(parser(images)[0], labels)


def logits_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L_FP `[N]` of logits `[N, K, h, w]` that are known already."""
    return F.cross_entropy(logits.float(), labels, reduction="none").mean((1, 2))
