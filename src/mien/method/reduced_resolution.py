"""What the losses of stages 3 to 5 look at: renders smaller than the generator's own, as cheaply as they are right.

`Generator.synthesis(w_plus, resolution)` stops early and returns the RGB sum so far. In a pack that was trained from
small to large that sum is a picture; in general it is only what the higher blocks add to. So a sum is taken only
where it is close to the finished picture averaged down; otherwise more blocks are run, in the end all of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.media.images import psnr_from_mse
from mien.nets.stylegan2 import Generator, Window

SIZES = (64, 128)
# dB between the sum averaged down and the finished picture averaged down: the embedded pack's are at 39 dB for 128, at 18 for 64.
CLOSE = 28.0
PROBES = 4


class Seen(Generator):
    """A generator whose small pictures are those of more blocks, averaged down. Shares all weights with `generator`.

    `through`: for a resolution that is asked for, the one up to which the blocks are run.
    """

    def __init__(self, generator: Generator, through: dict[int, int]) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(generator.__dict__)
        self.through = through

    def synthesis_from_styles(
        self, styles: list[Tensor], resolution: int | None = None, window: Window | None = None
    ) -> Tensor:
        """As `Generator.synthesis_from_styles`, area-averaged where more blocks are run than asked for; a window is cut
        from the finished picture only."""
        if resolution is None:
            return super().synthesis_from_styles(styles, window=window)
        if window is not None:
            raise ValueError("a window is cut from the finished picture, not from one of a lower resolution")
        image = super().synthesis_from_styles(styles, self.through.get(resolution, resolution))
        return at_most(image, resolution)

    def frames_at_once(self, wished: int, resolution: int) -> int:
        """How many frames of a gradient fit where `wished` do at 256 pixels."""
        side = min(self.through.get(resolution, resolution), self.resolution)
        return max(1, wished * 256**2 // max(side, 256) ** 2)


def at_most(images: Tensor, size: int) -> Tensor:
    """Images `[N, 3, H, H]`, area-averaged to `size` where they are larger."""
    return images if images.shape[-1] <= size else F.interpolate(images, (size, size), mode="area")


@torch.no_grad()
def as_seen(generator: Generator, w_plus: Tensor, sizes: tuple[int, ...] = SIZES) -> Seen:
    """The generator as the losses are to see it, judged on some of a clip's latents `w_plus [T, L, D]`."""
    probes = w_plus[torch.linspace(0, len(w_plus) - 1, min(PROBES, len(w_plus))).round().long()]
    finished: Tensor | None = None
    through: dict[int, int] = {}
    for size in sizes:
        enough = size
        while enough < generator.resolution:
            if finished is None:
                finished = torch.cat([generator.synthesis(w[None]) for w in probes])
            sums = torch.cat([at_most(generator.synthesis(w[None], enough), size) for w in probes])
            error = (sums - at_most(finished, size)).square().mean()
            if psnr_from_mse(float(error), peak=2) >= CLOSE:
                break
            enough *= 2
        through[size] = enough
    return Seen(generator, through)
