"""Which frames a fit does not explain: a hand over the mouth, a profile turn, a glitch."""

from __future__ import annotations

import torch
from torch import Tensor

from mien.face.masks import ClipRegions
from mien.media.images import to_float
from mien.method.image_sequences import ImageSequence
from mien.runtime.frame_store import Crops

SIZE = 64


def outliers(values: Tensor) -> Tensor:
    """Frames `[T]` bool far above the clip's usual value: more than half of the median and six median deviations."""
    middle = values.quantile(0.5)
    spread = (values - middle).abs().quantile(0.5)
    return values > 1.5 * middle + 6 * spread


@torch.no_grad()
def region_errors(crops: Crops, synthesised: ImageSequence, regions: ClipRegions) -> Tensor:
    """Mean squared error of S_t `[T, 3, R, R]` against the crops uint8 `[T, S, S, 3]` over mouth and jaw, over eyes and
    brows, and over the rest of the face: `[T, 3]`."""
    out = []
    for i in range(0, len(crops), 32):
        part = slice(i, i + 32)
        these = regions.part(part)
        masks = torch.cat([these.mouth, these.eyes, these.rigid], 1).cpu()
        made = torch.nn.functional.interpolate(synthesised[part].clamp(-1, 1).cpu(), (SIZE, SIZE), mode="area")
        error = (to_float(crops[part], SIZE) - made).square().mean(1, keepdim=True)
        out.append((error * masks).sum((2, 3)) / masks.sum((2, 3)).clamp_min(1.0))
    return torch.cat(out)


def unreliable_frames(fit_loss: Tensor, errors: Tensor) -> list[int]:
    """Frames whose stage 5 ended far from S_t (`fit_loss [T]`), or whose S_t is far from the frame itself in some
    region (`errors [T, 3]`, see `region_errors`). An occluder is not reproduced by
    the inversion, so frames that it covers show a large error there."""
    return torch.nonzero(outliers(fit_loss.cpu()) | poorly_reconstructed(errors))[:, 0].tolist()


def poorly_reconstructed(errors: Tensor) -> Tensor:
    """Frames `[T]` that are far from the picture of them in some region (`errors [T, 3]`, see `region_errors`)."""
    return torch.stack([outliers(column) for column in errors.cpu().T]).any(0)
