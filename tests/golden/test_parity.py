"""Each network gives what the public reference implementation of it gave on the same random weights.

`golden/parity.npz` holds outputs only (every few pixels of them), made by running the references on the weights of
`official.py`: NVlabs/stylegan2-ada-pytorch, rosinality/stylegan2-pytorch, omertov/encoder4editing,
yuval-alaluf/restyle-encoder, RameenAbdal/StyleFlow (dopri5 at 1e-5), TreB1eN/InsightFace_Pytorch,
zllrunning/face-parsing.PyTorch and richzhang/PerceptualSimilarity. They are not needed to run this.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from factories import GOLDEN
from factories import checkpoints as official
from mien.nets.arcface import ArcFace
from mien.nets.bisenet import BiSeNet
from mien.nets.e4e import E4E, ReStyle
from mien.nets.lpips import Backbone
from mien.packs.convert import checkpoint_layouts
from mien.packs.convert.torchfile import load_checkpoint

REFERENCE = np.load(GOLDEN / "parity.npz")
WIDTHS_NVIDIA = (64, 64, 64, 64, 32)  # at 64x64
WIDTHS_ROSINALITY = (512, 512, 512)  # at 16x16; the reference knows no narrower one
E4E_ROWS = 8  # coarse, middle and fine
RESTYLE_ROWS = 2


def agrees(ours: Tensor, name: str, tolerance: float = 2e-5) -> None:
    """The largest difference is at most `tolerance` of the largest value (the references agreed to below 1e-5)."""
    golden = torch.from_numpy(REFERENCE[name])
    assert ours.shape == golden.shape
    error = (ours - golden).abs().max() / golden.abs().max()
    assert error <= tolerance, f"{name}: {error:.2e}"


def thin(image: Tensor) -> Tensor:
    return image[..., ::4, ::4]


@torch.no_grad()
@pytest.mark.parametrize("clamp", [None, 1.0])
def test_stylegan2_in_nvidias_layout(tmp_path: Path, clamp: float | None) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(official.nvidia_pickle(official.nvidia(WIDTHS_NVIDIA), clamp))
    found = checkpoint_layouts.stylegan2(load_checkpoint(path))
    assert found.generator.config.channels == WIDTHS_NVIDIA and found.generator.config.noise
    w_plus = official.noise("w", (2, 10, 512), -1.5, 1.5)
    agrees(thin(found.generator.synthesis(w_plus)), "nvidia" if clamp is None else "nvidia_clamp")
    styles = found.generator.styles(w_plus)
    assert torch.equal(found.generator.synthesis_from_styles(styles), found.generator.synthesis(w_plus))
    assert found.mapping is not None
    agrees(found.mapping(official.noise("z", (2, 512), -1.7, 1.7), 0.7), "nvidia_mapping")


@torch.no_grad()
def test_stylegan2_in_rosinalitys_layout() -> None:
    tree = {"g_ema": official.rosinality(WIDTHS_ROSINALITY), "latent_avg": official.noise("avg", (512,))}
    found = checkpoint_layouts.stylegan2(official.lazy(tree))
    assert found.generator.config.channels == WIDTHS_ROSINALITY and found.generator.config.noise
    agrees(thin(found.generator.synthesis(official.noise("w", (2, 6, 512), -1.5, 1.5))), "rosinality")
    assert found.mapping is not None
    agrees(found.mapping(official.noise("z", (2, 512), -1.7, 1.7), 0.7), "rosinality_mapping")


@torch.no_grad()
def test_e4e() -> None:
    state = official.like(E4E(E4E_ROWS).state_dict(), "e4e")
    mean = state.pop("w_mean")
    tree = {"state_dict": {f"encoder.{k}": v for k, v in state.items()}, "latent_avg": mean, "opts": {}}
    encoder = checkpoint_layouts.encoder(official.lazy(tree))
    assert isinstance(encoder, E4E)
    agrees(encoder(official.noise("face", (1, 3, 256, 256))), "e4e")


def blocks(w_plus: Tensor) -> Tensor:
    """Stands for a generator, at twice the encoder's size."""
    image = torch.tanh(w_plus.reshape(1, 1, 32, 32))
    return F.interpolate(image, scale_factor=16, mode="nearest").expand(-1, 3, -1, -1)


@torch.no_grad()
def test_restyle() -> None:
    state = official.like(ReStyle(RESTYLE_ROWS).state_dict(), "restyle")
    mean = state.pop("w_mean")
    state.pop("average")
    tree = {"state_dict": {f"encoder.{k}": v for k, v in state.items()}, "latent_avg": mean}
    encoder = checkpoint_layouts.encoder(official.lazy(tree))
    assert isinstance(encoder, ReStyle)
    encoder.average.copy_(official.noise("average", (1, 3, 256, 256)))

    agrees(encoder(official.noise("face", (1, 3, 256, 256)), blocks, 3), "restyle")


@torch.no_grad()
def test_styleflow() -> None:
    flow = checkpoint_layouts.styleflow(official.lazy(official.styleflow()))
    w_plus = official.noise("w", (1, 18, 512))[0]
    now, wished = (torch.tensor(checkpoint_layouts.FLOW_NEUTRAL).repeat(18, 1) for _ in range(2))
    now[:, 11:13], wished[:, 11:13] = torch.tensor([3.0, -2.0]), torch.tensor([15.0, 10.0])
    prior = flow.flow.to_prior(w_plus, now)
    agrees(prior, "flow_prior", 1e-3)
    agrees(flow.flow.from_prior(prior, wished), "flow_back", 1e-3)
    # Head pose through the pack's interface: yaw and pitch land in their places, and only the first rows move.
    turned = flow(w_plus[None], torch.tensor([[3.0, -2.0]]), torch.tensor([[15.0, 10.0]]))[0]
    assert torch.equal(turned[checkpoint_layouts.FLOW_ROWS :], w_plus[checkpoint_layouts.FLOW_ROWS :])
    golden = torch.from_numpy(REFERENCE["flow_back"])[: checkpoint_layouts.FLOW_ROWS]
    assert (turned[: checkpoint_layouts.FLOW_ROWS] - golden).abs().max() <= 1e-3 * golden.abs().max()


@torch.no_grad()
def test_arcface() -> None:
    network = checkpoint_layouts.arcface(official.lazy(official.like(ArcFace().state_dict(), "arcface")))
    agrees(network.embed(official.noise("face", (2, 3, 112, 112))), "arcface")
    agrees(network(official.noise("face", (2, 3, 256, 256))), "arcface_framed")


@torch.no_grad()
def test_bisenet() -> None:
    network = checkpoint_layouts.bisenet(official.lazy(official.like(BiSeNet().state_dict(), "bisenet")))
    x = official.noise("face", (1, 3, 512, 512), -2, 2)
    logits = F.interpolate(network.logits(x), x.shape[2:], mode="bilinear", align_corners=True)
    agrees(logits[..., ::16, ::16], "bisenet")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vgg", "alex"])
def test_lpips(kind: Backbone) -> None:
    trees = official.lazy(official.heads(kind)), official.lazy(official.backbone(kind))
    network = checkpoint_layouts.lpips(*trees, kind)
    a, b = official.noise("a", (2, 3, 64, 64)), official.noise("b", (2, 3, 64, 64))
    agrees(network(a, b), f"lpips_{kind}")
    features = zip(network.features(a), network.features(b), strict=True)
    agrees(sum((x - y).square().sum(1).mean((1, 2)) for x, y in features), f"lpips_{kind}")  # type: ignore[arg-type]
