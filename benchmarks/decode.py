"""Decoding speed: a frame by the decoder, by our plain generator, and by NVIDIA's and rosinality's implementations.

    python benchmarks/decode.py                                # mini, and 1024x1024 with random weights
    python benchmarks/decode.py --nvidia DIR --rosinality DIR  # beside checkouts of their repositories
    python benchmarks/decode.py --only 1024 --nvidia DIR --mobile   # and the FFHQ student of MobileStyleGAN at 1024x1024
    python benchmarks/decode.py --threads 2 --json out.json

All that is compared runs in one process, in turn, and the best of `--repeat` rounds counts: ratios hold on a busy
machine too. Seconds are of the clock (`wall`) and of all threads together (`cpu`).

Two floors stand beside the figures. Arithmetic: the multiplications of a plain convolution at the rate of a large
matrix product, measured here. Memory: every feature map written once and read once, the RGB sums and the weights, at
the rate of a large copy, measured here.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mien.media.images import psnr_from_mse, to_bytes
from mien.nets.decoder.decoder import Decoder
from mien.nets.decoder.mobile_decoder import MobileDecoder
from mien.nets.stylegan2 import GeneratorConfig, StyleGAN2Generator, SynthesisLayer
from mien.packs.pack import Pack
from mien.runtime.malloc import tune_malloc

CONFIG_F = GeneratorConfig(1024, 512, (512, 512, 512, 512, 512, 256, 128, 64, 32), noise=True)
Frames = Callable[[Tensor], Any]


def random_config_f() -> StyleGAN2Generator:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(CONFIG_F).eval().requires_grad_(False)
    for block in generator.blocks:
        if isinstance(block, SynthesisLayer):
            block.noise_strength.fill_(0.1)
    return generator.to(memory_format=torch.channels_last)


def nvidia(folder: Path, generator: StyleGAN2Generator) -> Frames:
    """stylegan2-ada-pytorch's SynthesisNetwork with the same weights, in float32."""
    sys.path.insert(0, str(folder))
    from training.networks import SynthesisNetwork  # type: ignore[import-not-found]

    config = generator.config
    base = config.channels[-1] * config.resolution
    network = SynthesisNetwork(config.w_dim, config.resolution, 3, channel_base=base, num_fp16_res=0).eval()
    network.requires_grad_(False)
    network.b4.const.copy_(generator.const[0])
    for layer, block in zip(generator.layers, generator.blocks, strict=True):
        part = getattr(network, f"b{layer.resolution}")
        theirs = part.torgb if layer.to_rgb else part.conv0 if layer.name.endswith("Conv0_up") else part.conv1
        theirs.weight.copy_(block.conv.weight)
        theirs.bias.copy_(block.bias)
        theirs.affine.weight.copy_(block.affine.weight)
        theirs.affine.bias.copy_(block.affine.bias)
        if not layer.to_rgb and block.has_noise:
            theirs.noise_const.copy_(block.noise_const)
            theirs.noise_strength.copy_(block.noise_strength)
    return lambda w: network(w, noise_mode="const", force_fp32=True)


def rosinality(folder: Path, generator: StyleGAN2Generator) -> Frames:
    """stylegan2-pytorch's Generator, weights of its own (its speed does not depend on them)."""
    import torch.utils.cpp_extension

    torch.utils.cpp_extension.load = lambda *_, **__: None  # its CUDA kernels; on a CPU it does not call them
    sys.path.insert(0, str(folder))
    from model import Generator as Theirs  # type: ignore[import-not-found]

    network = Theirs(generator.resolution, generator.w_dim, 2).eval().requires_grad_(False)
    return lambda w: network([w], input_is_latent=True, randomize_noise=False)[0]


def mobile() -> dict[str, Callable[[], Any]]:
    """The decoder for MobileStyleGAN at 1024x1024, random weights in the FFHQ student's shape, in both precisions."""
    from decode_mobile import random_generator

    generator = random_generator()
    styles = generator.styles(torch.randn(1, generator.num_ws, generator.w_dim))
    decoders = {
        "MobileStyleGAN": MobileDecoder(generator),
        "MobileStyleGAN, 16 bits": MobileDecoder(generator, int16=True),
    }
    return {name: (lambda decoder=decoder: decoder(styles)) for name, decoder in decoders.items()}


def count(generator: StyleGAN2Generator) -> dict[str, float]:
    """Multiply-adds and bytes (float32, fewest) of a frame."""
    macs, moved = 0.0, 0.0
    for layer, block in zip(generator.layers, generator.blocks, strict=True):
        outputs, inputs, kernel, _ = block.conv.weight.shape
        pixels = layer.resolution**2
        if layer.to_rgb:
            macs += pixels * inputs * outputs
            moved += 4 * 3 * pixels * 2  # the RGB sum, written here and read by the next block
            continue
        macs += inputs * outputs * kernel**2 * pixels / (4 if block.conv.up else 1)
        moved += 4 * inputs * pixels / (4 if block.conv.up else 1) + 4 * block.conv.weight.numel()
        last = layer.resolution == generator.resolution and not block.conv.up
        moved += 0 if last else 4 * outputs * pixels  # the last map goes to RGB and nowhere else
    return {"gmac": macs / 1e9, "megabytes": moved / 1e6}


def machine() -> dict[str, Any]:
    """Names of processor and software; GFLOP/s of a matrix product and GB/s of a copy, with the threads of this run."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    source, target = torch.ones(1 << 26), torch.empty(1 << 26)
    # By the processors' time, which other work on the machine does not stretch as it does the clock.
    threads = torch.get_num_threads()
    product = min(timed(lambda: torch.mm(a, b))[1] for _ in range(8)) / threads
    copy = min(timed(lambda: target.copy_(source))[1] for _ in range(4)) / threads
    return {
        "cpu": names[0].split(":")[1].strip() if names else platform.processor(),
        "bfloat16": bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "gflops": 2 * 1024**3 / product / 1e9,
        "gigabytes_s": 2 * source.nbytes / copy / 1e9,
    }


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


@torch.no_grad()
def compare(
    name: str, generator: StyleGAN2Generator, batch: int, repeat: int, others: dict[str, Frames], speed: dict,
    more: dict[str, Callable[[], Any]],
) -> dict:  # fmt: skip
    w = torch.randn(batch, generator.num_ws, generator.w_dim)
    styles = generator.styles(w)
    decoder, int16 = Decoder(generator), Decoder(generator, int16=True)
    decoders = {"decoder": decoder} | ({"decoder, 16 bits": int16} if int16.native and int16.int16 else {})
    ways: dict[str, Callable[[], Any]] = {key: (lambda way=way: to_bytes(way(w))) for key, way in others.items()}
    ways["generator"] = lambda: to_bytes(generator.synthesis(w))
    ways |= {key: (lambda one=one: one(generator.styles(w))) for key, one in decoders.items()}
    if speed["bfloat16"]:

        def half() -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return to_bytes(generator.synthesis(w).float())

        ways["generator, bfloat16"] = half
    ways |= more
    best = {key: (math.inf, math.inf) for key in ways}
    for round_number in range(repeat + 1):
        for key, way in ways.items():
            wall, cpu = timed(way)
            if round_number:  # the first round warms up
                best[key] = min(best[key][0], wall / batch), min(best[key][1], cpu / batch)
    facts = count(generator)
    floors = {
        "arithmetic": 2 * facts["gmac"] / speed["gflops"],
        "memory": facts["megabytes"] / 1e3 / speed["gigabytes_s"],
    }
    print(f"\n{name}, batch {batch}: {facts['gmac']:.2f} GMAC, {facts['megabytes']:.0f} MB a frame; floors: arithmetic "
          f"{1e3 * floors['arithmetic']:.0f} ms, memory {1e3 * floors['memory']:.0f} ms")  # fmt: skip
    reference = "NVIDIA" if "NVIDIA" in best else "generator"
    for key, (wall, cpu) in best.items():
        ratio = best[reference][1] / cpu
        print(f"  {key:23} {1e3 * wall:8.1f} ms  {1e3 * cpu:8.1f} ms of cpu  {1 / wall:7.2f} frames/s  "
              f"{ratio:5.2f} x {reference}")  # fmt: skip
    result: dict[str, Any] = {"name": name, "batch": batch, **facts, "floors": floors, "seconds": best}
    exact = generator.synthesis_from_styles(styles)
    for key, way in others.items():
        if key == "NVIDIA":
            print(f"  NVIDIA and generator differ by {float((way(w) - exact).abs().max()):.1e}")
    way = "compiled" if decoder.native else "the generator itself: no C compiler"
    for key, one in decoders.items():
        error = np.square(one(styles).astype(np.float64) - to_bytes(exact)).mean()
        result.setdefault("psnr", {})[key] = float(psnr_from_mse(error))
        print(f"  {key} ({way}) against generator, bytes: {result['psnr'][key]:.1f} dB")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--only", choices=["pack", "1024"])
    parser.add_argument("--nvidia", type=Path, help="a checkout of NVlabs/stylegan2-ada-pytorch")
    parser.add_argument("--rosinality", type=Path, help="a checkout of rosinality/stylegan2-pytorch")
    parser.add_argument("--mobile", action="store_true", help="MobileStyleGAN at 1024x1024 in the same rounds, batch 1")
    parser.add_argument("--keep-memory", action="store_true", help="freed memory stays with the process, for all alike")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.keep_memory:
        tune_malloc()
    torch.set_num_threads(options.threads)
    speed = machine()
    print(
        ", ".join(
            f"{key} {value:.0f}" if isinstance(value, float) else f"{key} {value}" for key, value in speed.items()
        )
    )
    results = []
    for batch in options.batches:
        if options.only != "1024":
            generator = Pack.load(options.pack).generator
            name = f"{options.pack} ({generator.resolution}x{generator.resolution})"
            results.append(compare(name, generator, batch, options.repeat, {}, speed, {}))
        if options.only != "pack":
            generator, others = random_config_f(), {}
            if options.nvidia:
                others["NVIDIA"] = nvidia(options.nvidia, generator)
            if options.rosinality:
                others["rosinality"] = rosinality(options.rosinality, generator)
            more = mobile() if options.mobile and batch == 1 else {}
            results.append(compare("config-f (1024x1024)", generator, batch, options.repeat, others, speed, more))
    if options.json:
        options.json.write_text(json.dumps({"machine": speed, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
