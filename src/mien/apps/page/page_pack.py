"""What a page needs of a pack: its generator and its flow as halves, and some people to choose from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mien.errors import PackError
from mien.packs.pack import Pack

SLOTS = ("generator", "flow")
KINDS = {"generator": "stylegan2", "flow": "styleflow"}


def check_playable(pack: Pack) -> None:
    """Check that the page's decoder draws this pack. Raises PackError."""
    for slot, kind in KINDS.items():
        pack.need(slot)
        found = pack.configs[slot]["kind"]
        if found != kind:
            raise PackError(f"a page cannot play the pack {pack.name!r}: its {slot} is {found}, and {kind} is needed.")
    widths = pack.configs["generator"]["channels"]
    if any(width % 8 for width in widths):
        raise PackError(f"a page cannot play the pack {pack.name!r}: its widths {widths} are not multiples of 8.")
    if pack.generator.resolution > 256:
        raise PackError(f"a page plays packs of up to 256x256 pixels, and {pack.name!r} has {pack.resolution}.")


def write_page_pack(pack: Pack, people: int, path: Path) -> None:
    """Write a safetensors file: the generator's and the flow's tensors as float16, `people.w_plus [people, L, D]`, and
    in its metadata under `mien` the networks' shapes and the names and shapes of tensors that are left out since they
    are all 0."""
    tensors: dict[str, Tensor] = {"people.w_plus": pack.people[_spread(people, len(pack.people))]}
    for slot in SLOTS:
        tensors |= {f"{slot}.{name}": value for name, value in pack.need(slot).state_dict().items()}
    zero = {name: list(value.shape) for name, value in tensors.items() if value.numel() > 1 and not value.any()}
    text = json.dumps({"name": pack.name, "networks": {slot: _shape(pack, slot) for slot in SLOTS}, "zero": zero})
    halves = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items() if name not in zero}
    save_file(halves, path, metadata={"mien": text})


def channel_facts(pack: Pack) -> list[dict[str, Any]]:
    """The pack's channels V as the page reads them: layer, index, attribute, scale."""
    return [
        {k: v for k, v in asdict(c).items() if k in ("layer", "index", "attribute", "scale")} for c in pack.channels
    ]


def _shape(pack: Pack, slot: str) -> dict[str, Any]:
    return dict(pack.configs[slot])


def _spread(count: int, there: int) -> Tensor:
    """`count` places, or as many as there are, spread evenly over all."""
    return torch.linspace(0, there - 1, min(count, there)).round().long()
