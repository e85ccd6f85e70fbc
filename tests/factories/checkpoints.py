"""Random weights in the layouts of the official checkpoints, for the tests of conversion and parity.

Every value follows from its tensor's name, so that a reference implementation elsewhere can be given the same weights.
Nothing here is trained, and nothing of the official files is in it.
"""

from __future__ import annotations

import math
import pickle
import sys
import types
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mien.nets.lpips import LPIPS, WIDTHS, Backbone
from mien.packs.convert.pickle_names import LazyTensor, Storage

_ROOT3 = math.sqrt(3)  # uniform values of this bound have unit variance
_FIR = torch.tensor([1.0, 3.0, 3.0, 1.0])
FIR = _FIR[:, None] * _FIR / 64


def noise(name: str, shape: Iterable[int], low: float = -1.0, high: float = 1.0) -> Tensor:
    """Uniform values in [low, high], of 256 levels, that follow from `name`."""
    shape = tuple(shape)
    count = math.prod(shape)
    raw = np.frombuffer(np.random.RandomState(zlib.crc32(name.encode())).bytes(count), np.uint8)
    return torch.from_numpy(low + (high - low) / 255 * raw.astype(np.float32)).reshape(shape)


def like(state: dict[str, Tensor], tag: str) -> dict[str, Tensor]:
    """Values for a convolutional network's state dict that keep its activations in range."""
    made = {}
    for name, tensor in state.items():
        key = f"{tag}/{name}"
        if not tensor.is_floating_point():
            made[name] = tensor.clone()
        elif tensor.ndim >= 2:
            # Linear layers with equalised learning rate divide by the fan-in themselves.
            bound = _ROOT3 if name.endswith("linear.weight") else math.sqrt(3 / math.prod(tensor.shape[1:]))
            made[name] = noise(key, tensor.shape, -bound, bound)
        elif name.endswith("running_var"):
            made[name] = noise(key, tensor.shape, 0.5, 1.5)
        elif name.endswith("weight"):  # of a BatchNorm or a PReLU
            made[name] = noise(key, tensor.shape, 0.3, 1.1)
        else:
            made[name] = noise(key, tensor.shape, -0.2, 0.2)
    return made


def lazy(tree: Any) -> Any:
    """A tree of tensors as `load_checkpoint` would have read it, without a file."""
    if isinstance(tree, Tensor):
        whole = tree.contiguous().reshape(-1)
        data = memoryview(whole.numpy()).cast("B") if whole.numel() else None
        return LazyTensor(Storage(tree.dtype, whole.numel(), data), 0, tuple(tree.shape), tree.contiguous().stride())
    if isinstance(tree, dict):
        return {key: lazy(value) for key, value in tree.items()}
    return tree


def rosinality(widths: tuple[int, ...], w_dim: int = 512, mapping_layers: int = 8) -> dict[str, Tensor]:
    """The `g_ema` of a StyleGAN2 in rosinality's layout; `widths` from 4x4 upwards."""
    made: dict[str, Tensor] = {}

    def add(name: str, *shape: int, bound: float = _ROOT3) -> None:
        made[name] = noise(f"rosinality/{name}", shape, -bound, bound)

    def modulated(name: str, in_width: int, out_width: int, kernel: int) -> None:
        add(f"{name}.conv.weight", 1, out_width, in_width, kernel, kernel)
        add(f"{name}.conv.modulation.weight", in_width, w_dim)
        made[f"{name}.conv.modulation.bias"] = noise(f"rosinality/{name}/bias", (in_width,), 0.8, 1.2)

    def styled(name: str, in_width: int, out_width: int, up: bool) -> None:
        modulated(name, in_width, out_width, 3)
        if up:
            made[f"{name}.conv.blur.kernel"] = FIR * 4
        add(f"{name}.noise.weight", 1, bound=0.3)
        add(f"{name}.activate.bias", out_width, bound=0.5)

    def to_rgb(name: str, width: int, up: bool) -> None:
        if up:
            made[f"{name}.upsample.kernel"] = FIR * 4
        modulated(name, width, 3, 1)
        add(f"{name}.bias", 1, 3, 1, 1, bound=0.5)

    for i in range(1, mapping_layers + 1):
        add(f"style.{i}.weight", w_dim, w_dim, bound=100 * _ROOT3)
        add(f"style.{i}.bias", w_dim, bound=30)
    add("input.input", 1, widths[0], 4, 4)
    styled("conv1", widths[0], widths[0], False)
    to_rgb("to_rgb1", widths[0], False)
    for i, width in enumerate(widths[1:]):
        styled(f"convs.{2 * i}", widths[i], width, True)
        styled(f"convs.{2 * i + 1}", width, width, False)
        to_rgb(f"to_rgbs.{i}", width, True)
    for i in range(2 * len(widths) - 1):
        side = 2 ** ((i + 5) // 2)
        add(f"noises.noise_{i}", 1, 1, side, side)
    return made


def nvidia(widths: tuple[int, ...], w_dim: int = 512, mapping_layers: int = 8) -> dict[str, Tensor]:
    """The state of NVIDIA's `G_ema`; `widths` from 4x4 upwards."""
    made: dict[str, Tensor] = {}

    def add(name: str, *shape: int, bound: float = _ROOT3) -> None:
        made[name] = noise(f"nvidia/{name}", shape, -bound, bound)

    def layer(name: str, in_width: int, out_width: int, kernel: int, side: int) -> None:
        add(f"{name}.weight", out_width, in_width, kernel, kernel)
        add(f"{name}.bias", out_width, bound=0.5)
        add(f"{name}.affine.weight", in_width, w_dim)
        made[f"{name}.affine.bias"] = noise(f"nvidia/{name}/affine", (in_width,), 0.8, 1.2)
        if kernel == 3:
            made[f"{name}.resample_filter"] = FIR.clone()
            add(f"{name}.noise_const", side, side)
            add(f"{name}.noise_strength", bound=0.3)

    for i in range(mapping_layers):
        add(f"mapping.fc{i}.weight", w_dim, w_dim, bound=100 * _ROOT3)
        add(f"mapping.fc{i}.bias", w_dim, bound=30)
    add("mapping.w_avg", w_dim, bound=0.3)
    add("synthesis.b4.const", widths[0], 4, 4)
    for i, width in enumerate(widths):
        side, block = 4 * 2**i, f"synthesis.b{4 * 2**i}"
        made[f"{block}.resample_filter"] = FIR.clone()
        if i:
            layer(f"{block}.conv0", widths[i - 1], width, 3, side)
        layer(f"{block}.conv1", width, width, 3, side)
        layer(f"{block}.torgb", width, 3, 1, side)
    return made


def nvidia_pickle(state: dict[str, Tensor], clamp: float | None = None) -> bytes:
    """A pickle as NVIDIA's `persistence` writes it: modules as (function, metadata with source code and state)."""
    tree: dict[str, Any] = {}
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = tensor

    def module(node: dict[str, Any]) -> _Persistent:
        buffers = ("resample_filter", "noise_const", "w_avg")
        own = {name: value for name, value in node.items() if isinstance(value, Tensor)}
        return _Persistent(
            {
                "training": False,
                "_parameters": {n: torch.nn.Parameter(t, False) for n, t in own.items() if n not in buffers},
                "_buffers": {n: t for n, t in own.items() if n in buffers},
                "_modules": {n: module(child) for n, child in node.items() if isinstance(child, dict)},
                "_non_persistent_buffers_set": set(),
                "act_gain": np.sqrt(2),
                "conv_clamp": clamp,
            }
        )

    names = ("torch_utils", "torch_utils.persistence")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[names[1]]._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    try:
        return pickle.dumps({"G": None, "D": None, "G_ema": module(tree)}, 3)
    finally:
        for name in names:
            del sys.modules[name]


def _reconstruct_persistent_obj(*_: Any) -> None:
    raise AssertionError("a checkpoint's function was called")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class _Persistent:
    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        source = "raise SystemExit('the source code of a checkpoint was run')"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": "Any", "state": self.state}
        return _reconstruct_persistent_obj, (meta,)


def styleflow(dim: int = 512, hidden: int = 512, condition: int = 17) -> dict[str, Tensor]:
    """StyleFlow's state dict."""
    made: dict[str, Tensor] = {}
    for i in (0, 2):
        for name, low, high in (("weight", -0.3, 0.3), ("bias", -0.3, 0.3), ("running_mean", -0.3, 0.3)):
            made[f"chain.{i}.{name}"] = noise(f"flow/{i}/{name}", (dim,), low, high)
        made[f"chain.{i}.running_var"] = noise(f"flow/{i}/var", (dim,), 0.3, 1.5)
        made[f"chain.{i}.step"] = torch.ones(1)
    made["chain.1.sqrt_end_time"] = torch.tensor(0.9)
    made["chain.1.odefunc._num_evals"] = torch.tensor(0.0)
    widths = (dim, *([hidden] * 5), dim)
    for i in range(6):
        prefix = f"chain.1.odefunc.diffeq.layers.{i}."
        bound = 2 / math.sqrt(widths[i])
        made[f"{prefix}_layer.weight"] = noise(prefix + "w", (widths[i + 1], widths[i]), -bound, bound)
        made[f"{prefix}_layer.bias"] = noise(prefix + "b", (widths[i + 1],), -0.2, 0.2)
        made[f"{prefix}_hyper_bias.weight"] = noise(prefix + "h", (widths[i + 1], condition + 1), -0.05, 0.05)
        made[f"{prefix}_hyper_gate.weight"] = noise(prefix + "g", (widths[i + 1], condition + 1), -0.05, 0.05)
        made[f"{prefix}_hyper_gate.bias"] = noise(prefix + "gb", (widths[i + 1],), -0.2, 0.2)
    return made


def backbone(kind: Backbone) -> dict[str, Tensor]:
    """torchvision's VGG16 or AlexNet, with a classifier to be ignored."""
    state = {f"features.{k}": v for k, v in LPIPS(kind).layers.state_dict().items()}
    return like(state, kind) | {"classifier.6.bias": torch.zeros(1000)}


def heads(kind: Backbone) -> dict[str, Tensor]:
    """LPIPS's linear heads."""
    return {f"lin{i}.model.1.weight": noise(f"{kind}/{i}", (1, w, 1, 1), 0, 1) for i, w in enumerate(WIDTHS[kind])}
