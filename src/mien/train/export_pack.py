"""Export trained networks as a pack file.

    python -m mien.train export-pack --autoencoder runs/ae --parser runs/parser --identity runs/identity \
        --data runs/data -o src/mien/packs/mini/mini.safetensors
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mien.face.gaze_warp import sample_gaze_offsets
from mien.nets.face_parser import FaceParser
from mien.nets.generator import measured_rgb_valid_from
from mien.nets.identity_net import IdentityNet
from mien.nets.stylegan2 import StyleGAN2Generator
from mien.nets.stylespace import Channel
from mien.packs.pack import Pack
from mien.packs.registry import People
from mien.runtime.files import read_text
from mien.train.common import checkpoint_of
from mien.train.dataset import Faces
from mien.train.expression import expression_channels
from mien.train.networks import Networks

PEOPLE = 48


def truncated(networks: Networks, resolution: int) -> Networks:
    """The same networks stopped at a lower resolution: later blocks and their rows of W+ are left off."""
    if networks.generator.resolution == resolution:
        return networks
    small = Networks.build(resolution)
    keep = small.generator.num_ws
    own = networks.generator.state_dict()
    small.generator.load_state_dict({k: own[k] for k in small.generator.state_dict()})
    state = networks.encoder.state_dict()
    fine = (keep - small.encoder.config.coarse - small.encoder.config.middle) * small.generator.w_dim
    state["fine.out.weight"], state["fine.out.bias"] = state["fine.out.weight"][:fine], state["fine.out.bias"][:fine]
    state["w_mean"] = state["w_mean"][:keep]
    small.encoder.load_state_dict(state)
    small.flow.load_state_dict(networks.flow.state_dict())
    return small


@torch.no_grad()
def with_silent_noise(generator: StyleGAN2Generator) -> StyleGAN2Generator:
    """The same generator with noise inputs of strength 1 and constants 0, which personalisation may fill."""
    out = StyleGAN2Generator(replace(generator.config, noise=True))
    state = out.state_dict()
    for name, value in state.items():
        state[name] = torch.full_like(value, float(name.endswith("noise_strength")))
    out.load_state_dict(state | generator.state_dict())
    return out


@torch.no_grad()
def export_pack(
    autoencoder: Path, parser: Path, identity: Path | None, data: Path, out: Path, *, resolution: int, name: str,
    channels: Path | None = None, card: dict | None = None,
) -> Pack:  # fmt: skip
    """Write the pack; the channels come from `channels` (JSON of `mien.train channels`) or are the trained ones.

    Raises InputError where a step was not trained in the folder that is given for it, or `data` was not prepared.
    """
    state, parser_state = checkpoint_of(autoencoder), checkpoint_of(parser)
    full = Networks.build(state.get("resolution", 256))
    full.load(state["mean"])
    nets = truncated(full, resolution)
    nets.generator = with_silent_noise(nets.generator)
    face_parser, person = FaceParser(), IdentityNet()
    face_parser.load_state_dict(parser_state["parser"])
    faces = Faces(data, 128)
    chosen = faces.stills[:PEOPLE]
    people = People(PEOPLE, nets.generator.num_ws, nets.generator.w_dim)
    nets.encoder.eval()
    people.w_plus.copy_(nets.encoder(faces.get(chosen, np.zeros(PEOPLE, bool)).image))
    pose = nets.flow
    networks: dict[str, nn.Module] = {
        "generator": nets.generator, "encoder": nets.encoder, "flow": pose, "parser": face_parser, "people": people,
    }  # fmt: skip
    configs = {
        "generator": {"kind": "stylegan2", **asdict(nets.generator.config)},
        "encoder": {"kind": "mini", **asdict(nets.encoder.config)},
        "flow": {"kind": "styleflow", "flow": asdict(pose.flow.config), "pose": asdict(pose.pose)},
        "parser": {"kind": "mini"},
        "people": {"kind": "latents", "count": PEOPLE, "num_ws": nets.generator.num_ws, "w_dim": nets.generator.w_dim},
    }
    if identity is not None:
        person.load_state_dict(checkpoint_of(identity)["identity"])
        networks["identity"], configs["identity"] = person, {"kind": "mini"}
    if channels is not None:
        table = tuple(Channel(**c) for c in json.loads(read_text(channels))["channels"])
    else:
        table = tuple(Channel(layer, index, attribute) for layer, index, attribute in expression_channels())
    table = with_scales(nets, faces, table)
    for network in networks.values():
        network.eval().requires_grad_(False)
    configs["generator"]["rgb_valid_from"] = measured_rgb_valid_from(nets.generator, people.w_plus[:4])
    pack = Pack(name, networks, configs, table, card or {})
    pack.save(out)
    return Pack.load(out)


@torch.no_grad()
def with_scales(nets: Networks, faces: Faces, table: tuple[Channel, ...], count: int = 1500) -> tuple[Channel, ...]:
    """The channels with `scale`, the standard deviation of their value over at most `count` clip frames; the gaze is
    moved in three of ten, since clips show little gaze."""
    random = np.random.RandomState(0)
    count = min(count, len(faces.clips))
    index = random.choice(faces.clips, count, replace=False)
    offsets = sample_gaze_offsets(random, count, 0.3)
    values = []
    for start in range(0, count, 100):
        part = slice(start, start + 100)
        image = faces.get(index[part], np.zeros(len(index[part]), bool), offsets[part]).image
        styles = nets.generator.styles(nets.encoder(image))
        values.append(torch.stack([styles[c.layer][:, c.index] for c in table], 1))
    scale = torch.cat(values).std(0).clamp_min(1e-3)
    return tuple(replace(c, scale=round(float(s), 5)) for c, s in zip(table, scale, strict=True))
