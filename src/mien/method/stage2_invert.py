"""Stage 2: inversion of every crop into W+ by the pack's encoder, L_t = E(I_t) (the paper, Sec. 3.1).

`inversion_named` gives the ways to do it: `encoder` looks once, `restyle` several times (the ablation of Table 1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.errors import InputError
from mien.media.images import to_float
from mien.nets.e4e import ReStyleLoop
from mien.nets.generator import Generator
from mien.packs.pack import Pack
from mien.runtime.frame_store import Crops

RESTYLE_STEPS = 5


class Feedback(nn.Module):
    """ReStyle's idea (Alaluf et al. 2021) with an encoder that was not made for it: images -> `w_plus`.

        L <- L + E(I) - E(G(L))

    What the encoder reads off the render less than off the image is added. Each frame keeps the latent whose render was
    nearest to the image (L1), and takes half a step from it where the last one led away.
    """

    def __init__(self, encoder: nn.Module, generator: Generator, steps: int = RESTYLE_STEPS) -> None:
        super().__init__()
        self.encoder, self.generator, self.steps = encoder, generator, steps

    def forward(self, image: Tensor) -> Tensor:
        """Images `[N, 3, H, W]` in [-1, 1] -> `w_plus [N, num_ws, w_dim]`."""
        wanted = self.encoder(image).float()
        best, latent = wanted, wanted
        least = image.new_full((len(image),), float("inf"))
        length = image.new_ones(len(image))
        direction = torch.zeros_like(wanted)
        for number in range(self.steps):
            render = self.generator.synthesis(latent)
            seen = render if render.shape == image.shape else F.interpolate(render, image.shape[-2:], mode="area")
            error = (seen - image).abs().mean((1, 2, 3))
            better = error < least
            best = torch.where(better[:, None, None], latent, best)
            least = torch.where(better, error, least)
            if number == self.steps - 1:
                break
            length = torch.where(better, length, length / 2)
            step = wanted - self.encoder(render.clamp(-1, 1)).float()
            direction = torch.where(better[:, None, None], step, direction)
            latent = best + length[:, None, None] * direction
        return best


def _restyle(pack: Pack, encoder: nn.Module, generator: Generator) -> nn.Module:
    """The pack's own ReStyle network where it has one, else feedback through its encoder."""
    if "restyle" in pack.networks:
        return ReStyleLoop(pack.need("restyle"), generator)  # type: ignore[arg-type]
    return Feedback(encoder, generator)


Inversion = Callable[[Pack, nn.Module, Generator], nn.Module]
INVERSIONS: dict[str, Inversion] = {"encoder": lambda pack, encoder, generator: encoder, "restyle": _restyle}


def inversion_named(name: str) -> Inversion:
    """How frames are inverted, given a pack, its encoder (tuned or not) and the generator. Raises InputError for a name
    that is none."""
    if name not in INVERSIONS:
        raise InputError(f"there is no inversion {name!r}: take {' or '.join(INVERSIONS)}.")
    return INVERSIONS[name]


@torch.no_grad()
def invert(
    encoder: nn.Module,
    crops: Crops,
    *,
    batch: int = 16,
    device: str | torch.device = "cpu",
    tick: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """L_t = E(I_t) for crops uint8 `[T, S, S, 3]`: `w_plus [T, L, D]`."""
    latents = torch.empty(0)
    for start in range(0, len(crops), batch):
        images = to_float(crops[start : start + batch], device=device)
        found = encoder(images).float()
        # In one piece: small ones between large temporaries keep the memory of those from being used again.
        if not start:
            latents = found.new_empty(len(crops), *found.shape[1:])
        latents[start : start + batch] = found
        tick(len(images))
    return latents
