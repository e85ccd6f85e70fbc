"""Decoding speed of MobileStyleGAN at each of its sizes: our generator in PyTorch, and the compiled decoder in float32 and
with products in 16 bits. Random weights in the shape of `ffhq-mobile`, whose least head draws 256: speed does not depend
on them.

    python benchmarks/decode_mobile.py --threads 2

Sizes and ways take turns, and the best of `--repeat` rounds counts. Seconds are of the clock (`wall`) and of all threads
together (`cpu`); on a machine that does other work, only the latter compare.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch

from mien.media.images import psnr_from_mse, to_bytes
from mien.nets.decoder.mobile_decoder import MobileDecoder
from mien.nets.mobile_layers import MobileGeneratorConfig
from mien.nets.mobile_stylegan import MobileGenerator
from mien.nets.picture_head import PictureHead

CONFIG = MobileGeneratorConfig(512, (512, 512, 512, 512, 512, 256, 128, 64), heads=(256, 512))


@torch.no_grad()
def random_generator() -> MobileGenerator:
    torch.manual_seed(0)
    generator = MobileGenerator(CONFIG).eval().requires_grad_(False)
    for head in generator.heads.values():
        assert isinstance(head, PictureHead)
        head.start_from(generator.blocks)
    styles = generator.styles(torch.randn(1, CONFIG.blocks * 3 + 2, CONFIG.w_dim))
    for size in generator.sizes:  # pictures in their range, so that their bytes can be compared
        part = generator.blocks[-1] if size == generator.resolution else generator.heads[str(size)]
        weight = part.weight if size == generator.resolution else part.image_weight
        weight *= 0.4 / generator.synthesis_from_styles(styles, size).std()
    return generator


def gmac(generator: MobileGenerator) -> float:
    """10^9 multiply-adds of a picture's products; the depthwise convolutions add about 5 %."""
    size, channels = generator.resolution, CONFIG.channels
    blocks = CONFIG.blocks if size == CONFIG.resolution else CONFIG.head_blocks[size] + 1
    total = 16 * 9 * channels[0] ** 2
    for k in range(blocks):
        total += (8 * 2**k) ** 2 * channels[k + 1] * (channels[k] // 4 + channels[k + 1])
    for k in range(blocks, CONFIG.blocks):  # the head, all at the side of its features
        total += (size // 2) ** 2 * channels[k + 1] * (channels[k] + channels[k + 1])
    return (total + (size // 2) ** 2 * 12 * channels[-1]) / 1e9


@torch.no_grad()
def compare(whole: MobileGenerator, size: int, repeat: int) -> None:
    generator = whole.at(size)
    styles = generator.styles(torch.randn(1, generator.num_ws, generator.w_dim))
    wanted = to_bytes(generator.synthesis_from_styles(styles))
    ways: dict[str, Callable[[], np.ndarray]] = {"generator": lambda: to_bytes(generator.synthesis_from_styles(styles))}
    decoders = {"decoder": MobileDecoder(generator), "decoder, 16 bits": MobileDecoder(generator, int16=True)}
    ways |= {name: (lambda decoder=decoder: decoder(styles)) for name, decoder in decoders.items()}
    best = {name: (math.inf, math.inf) for name in ways}
    for round_number in range(repeat + 1):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            if round_number:  # the first round warms up
                taken = time.perf_counter() - wall, time.process_time() - cpu
                best[name] = min(best[name][0], taken[0]), min(best[name][1], taken[1])
    print(f"\n{size}x{size}, {gmac(generator):.2f} GMAC")
    for name, (wall, cpu) in best.items():
        db = psnr_from_mse(np.square(ways[name]().astype(np.float64) - wanted).mean())
        print(
            f"  {name:17} {1e3 * wall:7.1f} ms, {1e3 * cpu:7.1f} ms of cpu, {1 / wall:6.1f} frames/s; bytes {db:.0f} dB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=12)
    parser.add_argument("--sizes", type=int, nargs="+", default=[*CONFIG.heads, CONFIG.resolution])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = random_generator()
    for size in options.sizes:
        compare(generator, size, options.repeat)


if __name__ == "__main__":
    main()
