"""Put one image through all networks of a pack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mien.errors import PackError
from mien.nets.e4e import to_input
from mien.packs.convert import metric_networks
from mien.packs.convert.common import answering
from mien.packs.convert.convert import check_channels, missing
from mien.packs.pack import Pack


def verify(name_or_path: Path | str) -> Iterator[str]:
    """Load a pack and put one image through all of it; yields what each network answers, line by line.

    Raises `PackError` when the pack is missing or damaged, or a network of it does not work.
    """
    pack = Pack.load(name_or_path)
    if "generator" not in pack.networks:
        yield from metric_networks.verify(pack)
        return
    generator = pack.generator
    yield f"{pack.name}: {pack.resolution}x{pack.resolution}, sha256 {pack.fingerprint}"
    with torch.no_grad():
        mapping: Any = pack.networks.get("mapping")
        row = mapping.w_mean if mapping is not None else torch.zeros(generator.w_dim)
        with answering("generator"):
            latent = row.expand(1, generator.num_ws, -1)
            image = generator.synthesis(latent)
        _check_finite("generator", image)
        yield f"generator: {generator.num_ws} rows of {generator.w_dim}, {len(generator.layers)} StyleSpace layers"
        checks = {
            "encoder": lambda network: network(image),
            "restyle": lambda network: network.step(to_input(image), network.average),
            "flow": lambda network: network(latent, torch.zeros(1, 2), torch.full((1, 2), 5.0)),
            "identity": lambda network: network(image),
            "parser": lambda network: network(image)[0],
            "lpips_vgg": lambda network: network(to_input(image), to_input(image).flip(3)),
            "lpips_alex": lambda network: network(to_input(image), to_input(image).flip(3)),
            "mapping": lambda network: network(torch.zeros(1, generator.w_dim) + 1),
        }
        for slot, network in pack.networks.items():
            if slot in checks:
                with answering(slot):
                    result = checks[slot](network)
                _check_finite(slot, result)
                yield f"{slot}: {pack.configs[slot]['kind']}, answers {list(result.shape)}"
    check_channels(pack)
    yield f"channels: {len(pack.channels)}" + (f" ({pack.card['channels']})" if "channels" in pack.card else "")
    yield from missing(pack)


def _check_finite(slot: str, result: torch.Tensor) -> None:
    if not bool(torch.isfinite(result).all()):
        raise PackError(f"the pack's {slot} network answers with numbers that are not finite.")
