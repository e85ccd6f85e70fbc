"""Pictures of 256 and 512 by the heads of `ffhq-mobile`, and that of 256 averaged down to 128, against the picture of
1024 averaged down.

    python benchmarks/mobile_heads.py [--pack ffhq-mobile] [--people 16]

The people are the first of those that `mien.train.mobile.heads` keeps aside. PSNR in dB, pictures cut off at [-1, 1].
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from mien.media.images import psnr_from_mse
from mien.nets.generator import downsample_to
from mien.packs.pack import Pack
from mien.train.mobile.heads import FIRST_SEED, HELD_OUT, random_latent

SIZES = (128, 256, 512)


def psnr(a: Tensor, b: Tensor) -> float:
    """PSNR in dB of two pictures `[1, 3, S, S]`."""
    return float(psnr_from_mse(float((a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean()), peak=2))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="ffhq-mobile")
    parser.add_argument("--people", type=int, default=HELD_OUT)
    args = parser.parse_args()
    pack = Pack.load(args.pack)
    generator, mapping = pack.generator, pack.need("mapping")
    noise = torch.randn(20_000, generator.w_dim, generator=torch.Generator().manual_seed(0))
    spread = mapping(noise).std(0)
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    for number in range(args.people):
        latent = random_latent(mapping, spread, generator.num_ws, FIRST_SEED + number)  # type: ignore[arg-type]
        styles = generator.styles(latent[None])
        finished = generator.synthesis_from_styles(styles)
        for size in SIZES:
            found[size].append(psnr(generator.picture(styles, size), downsample_to(finished, size)))
    print("| size | PSNR | lowest person |\n| --- | --- | --- |")
    for size, values in found.items():
        print(f"| {size} | {np.mean(values):.1f} dB | {min(values):.1f} |")


if __name__ == "__main__":
    main()
