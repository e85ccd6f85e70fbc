"""Choose the 32 channels V by index sensitivity over many people (the paper, Eq. 5), for any pack.

    python -m mien.train channels --pack src/mien/packs/mini/mini.safetensors -o runs/channels

Writes `channels.json` (for `mien.train export-pack`), `sensitivity.npz` and a table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mien.errors import InputError
from mien.method import index_sensitivity as s
from mien.nets.stylespace import Channel, add_channels
from mien.packs.pack import Pack
from mien.train.expression import attribute_masks


@torch.no_grad()
def measure(
    pack: Pack, people: int, layers: list[int] | None, resolution: int = 64, *, masked_images: bool = False
) -> s.Sensitivity:
    """Eq. 5 averaged over the pack's own people (who do not exist), masks from the pack's parser."""
    latents = pack.people[:people]
    styles = pack.generator.styles(pack.people)
    scales = [layer.std(0).clamp_min(1e-4) for layer in styles]
    images = pack.generator.synthesis(latents)
    labels = pack.parser(images)[0].argmax(1).repeat_interleave(2, 1).repeat_interleave(2, 2)
    masks = attribute_masks(labels)
    tried = s.Candidates.all(pack.generator, scales, layers)
    found: list[s.Sensitivity] = []
    for i in range(people):
        one = pack.generator.styles(latents[i : i + 1])
        found.append(
            s.index_sensitivity(
                pack.generator,
                pack.perceptual,
                one,
                masks[i],
                tried,
                resolution=resolution,
                masked_images=masked_images,
            )
        )
        print(f"person {i + 1} of {people}", flush=True)
    mean = lambda name: torch.stack([getattr(f, name) for f in found]).mean(0)
    return s.Sensitivity(tried.layer, tried.index, tried.scale, mean("inside"), mean("whole"), mean("area"))


@torch.no_grad()
def locality(pack: Pack, channels: list[Channel], people: int = 16, amount: float = 2.0) -> list[float]:
    """For each channel, the share of the change in pixels that falls inside its attribute's mask."""
    latents = pack.people[:people]
    styles = pack.generator.styles(latents)
    base = pack.generator.synthesis_from_styles(styles)
    labels = pack.parser(base)[0].argmax(1).repeat_interleave(2, 1).repeat_interleave(2, 2)
    masks = torch.nn.functional.interpolate(attribute_masks(labels), base.shape[-2:], mode="bilinear")
    shares = []
    for channel in channels:
        column = s.ATTRIBUTES.index("mouth" if channel.attribute == "jaw" else channel.attribute)
        one = [channel]
        change: Tensor = torch.zeros_like(base[:, :1])
        for sign in (-1, 1):
            moved = pack.generator.synthesis_from_styles(
                add_channels(styles, one, torch.full((len(latents), 1), sign * amount * channel.scale))
            )
            change += (moved - base).abs().sum(1, keepdim=True)
        shares.append(float((change * masks[:, column : column + 1]).sum() / change.sum().clamp_min(1e-9)))
    return shares


def run(pack_path: Path, out: Path, *, people: int, layers: list[int] | None) -> None:
    """Measure, choose, and write the table. Raises InputError where the pack has not so many people or layers."""
    pack = Pack.load(pack_path)
    if not 1 <= people <= len(pack.people):
        raise InputError(f"the pack holds {len(pack.people)} people: --people must be 1 to {len(pack.people)}.")
    if layers is not None and not set(layers) <= set(range(len(pack.generator.layers))):
        raise InputError(f"the pack's layers are 0 to {len(pack.generator.layers) - 1}: --layers {layers} are not.")
    out.mkdir(parents=True, exist_ok=True)
    table = measure(pack, people, layers)
    np.savez_compressed(out / "sensitivity.npz", **{k: getattr(table, k).numpy() for k in table.__dataclass_fields__})
    chosen: list[dict[str, Any]] = []
    for row, attribute in s.choose(table):
        column = s.ATTRIBUTES.index(attribute)
        chosen.append(
            {
                "layer": int(table.layer[row]), "index": int(table.index[row]), "attribute": attribute,
                "scale": float(table.scale[row]), "sensitivity": float(table.inside[row, column]),
                "elsewhere": float(table.whole[row]),
            }
        )  # fmt: skip
    shares = locality(pack, [Channel(**c) for c in chosen])
    own = {(c.layer, c.index) for c in pack.channels}
    for channel, share in zip(chosen, shares, strict=True):
        mark = "" if (channel["layer"], channel["index"]) in own else "  (not in the pack's present V)"
        print(f"{channel['attribute']:6} ({channel['layer']:2}, {channel['index']:3})  inside {channel['sensitivity']:.4f}"
              f"  whole {channel['elsewhere']:.4f}  share of change inside {share:.2f}{mark}")  # fmt: skip
    present = locality(pack, list(pack.channels))
    print("the pack's present V:", " ".join(f"{x:.2f}" for x in present))
    (out / "channels.json").write_text(json.dumps({"channels": chosen}, indent=1))
