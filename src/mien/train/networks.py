"""Generator, encoder and head-pose flow as they are trained, and how they start from a pack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mien.errors import PackError
from mien.nets.encoders import Encoder, EncoderConfig
from mien.nets.styleflow import HeadPoseFlow, mini_flow
from mien.nets.stylegan2 import GeneratorConfig, StyleGAN2Generator

W_DIM = 256
CHANNELS = (256, 256, 256, 128, 64, 32, 16)  # feature widths at 4, 8, ... 256: thin where pixels are many


@dataclass
class Networks:
    """The networks of the autoencoder; a pack takes their running average."""

    generator: StyleGAN2Generator
    encoder: Encoder
    flow: HeadPoseFlow

    @staticmethod
    def build(resolution: int) -> Networks:
        blocks = int(np.log2(resolution)) - 1
        config = GeneratorConfig(resolution, W_DIM, CHANNELS[:blocks])
        return Networks(StyleGAN2Generator(config), Encoder(EncoderConfig(config.num_ws, W_DIM)), mini_flow(W_DIM))

    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "encoder": self.encoder, "flow": self.flow}

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {name: module.state_dict() for name, module in self.modules().items()}

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        for name, module in self.modules().items():
            module.load_state_dict(state[name])

    def parameters(self) -> list[nn.Parameter]:
        return [p for module in self.modules().values() for p in module.parameters()]

    @torch.no_grad()
    def average(self, other: Networks, decay: float) -> None:
        torch._foreach_lerp_([*self.parameters()], [*other.parameters()], 1 - decay)


@torch.no_grad()
def load_matching(nets: Networks, pack: Path) -> None:
    """Copy a pack's generator, encoder and flow into `nets`, each tensor as far as shapes match. Raises PackError."""
    from mien.packs.pack import Pack

    learned = Pack.load(pack).networks
    encoder = learned.get("encoder")
    if not isinstance(encoder, Encoder):
        raise PackError(f"training cannot start from {pack}: it has no encoder of the kind that is trained here")
    for name, module in nets.modules().items():
        own = module.state_dict()
        if name == "generator":  # a block that the pack lacks begins by adding nothing to the image
            for key in own:
                if key.endswith("conv.weight") and own[key].shape[0] == 3 and own[key].shape[-1] == 1:
                    own[key].zero_()
        for key, value in learned[name].state_dict().items():
            if key in own and value.ndim:
                place = tuple(slice(0, min(a, b)) for a, b in zip(own[key].shape, value.shape, strict=True))
                own[key][place] = value[place]
        module.load_state_dict(own)
    # Rows of W+ that the pack's encoder does not write begin as its last one.
    fine, known = nets.encoder.fine, encoder.config.num_ws - encoder.config.coarse - encoder.config.middle
    for parameter in (fine.out.weight, fine.out.bias):
        rows = parameter.view(fine.rows, fine.w_dim, -1)
        rows[known:] = rows[known - 1]
