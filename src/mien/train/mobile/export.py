"""Put what was trained for `ffhq-mobile` into the file that ships with the package, in half floats."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mien.nets.encoders import Encoder
from mien.nets.mobile_layers import MobileGeneratorConfig
from mien.nets.styleflow import HeadPoseFlow
from mien.nets.stylespace import Channel
from mien.packs.pack import Pack
from mien.packs.pull_ffhq_mobile import NAME


def read_channels(path: Path) -> tuple[Channel, ...]:
    """The channels of the JSON that the `channels` step wrote."""
    return tuple(Channel(**entry) for entry in json.loads(path.read_text())["channels"])


def export(
    config: MobileGeneratorConfig,
    heads: nn.ModuleDict,
    encoder: Encoder,
    flow: HeadPoseFlow,
    channels: tuple[Channel, ...],
    card: dict[str, Any],
    out: Path,
) -> Pack:
    """Write the networks, channels and card to `out` and return them as read back.

    `config` says which heads there are. The file is no pack to work with: it has no generator.
    """
    networks: dict[str, nn.Module] = {"heads": heads, "encoder": encoder, "flow": flow}
    configs: dict[str, dict[str, Any]] = {
        "heads": {"kind": "mobile_stylegan", **asdict(config)},
        "encoder": {"kind": "mini", **asdict(encoder.config)},
        "flow": {"kind": "styleflow", "flow": asdict(flow.flow.config), "pose": asdict(flow.pose)},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    pack = Pack(NAME, networks, configs, channels, card, channels_absolute=False)
    pack.save(out)
    return Pack.load(out)


def load_state(network: nn.Module, path: Path, key: str = "ema") -> nn.Module:
    """A network with the weights of a training checkpoint's entry `key`, ready to be used."""
    state = torch.load(path, map_location="cpu", weights_only=True)[key]
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
