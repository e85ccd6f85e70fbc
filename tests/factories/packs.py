"""A pack of tiny random networks: the whole pipeline runs on it in seconds. It draws noise, not faces."""

from __future__ import annotations

from dataclasses import asdict

import torch

from factories import checkpoints
from mien.nets.arcface import ArcFace
from mien.nets.bisenet import BiSeNet
from mien.nets.e4e import E4E
from mien.nets.encoders import Encoder, EncoderConfig
from mien.nets.face_parser import FaceParser
from mien.nets.identity_net import IdentityNet
from mien.nets.lpips import LPIPS
from mien.nets.mapping import Mapping
from mien.nets.mobile_layers import MobileGeneratorConfig
from mien.nets.mobile_stylegan import MobileGenerator
from mien.nets.styleflow import mini_flow
from mien.nets.stylegan2 import GeneratorConfig, StyleGAN2Generator
from mien.nets.stylespace import Channel
from mien.packs.convert import checkpoint_layouts
from mien.packs.pack import Pack
from mien.packs.registry import People
from mien.train.mobile.flow import new_flow


def tiny_pack(seed: int = 0, noise: bool = False) -> Pack:
    """64x64, W of 32 dimensions, 16 features a layer; every slot of a pack filled with seeded random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = StyleGAN2Generator(GeneratorConfig(64, 32, (16,) * 5, noise=noise))
        encoder = Encoder(EncoderConfig(generator.num_ws, 32, width=8))
        flow = mini_flow(32, hidden=(16,), steps=2)
        torch.nn.init.normal_(flow.flow.layers[-1].layer.weight, std=0.2)
        people = People(4, generator.num_ws, 32)
        people.w_plus.normal_()
        networks = {
            "generator": generator,
            "encoder": encoder,
            "flow": flow,
            "identity": IdentityNet(8),
            "parser": FaceParser(8),
            "people": people,
        }
    for network in networks.values():
        network.eval().requires_grad_(False)
    attributes = ("mouth",) * 14 + ("jaw",) * 4 + ("eyes",) * 5 + ("brows",) * 5 + ("gaze",) * 4
    channels = tuple(Channel((6, 8)[i % 2], i // 2, name, 0.5) for i, name in enumerate(attributes))
    configs = {
        "generator": {"kind": "stylegan2", **asdict(generator.config)},
        "encoder": {"kind": "mini", **asdict(encoder.config)},
        "flow": {"kind": "styleflow", "flow": asdict(flow.flow.config), "pose": asdict(flow.pose)},
        "identity": {"kind": "mini", "width": 8},
        "parser": {"kind": "mini", "width": 8},
        "people": {"kind": "latents", "count": 4, "num_ws": generator.num_ws, "w_dim": 32},
    }
    return Pack("tiny", networks, configs, channels, {"licence": "Apache-2.0"}, "ab" * 32)


def tiny_mobile_pack(seed: int = 0) -> Pack:
    """As `tiny_pack`, with a MobileStyleGAN of 128x128 whose heads draw 16, 32 and 64, and a flow of likelihood's kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = MobileGeneratorConfig(32, (16, 16, 16, 16, 8), heads=(16, 32, 64))
        generator = MobileGenerator(config)
        for head in generator.heads.values():
            head.start_from(generator.blocks)
        encoder = Encoder(EncoderConfig(generator.num_ws, 32, 8, coarse=7, middle=3))
        flow = new_flow(torch.randn(50, 32), torch.randn(50, 6) * 10, (16,))
        torch.nn.init.normal_(flow.flow.layers[-1].layer.weight, std=0.2)
        mapping = Mapping(32, 2)
        networks = {
            "generator": generator,
            "mapping": mapping,
            "encoder": encoder,
            "flow": flow,
            "identity": IdentityNet(8),
            "parser": FaceParser(8),
        }
    for network in networks.values():
        network.eval().requires_grad_(False)
    attributes = ("mouth",) * 14 + ("jaw",) * 4 + ("eyes",) * 5 + ("brows",) * 5 + ("gaze",) * 4
    channels = tuple(Channel((7, 9, 10, 6)[i % 4], i // 4, name, 0.5) for i, name in enumerate(attributes))
    configs = {
        "generator": {"kind": "mobile_stylegan", **asdict(config)},
        "mapping": {"kind": "stylegan2", "dim": 32, "layers": 2},
        "encoder": {"kind": "mini", **asdict(encoder.config)},
        "flow": {"kind": "styleflow", "flow": asdict(flow.flow.config), "pose": asdict(flow.pose)},
        "identity": {"kind": "mini", "width": 8},
        "parser": {"kind": "mini", "width": 8},
    }
    return Pack("tiny-mobile", networks, configs, channels, {"licence": "Apache-2.0"}, "cd" * 32)


OFFICIAL_UNITS = ((16, 1), (16, 1), (16, 1), (32, 1))  # width and number of units of a trunk's groups


def official_pack() -> Pack:
    """The kinds of network that official checkpoints fill, at reduced width with random weights; 64x64, W of 32.

    A StyleGAN2 generator with noise and its mapping network (rosinality's layout), e4e, StyleFlow with its 17
    conditions, ArcFace, BiSeNet and LPIPS over AlexNet; no landmarks, and channels that are not absolute.
    """
    widths, w_dim = (16,) * 5, 32
    tree = {"g_ema": checkpoints.rosinality(widths, w_dim, 2), "latent_avg": checkpoints.noise("avg", (w_dim,))}
    found = checkpoint_layouts.stylegan2(checkpoints.lazy(tree))
    generator, mapping = found.generator, found.mapping
    assert mapping is not None
    flow = checkpoint_layouts.styleflow(checkpoints.lazy(checkpoints.styleflow(w_dim, hidden=16)))
    encoder, identity = E4E(generator.num_ws, OFFICIAL_UNITS), ArcFace(OFFICIAL_UNITS)
    parser, lpips = BiSeNet(8), LPIPS("alex")
    for name, network in (("e4e", encoder), ("arcface", identity), ("bisenet", parser), ("alex", lpips)):
        network.load_state_dict(checkpoints.like(network.state_dict(), name))
    networks = {
        "generator": generator, "mapping": mapping, "encoder": encoder, "flow": flow, "identity": identity,
        "parser": parser, "lpips_alex": lpips,
    }  # fmt: skip
    for network in networks.values():
        network.eval().requires_grad_(False)
    units = [list(group) for group in OFFICIAL_UNITS]
    configs = {
        "generator": {"kind": "stylegan2", **asdict(generator.config)},
        "mapping": {"kind": "stylegan2", "dim": w_dim, "layers": 2},
        "encoder": {"kind": "e4e", "num_ws": generator.num_ws, "units": units},
        "flow": {"kind": "styleflow", "flow": asdict(flow.flow.config), "pose": asdict(flow.pose)},
        "identity": {"kind": "arcface", "units": units},
        "parser": {"kind": "bisenet", "width": 8},
        "lpips_alex": {"kind": "lpips"},
    }
    attributes = ("mouth",) * 14 + ("jaw",) * 4 + ("eyes",) * 5 + ("brows",) * 5 + ("gaze",) * 4
    channels = tuple(Channel((6, 8)[i % 2], i // 2, name, 0.5) for i, name in enumerate(attributes))
    return Pack("official-kinds", networks, configs, channels, {}, "ef" * 32, channels_absolute=False)
