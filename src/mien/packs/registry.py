"""How each network of a pack is built from its configuration: slot -> kind -> builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mien.nets.arcface import ArcFace, CurricularFace
from mien.nets.bisenet import BiSeNet
from mien.nets.e4e import E4E, ReStyle
from mien.nets.encoders import Encoder, EncoderConfig
from mien.nets.face_parser import FaceParser
from mien.nets.i3d import I3D
from mien.nets.identity_net import IdentityNet
from mien.nets.inception import Inception
from mien.nets.l2cs import L2CS
from mien.nets.libreface import LibreFace
from mien.nets.lpips import LPIPS
from mien.nets.mapping import Mapping
from mien.nets.mobile_layers import MobileGeneratorConfig
from mien.nets.mobile_stylegan import MobileGenerator
from mien.nets.picture_head import picture_heads
from mien.nets.styleflow import FlowConfig, HeadPoseFlow, PoseCondition, StyleFlow
from mien.nets.stylegan2 import GeneratorConfig, StyleGAN2Generator


class People(nn.Module):
    """Latents of people who do not exist, `w_plus [M, L, D]`: other faces for locality while tuning, and a shelf."""

    w_plus: Tensor

    def __init__(self, count: int, num_ws: int, w_dim: int) -> None:
        super().__init__()
        self.register_buffer("w_plus", torch.zeros(count, num_ws, w_dim))


def _mini_encoder(config: dict[str, Any]) -> nn.Module:
    return Encoder(EncoderConfig(**config))


def _units(config: dict[str, Any]) -> dict[str, Any]:
    return (
        config | {"units": tuple((width, count) for width, count in config["units"])} if "units" in config else config
    )


def _e4e(config: dict[str, Any]) -> nn.Module:
    return E4E(**_units(config))


def _restyle(config: dict[str, Any]) -> nn.Module:
    return ReStyle(**_units(config))


def _arcface(config: dict[str, Any]) -> nn.Module:
    return ArcFace(**_units(config))


def _curricularface(config: dict[str, Any]) -> nn.Module:
    return CurricularFace(**_units(config))


def _flow(config: dict[str, Any]) -> nn.Module:
    flow = dict(config["flow"])
    flow["hidden"], flow["condition_scale"] = tuple(flow["hidden"]), tuple(flow["condition_scale"])
    pose = dict(config["pose"])
    pose["neutral"] = tuple(pose["neutral"])
    return HeadPoseFlow(StyleFlow(FlowConfig(**flow)), PoseCondition(**pose))


def _generator(config: dict[str, Any]) -> nn.Module:
    return StyleGAN2Generator(GeneratorConfig(**(config | {"channels": tuple(config["channels"])})))


def _mobile_generator(config: dict[str, Any]) -> nn.Module:
    lists = {name: tuple(config[name]) for name in ("channels", "heads")}
    return MobileGenerator(MobileGeneratorConfig(**(config | lists)))


def _picture_heads(config: dict[str, Any]) -> nn.Module:
    lists = {name: tuple(config[name]) for name in ("channels", "heads")}
    return picture_heads(MobileGeneratorConfig(**(config | lists)))


# How to build each network from its configuration: slot -> kind -> builder. Other kinds register here.
BUILDERS: dict[str, dict[str, Callable[[dict[str, Any]], nn.Module]]] = {
    "generator": {"stylegan2": _generator, "mobile_stylegan": _mobile_generator},
    "heads": {"mobile_stylegan": _picture_heads},  # of a pack whose generator is had elsewhere
    "mapping": {"stylegan2": lambda config: Mapping(**config)},
    "encoder": {"mini": _mini_encoder, "e4e": _e4e},
    "restyle": {"e4e": _restyle},
    "flow": {"styleflow": _flow},
    "identity": {"mini": lambda config: IdentityNet(**config), "arcface": _arcface},
    "parser": {"mini": lambda config: FaceParser(**config), "bisenet": lambda config: BiSeNet(**config)},
    "people": {"latents": lambda config: People(**config)},
    "lpips_vgg": {"lpips": lambda config: LPIPS("vgg")},
    "lpips_alex": {"lpips": lambda config: LPIPS("alex")},
    # Judges alone, of the pack `metrics`:
    "curricularface": {"ir101": _curricularface},
    "inception": {"fid": lambda config: Inception()},
    "i3d": {"kinetics400": lambda config: I3D()},
    "gaze": {"l2cs": lambda config: L2CS()},
    "action_units": {"libreface": lambda config: LibreFace()},
}
