"""The official checkpoints' layouts: what is called what in them, and how it becomes the state of our networks.

Each function takes what `torchfile.load_checkpoint` read and returns a network in evaluation mode, or raises
`UnsafePickle` with what the file lacks, a text that completes the sentence "FILE ...". Nothing is guessed from file
names: several files share one name in the wild.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mien.nets import irse
from mien.nets.arcface import ArcFace, CurricularFace
from mien.nets.bisenet import BiSeNet
from mien.nets.e4e import E4E, ReStyle
from mien.nets.efficientnet_lite import EfficientNetLite
from mien.nets.generator import StyleLayer
from mien.nets.i3d import I3D
from mien.nets.inception import Inception
from mien.nets.l2cs import L2CS
from mien.nets.libreface import LibreFace
from mien.nets.lpips import LPIPS, Backbone
from mien.nets.mapping import Mapping
from mien.nets.styleflow import FlowConfig, HeadPoseFlow, PoseCondition, StyleFlow
from mien.nets.stylegan2 import GeneratorConfig, StyleGAN2Generator
from mien.packs.convert.pickle_names import LazyTensor, Record, UnsafePickle
from mien.packs.convert.torchfile import tensors

FIR = (1.0, 3.0, 3.0, 1.0)

# StyleFlow's 17 conditions are nine numbers of light (spherical harmonics), then gender, glasses, yaw, pitch,
# baldness, beard, age in years and expression. The neutral condition is the mean of the 1000 people that its authors
# publish, glasses off and the head straight on.
FLOW_NEUTRAL = (
    0.854, -0.151, 0.280, -0.041, -0.022, -0.014, -0.163, -0.005, 0.121,
    0.433, 0.0, 0.0, 0.0, 0.074, 0.078, 30.5, 0.743,
)  # fmt: skip
FLOW_YAW, FLOW_PITCH = 11, 12
FLOW_ROWS = 4  # the rows of W+ that its authors let yaw and pitch change
FLOW_LIMIT = 20.0  # degrees
FLOW_STEPS = 12  # RK4 steps


@dataclass
class Fill:
    """Copies tensors of a checkpoint into a network, each by its name there, and checks every shape."""

    what: str
    source: MappingABC[str, LazyTensor]

    def has(self, name: str) -> bool:
        return name in self.source

    def get(self, name: str, shape: torch.Size | tuple[int, ...] | None = None) -> Tensor:
        """The tensor called `name` in float32. Raises UnsafePickle if it is missing or not of `shape`."""
        if name not in self.source:
            raise UnsafePickle(f"is not {self.what}: {name} is missing")
        tensor = self.source[name]
        if shape is not None and math.prod(tensor.shape) != math.prod(shape):
            raise UnsafePickle(f"is not {self.what}: {name} is {list(tensor.shape)}, not {list(shape)}")
        if shape is not None and tuple(d for d in tensor.shape if d != 1) != tuple(d for d in shape if d != 1):
            raise UnsafePickle(f"is not {self.what}: {name} is {list(tensor.shape)}, not {list(shape)}")
        value = tensor.load()
        value = value.float() if value.is_floating_point() else value
        return value if shape is None else value.reshape(shape)

    def into(self, target: Tensor, name: str) -> None:
        """Copies `name` into `target`; dimensions of length one may differ."""
        with torch.no_grad():
            target.copy_(self.get(name, target.shape))

    def module(self, network: nn.Module, prefix: str = "", skip: tuple[str, ...] = ()) -> None:
        """Copies every tensor of `network`, which has the checkpoint's own names. BatchNorm's counters may be missing:
        files saved before 2018 have none, and evaluation does not use them."""
        for name, target in network.state_dict().items():
            if name not in skip and not name.endswith("num_batches_tracked"):
                self.into(target, prefix + name)


_Network = TypeVar("_Network", bound=nn.Module)


def _freeze(network: _Network) -> _Network:
    return network.eval().requires_grad_(False)


def _flat(tree: Any, *keys: str) -> dict[str, LazyTensor]:
    """The tensors of a state dict, which may lie under one of `keys`."""
    if isinstance(tree, dict):
        for key in keys:
            if isinstance(tree.get(key), dict):
                return tensors(tree[key])
    return tensors(tree)


def _strip(source: MappingABC[str, LazyTensor], prefix: str) -> dict[str, LazyTensor]:
    return {name.removeprefix(prefix): t for name, t in source.items() if name.startswith(prefix)}


# --- StyleGAN2 ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StyleGAN2:
    """A generator and, where the file has it, its mapping network."""

    generator: StyleGAN2Generator
    mapping: Mapping | None


def stylegan2(tree: Any) -> StyleGAN2:
    """NVIDIA's pickle (`G_ema`), rosinality's `.pt` (`g_ema`), or the decoder within an e4e or ReStyle checkpoint."""
    if isinstance(tree, dict) and isinstance(tree.get("G_ema"), Record):
        return _nvidia(tree["G_ema"])
    if isinstance(tree, Record):
        return _nvidia(tree)
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        return _rosinality(_strip(tensors(tree["state_dict"]), "decoder."), tree.get("latent_avg"))
    if isinstance(tree, dict):
        return _rosinality(_flat(tree, "g_ema"), tree.get("latent_avg"))
    raise UnsafePickle("is not a StyleGAN2 checkpoint")


def _rosinality(source: dict[str, LazyTensor], latent_avg: Any) -> StyleGAN2:
    fill = Fill("a StyleGAN2 generator in rosinality's layout", source)
    widths = [fill.get("input.input").shape[1]]
    while fill.has(f"convs.{2 * len(widths) - 1}.conv.weight"):
        widths.append(source[f"convs.{2 * len(widths) - 1}.conv.weight"].shape[1])
    noise = all(fill.has(f"noises.noise_{i}") for i in range(2 * len(widths) - 1))
    w_dim = fill.get("conv1.conv.modulation.weight").shape[-1]
    config = GeneratorConfig(4 * 2 ** (len(widths) - 1), w_dim, tuple(widths), noise)
    for name in source:
        if re.fullmatch(r"(convs\.\d+\.conv\.blur|to_rgbs\.\d+\.upsample)\.kernel", name):
            _check_fir(fill.get(name))
    generator = StyleGAN2Generator(config)
    fill.into(generator.const, "input.input")
    noises = iter(range(2 * len(widths) - 1))
    block: Any
    for layer, block in zip(generator.layers, generator.blocks, strict=True):
        prefix = _rosinality_name(layer)
        fill.into(block.affine.weight, f"{prefix}.conv.modulation.weight")
        fill.into(block.affine.bias, f"{prefix}.conv.modulation.bias")
        fill.into(block.conv.weight, f"{prefix}.conv.weight")
        fill.into(block.bias, f"{prefix}.bias" if layer.to_rgb else f"{prefix}.activate.bias")
        if noise and not layer.to_rgb:
            fill.into(block.noise_strength, f"{prefix}.noise.weight")
            fill.into(block.noise_const, f"noises.noise_{next(noises)}")
    mapping = None
    if fill.has("style.1.weight"):
        names = [(f"style.{i}.weight", f"style.{i}.bias") for i in range(1, 33) if fill.has(f"style.{i}.weight")]
        mapping = _mapping(fill, names, w_dim)
        if isinstance(latent_avg, LazyTensor):
            # e4e repeats the mean for every row of W+.
            mapping.w_mean.copy_(latent_avg.load().float().reshape(-1, w_dim)[0])
    return StyleGAN2(_freeze(generator), mapping)


def _rosinality_name(layer: StyleLayer) -> str:
    if layer.resolution == 4:
        return "to_rgb1" if layer.to_rgb else "conv1"
    level = int(math.log2(layer.resolution)) - 3
    if layer.to_rgb:
        return f"to_rgbs.{level}"
    return f"convs.{2 * level + (0 if layer.name.endswith('Conv0_up') else 1)}"


def _nvidia(network: Record) -> StyleGAN2:
    fill = Fill("a StyleGAN2 generator in NVIDIA's layout", tensors(network))
    widths: list[int] = []
    while fill.has(f"synthesis.b{4 * 2 ** len(widths)}.conv1.weight"):
        widths.append(fill.source[f"synthesis.b{4 * 2 ** len(widths)}.conv1.weight"].shape[0])
    if not widths:
        raise UnsafePickle(f"is not {fill.what}: synthesis.b4.conv1.weight is missing")
    for name in fill.source:
        if name.endswith("resample_filter"):
            _check_fir(fill.get(name))
        if re.fullmatch(r"synthesis\.b\d+\.skip\..*|mapping\.embed\..*", name):
            raise UnsafePickle("holds a StyleGAN2 of another architecture (residual or class-conditional) than FFHQ's")
    noise = fill.has("synthesis.b4.conv1.noise_const")
    w_dim = fill.get("synthesis.b4.conv1.affine.weight").shape[1]
    config = GeneratorConfig(4 * 2 ** (len(widths) - 1), w_dim, tuple(widths), noise, _nvidia_clamp(network))
    generator = StyleGAN2Generator(config)
    fill.into(generator.const, "synthesis.b4.const")
    block: Any
    for layer, block in zip(generator.layers, generator.blocks, strict=True):
        up = layer.name.endswith("Conv0_up")
        prefix = f"synthesis.b{layer.resolution}." + ("torgb" if layer.to_rgb else "conv0" if up else "conv1")
        for ours, theirs in ((block.affine.weight, "affine.weight"), (block.affine.bias, "affine.bias")):
            fill.into(ours, f"{prefix}.{theirs}")
        fill.into(block.bias, f"{prefix}.bias")
        fill.into(block.conv.weight, f"{prefix}.weight")
        if noise and not layer.to_rgb:
            fill.into(block.noise_strength, f"{prefix}.noise_strength")
            fill.into(block.noise_const, f"{prefix}.noise_const")
    mapping = None
    if fill.has("mapping.fc0.weight"):
        names = [(f"mapping.fc{i}.weight", f"mapping.fc{i}.bias") for i in range(32) if fill.has(f"mapping.fc{i}.bias")]
        mapping = _mapping(fill, names, w_dim)
        if fill.has("mapping.w_avg"):
            fill.into(mapping.w_mean, "mapping.w_avg")
    return StyleGAN2(_freeze(generator), mapping)


def _nvidia_clamp(network: Record) -> float | None:
    """The limit of the layers' outputs that the weights were trained with, one for all layers."""
    node: Any = network
    for name in ("synthesis", "b4", "conv1"):
        node = node.state["_modules"].get(name) if isinstance(node, Record) and isinstance(node.state, dict) else None
    clamp = node.state.get("conv_clamp") if isinstance(node, Record) and isinstance(node.state, dict) else None
    return float(clamp) if isinstance(clamp, (int, float)) else None


def _mapping(fill: Fill, names: list[tuple[str, str]], dim: int) -> Mapping:
    mapping = Mapping(dim, len(names))
    for i, (weight, bias) in enumerate(names):
        fill.into(mapping.weights[i], weight)
        fill.into(mapping.biases[i], bias)
    return _freeze(mapping)


def _check_fir(kernel: Tensor) -> None:
    taps = torch.tensor(FIR)
    expected = taps[:, None] * taps / taps.sum() ** 2
    if kernel.shape != expected.shape or not torch.allclose(kernel / kernel.sum(), expected, atol=1e-6):
        raise UnsafePickle("holds a StyleGAN2 that resamples with another filter than FFHQ's")


# --- Encoders ----------------------------------------------------------------------------------------------------


def encoder(tree: Any) -> E4E | ReStyle:
    """An e4e or a ReStyle-e4e checkpoint, told apart by what it holds.

    ReStyle's `average` (the render that its loop starts from) stays empty: it needs the generator.
    """
    if not isinstance(tree, dict) or not isinstance(tree.get("state_dict"), dict):
        raise UnsafePickle("is not an e4e or ReStyle checkpoint: state_dict is missing")
    fill = Fill("an e4e or ReStyle-e4e encoder", _strip(tensors(tree["state_dict"]), "encoder."))
    rows = 0
    while fill.has(f"styles.{rows}.linear.weight"):
        rows += 1
    if rows == 0:
        raise UnsafePickle("is not an e4e or ReStyle-e4e encoder: styles.0.linear.weight is missing")
    channels = fill.get("input_layer.0.weight").shape[1]
    network: E4E | ReStyle
    if channels == 6 and not fill.has("latlayer1.weight"):
        network = ReStyle(rows, _units(fill.source))
    elif channels == 3 and fill.has("latlayer1.weight"):
        network = E4E(rows, _units(fill.source))
    else:
        raise UnsafePickle("holds an encoder of another kind than e4e and ReStyle-e4e")
    fill.module(network, skip=("w_mean", "average"))
    options = tree.get("opts")
    options = options.state if isinstance(options, Record) else options
    from_mean = not isinstance(options, dict) or options.get("start_from_latent_avg", True)
    if isinstance(network, ReStyle) or from_mean:
        mean = tree.get("latent_avg")
        if not isinstance(mean, LazyTensor):
            raise UnsafePickle("holds an encoder that starts from a mean latent, but no latent_avg")
        network.w_mean.copy_(mean.load().float().reshape(-1, 512).expand(rows, -1))
    return _freeze(network)


# --- The flow and the judges -------------------------------------------------------------------------------------


def styleflow(tree: Any) -> HeadPoseFlow:
    """StyleFlow's `modellarge10k.pt`: normalisation, one continuous flow, normalisation."""
    fill = Fill("a StyleFlow checkpoint", _flat(tree, "state_dict", "model"))
    prefix = "chain.1.odefunc.diffeq.layers"
    widths = [fill.get(f"{prefix}.0._layer.weight").shape[1]]
    while fill.has(f"{prefix}.{len(widths) - 1}._layer.weight"):
        widths.append(fill.source[f"{prefix}.{len(widths) - 1}._layer.weight"].shape[0])
    condition = fill.get(f"{prefix}.0._hyper_gate.weight").shape[1] - 1
    if condition != len(FLOW_NEUTRAL):
        raise UnsafePickle(f"holds a StyleFlow that takes {condition} attributes, not the official {len(FLOW_NEUTRAL)}")
    flow = StyleFlow(FlowConfig(widths[0], tuple(widths[1:-1]), condition, FLOW_STEPS))
    for norm, index in ((flow.norm_in, 0), (flow.norm_out, 2)):
        for name in ("weight", "bias", "running_mean", "running_var"):
            fill.into(getattr(norm, name), f"chain.{index}.{name}")
    fill.into(flow.sqrt_end_time, "chain.1.sqrt_end_time")
    layer: Any
    for i, layer in enumerate(flow.layers):
        fill.into(layer.layer.weight, f"{prefix}.{i}._layer.weight")
        fill.into(layer.layer.bias, f"{prefix}.{i}._layer.bias")
        fill.into(layer.shift.weight, f"{prefix}.{i}._hyper_bias.weight")
        fill.into(layer.gate.weight, f"{prefix}.{i}._hyper_gate.weight")
        fill.into(layer.gate.bias, f"{prefix}.{i}._hyper_gate.bias")
    pose = PoseCondition(FLOW_NEUTRAL, FLOW_YAW, FLOW_PITCH, FLOW_ROWS, -1, FLOW_LIMIT)
    return _freeze(HeadPoseFlow(flow, pose))


def arcface(tree: Any) -> ArcFace:
    """`model_ir_se50.pth`."""
    network = ArcFace()
    Fill("an ArcFace IR-SE50 network", _flat(tree, "state_dict")).module(network)
    return _freeze(network)


def bisenet(tree: Any) -> BiSeNet:
    """`79999_iter.pth`."""
    network = BiSeNet()
    Fill("a BiSeNet face parser of 19 classes", _flat(tree, "state_dict")).module(network)
    return _freeze(network)


def lpips(heads: Any, backbone: Any, kind: Backbone) -> LPIPS:
    """LPIPS's linear heads (`vgg.pth`, `alex.pth`) over torchvision's VGG16 or AlexNet."""
    network = LPIPS(kind)
    name = {"vgg": "VGG16", "alex": "AlexNet"}[kind]
    Fill(f"torchvision's {name}", _flat(backbone, "state_dict")).module(network.layers, "features.")
    fill = Fill(f"LPIPS's heads for {name}", _flat(heads, "state_dict"))
    for i, weight in enumerate(network.lin):
        fill.into(weight, f"lin{i}.model.1.weight")
    return _freeze(network)


# --- Judges of `mien evaluate` alone -----------------------------------------------------------------------------


def curricularface(tree: Any) -> CurricularFace:
    """`CurricularFace_Backbone.pth`."""
    source = _without_module(_flat(tree, "state_dict", "model"))
    return _own_names(CurricularFace(_units(source, irse.UNITS_101)), tree, "a CurricularFace IR-101 network")


def inception(tree: Any) -> Inception:
    """FID's network, `pt_inception-2015-12-05-6726825d.pth`."""
    return _own_names(Inception(), tree, "FID's Inception network")


def i3d(tree: Any) -> I3D:
    """FVD's network, `i3d_pretrained_400.pt` or `rgb_imagenet.pt`."""
    return _own_names(I3D(), tree, "an I3D network of 400 classes")


def gaze(tree: Any) -> L2CS:
    """L2CS-Net's `L2CSNet_gaze360.pkl`."""
    return _own_names(L2CS(), tree, "an L2CS-Net of 90 bins over ResNet-50")


def action_units(tree: Any) -> LibreFace:
    """LibreFace's `resnet.pt` of action units' intensities."""
    return _own_names(LibreFace(), tree, "LibreFace's network of action units")


def efficientnet_lite0(tree: Any) -> EfficientNetLite:
    """The wheel's `efficientnet-lite0-57934424.pth`."""
    return _own_names(EfficientNetLite(0), tree, "EfficientNet-Lite0 of 1000 classes")


def efficientnet_lite1(tree: Any) -> EfficientNetLite:
    """The wheel's `efficientnet-lite1-77cc7160.pth`."""
    return _own_names(EfficientNetLite(1), tree, "EfficientNet-Lite1 of 1000 classes")


def _own_names(network: _Network, tree: Any, what: str) -> _Network:
    Fill(what, _without_module(_flat(tree, "state_dict", "model"))).module(network)
    return _freeze(network)


def _without_module(source: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Names without the prefix of a network that was saved from several GPUs."""
    several = bool(source) and all(name.startswith("module.") for name in source)
    return _strip(source, "module.") if several else source


def _units(source: MappingABC[str, LazyTensor], usual: irse.Units = irse.UNITS) -> irse.Units:
    """The groups of units of a residual trunk, by its second convolutions; `usual` where it has none."""
    widths: list[int] = []
    while (name := f"body.{len(widths)}.res_layer.3.weight") in source:
        widths.append(source[name].shape[0])
    return irse.units_of(widths) if widths else usual
