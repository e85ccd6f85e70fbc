"""MobileStyleGAN's FFHQ student, from the two OpenVINO graphs of the wheel `random-face` to our networks.

The parameters' names are kept in the graph for the affine maps, the depthwise weights, the biases and the constant;
pointwise weights and noise are found beside them: bias <- (+ noise) <- convolution <- depthwise convolution.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mien.errors import PackError
from mien.nets.mapping import LEARNING_RATE_MULTIPLIER, Mapping
from mien.nets.mobile_layers import FirstConv, MobileGeneratorConfig, SeparableConv, ToImage
from mien.nets.mobile_stylegan import MobileGenerator
from mien.packs.convert.openvino_ir import Graph

CONFIG = MobileGeneratorConfig(w_dim=512, channels=(512, 512, 512, 512, 512, 256, 128, 64))
W_MEAN_SAMPLES = 20_000


def read_generator(graph: Graph, config: MobileGeneratorConfig = CONFIG) -> MobileGenerator:
    """The synthesis network of `SynthesisNetwork.xml`, without heads. Raises PackError where the graph is another."""
    generator = MobileGenerator(config)
    _fill(generator.const, graph.constant(graph.named("m.input.input")))
    for name, block in zip(_names(config), generator.blocks, strict=True):
        convolution = isinstance(block, FirstConv | SeparableConv | ToImage)
        affine = f"{name}.conv.modulation" if convolution else f"{name}.modulation"
        # An affine map of ours divides its weights by the root of its width (`Affine.scale`).
        weight = graph.constant(graph.named(f"{affine}.weight")) * math.sqrt(config.w_dim)
        _fill(block.affine.weight, weight)  # type: ignore[union-attr, arg-type]
        bias = graph.named(f"{affine}.bias")
        _fill(block.affine.bias, graph.constant(bias)[0])  # type: ignore[union-attr, arg-type]
        if convolution:
            _check_gain(graph, bias, block.gain, name)  # type: ignore[arg-type]
            _fill_convolution(graph, name, block)
    return generator.eval().requires_grad_(False)


def read_mapping(graph: Graph, w_dim: int = 512) -> Mapping:
    """The mapping network of `MappingNetwork.xml`, without the mean of W (`mean_of_w`). Raises PackError."""
    products = [key for key, layer in graph.layers.items() if layer.kind == "MatMul"]
    mapping = Mapping(w_dim, len(products))
    for key, weight, bias in zip(products, mapping.weights, mapping.biases, strict=True):
        _fill(weight, _matrix(graph, key) / mapping.scale)
        _fill(bias, _bias_of(graph, key) / LEARNING_RATE_MULTIPLIER)
    return mapping.eval().requires_grad_(False)


def mean_of_w(mapping: Mapping) -> Tensor:
    """The mean of W `[D]` over samples with a fixed seed; its last digits depend on the processor."""
    noise = torch.randn(W_MEAN_SAMPLES, len(mapping.w_mean), generator=torch.Generator().manual_seed(0))
    return mapping(noise).mean(0)


def _names(config: MobileGeneratorConfig) -> list[str]:
    """The graph's name of every layer, in StyleSpace order."""
    blocks = [f"m.layers.{k}.{part}" for k in range(config.blocks) for part in ("up", "conv1", "conv2")]
    return ["m.conv1", *blocks, f"m.layers.{config.blocks - 1}.to_img"]


def _fill(parameter: Tensor, values: np.ndarray) -> None:
    if tuple(parameter.shape) != tuple(values.shape):
        raise PackError(f"the graph holds an array of {list(values.shape)} where {list(parameter.shape)} is expected.")
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def _check_gain(graph: Graph, bias: str, gain: float, name: str) -> None:
    """The constant that a style is multiplied by after its affine map is the one that our layer has."""
    added = graph.reader(bias)
    product = graph.reader(added, through=("Reshape", "Unsqueeze", "ShapeOf", "Gather", "Concat"))
    factor = graph.constant_input(product)
    if factor is None or factor.size != 1 or not math.isclose(float(factor.reshape(())), gain, rel_tol=1e-5):
        raise PackError(f"the style of {name} in the graph is not scaled as this generator scales it.")


def _fill_convolution(graph: Graph, name: str, block: torch.nn.Module) -> None:
    bias = graph.named(f"{name}.bias")
    added = graph.reader(bias)
    _fill(block.bias, graph.constant(bias).reshape(-1))  # type: ignore[arg-type]
    before = graph.other_input(added)
    if not isinstance(block, ToImage):
        noise = graph.constant_input(before)
        if graph.layers[before].kind != "Add" or noise is None:
            raise PackError(f"the layer {name} of the graph adds no noise.")
        _fill(block.noise_const, noise[0, 0])  # type: ignore[arg-type]
        before = graph.other_input(before)
    weight = graph.constant_input(before)
    if graph.layers[before].kind != "Convolution" or weight is None:
        raise PackError(f"the layer {name} of the graph is no convolution.")
    _fill(block.weight, weight)  # type: ignore[arg-type]
    if isinstance(block, SeparableConv):
        _fill(block.depthwise, graph.constant(graph.named(f"{name}.conv.weight_dw"))[:, 0])


def _matrix(graph: Graph, product: str) -> np.ndarray:
    """The `[out, in]` matrix of a `MatMul` layer."""
    matrix = graph.constant_input(product)
    if matrix is None or matrix.ndim != 2:
        raise PackError("the mapping network's graph multiplies by something that is no matrix.")
    transposed = graph.layers[product].attributes.get("transpose_b") == "true"
    return matrix if transposed else matrix.T


def _bias_of(graph: Graph, product: str) -> np.ndarray:
    """The bias `[out]` that is added to a product, by way of a `Reshape` to the product's shape."""
    for reader in graph.readers(product):
        if graph.layers[reader].kind == "Add":
            (beside,) = (source for source in graph.layers[reader].inputs if source != product)
            bias = graph.constant(graph.layers[beside].inputs[0] if graph.layers[beside].kind == "Reshape" else beside)
            return bias.reshape(-1)
    raise PackError("a layer of the mapping network's graph has no bias.")
