"""Networks' functions in C (`mien.runtime.compiled`): `synthesis.c` (decoding of StyleGAN2), `mobile.c` (decoding of
MobileStyleGAN), `separable.c` (its layers with gradients), `winograd.c` (3x3 convolutions), `convolution.c` (their
gradients for weights), `flow.c` (StyleFlow), `residual.c` (EfficientNet's blocks).

Where there is no compiler, the functions here give None and PyTorch does the work.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from mien.runtime.compiled import compiled_library

POINTERS = (
    *("x", "weight", "weight16", "scale16", "style", "scale", "bias", "noise", "rgb_weight", "border", "y", "rgb"),
    *("spread", "scratch"),
)
NUMBERS = ("height", "width", "channels", "outputs", "first", "last", "x_lines", "y_lines", "spread_lines")


class Layer(ctypes.Structure):
    """The arguments of the layers; what they are, synthesis.c says beside its own."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in POINTERS),
        ("clamp", ctypes.c_float),
        *((name, ctypes.c_int32) for name in NUMBERS),
    ]


class MobileLayer(ctypes.Structure):
    """mobile.c's `Layer`: a depthwise convolution and a product; what its arguments are, is said there."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("taps", "weight", "weight16", "scale16", "bias", "noise")),
        ("slope", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("channels", "outputs")),
    ]


class MobileBlock(ctypes.Structure):
    """mobile.c's `Block`: a transform, two layers, a picture; what its arguments are, is said there."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "up")),
        *((name, MobileLayer) for name in ("first", "second", "image")),
        *((name, ctypes.c_void_p) for name in ("y", "picture", "bytes")),
        *((name, ctypes.c_int32) for name in ("height", "width")),
    ]


class ResidualBlock(ctypes.Structure):
    """residual.c's `Block`; what its arguments are, is said there."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("expand", "expand_bias", "taps", "taps_bias")),
        *((name, ctypes.c_void_p) for name in ("project", "project_bias", "project_back", "expand_back")),
        *((name, ctypes.c_int32) for name in ("channels", "inner", "outputs", "kernel", "stride", "shortcut")),
    ]


MOST_LAYERS = 8  # of a flow


class Flow(ctypes.Structure):
    """flow.c's `Flow`: a chain of layers at all times; what its arguments are, is said there."""

    _fields_ = [
        *(
            (name, ctypes.c_void_p * MOST_LAYERS)
            for name in ("weight", "transposed", "bias", "gate", "shift", "of_gate", "of_shift")
        ),
        ("step", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("layers", "steps", "rows")),
        ("width", ctypes.c_int32 * (MOST_LAYERS + 1)),
    ]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled functions for StyleGAN2, or None where they cannot be had."""
    found = compiled_library(__name__, "synthesis")
    if found is None:
        return None
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    found.scratch_size.restype, found.scratch_size.argtypes = ctypes.c_long, [integer]
    for layer in (found.convolution_layer, found.spreading_layer, found.filtering_layer):
        layer.restype, layer.argtypes = None, [ctypes.POINTER(Layer)]
    found.block_size.restype, found.block_size.argtypes = ctypes.c_long, [integer] * 2
    found.block.restype, found.block.argtypes = None, [ctypes.POINTER(Layer)] * 2 + [pointer]
    found.upsample_rgb.restype, found.upsample_rgb.argtypes = None, [pointer] * 3 + [integer] * 4
    found.to_bytes.restype, found.to_bytes.argtypes = None, [pointer, pointer, ctypes.c_long]
    found.has_int16.restype, found.has_int16.argtypes = integer, []
    return found


@lru_cache(maxsize=1)
def mobile_library() -> ctypes.CDLL | None:
    """The compiled functions for MobileStyleGAN, or None where they cannot be had."""
    found = compiled_library(__name__, "mobile")
    if found is None:
        return None
    pointer, integer, layer = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(MobileLayer)
    block = ctypes.POINTER(MobileBlock)
    found.block_size.restype, found.block_size.argtypes = ctypes.c_long, [block]
    found.block.restype, found.block.argtypes = None, [block, pointer, integer, integer, pointer]
    found.has_int16.restype, found.has_int16.argtypes = integer, []
    found.panels_of.restype = None
    found.panels_of.argtypes = [layer, pointer, ctypes.c_long, integer, pointer, pointer]
    return found


@lru_cache(maxsize=1)
def separable_library() -> ctypes.CDLL | None:
    """The compiled functions for MobileStyleGAN's layers with gradients, or None where they cannot be had."""
    found = compiled_library(__name__, "separable")
    if found is None:
        return None
    pointer, integer, number = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
    arguments: dict[str, list[Any]] = {
        "depthwise": [pointer] * 4 + [integer] * 4,
        "depthwise_taps": [pointer] * 4 + [integer] * 4,
        "activate": [pointer] * 3 + [number] + [integer] * 3,
        "activate_backward": [pointer] * 2 + [number] + [pointer] * 3 + [integer] * 3,
        "inverse_haar": [pointer] * 3 + [integer] * 4,
        "inverse_haar_backward": [pointer] * 5 + [integer] * 4,
    }
    for name, types in arguments.items():
        function = getattr(found, name)
        function.restype, function.argtypes = None, types
    return found


@lru_cache(maxsize=1)
def convolution_library() -> ctypes.CDLL | None:
    """The compiled gradient of a convolution for its weights, or None where it cannot be had."""
    found = compiled_library(__name__, "convolution")
    if found is None:
        return None
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    found.convolution_weights_scratch.restype = ctypes.c_long
    found.convolution_weights_scratch.argtypes = [integer] * 6
    found.convolution_weights.restype = None
    found.convolution_weights.argtypes = [pointer] * 4 + [integer] * 9 + [ctypes.c_long] * 3
    return found


@lru_cache(maxsize=1)
def winograd_library() -> ctypes.CDLL | None:
    """The compiled 3x3 convolution, or None where it cannot be had."""
    found = compiled_library(__name__, "winograd")
    if found is None:
        return None
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    found.transform_weight.restype = None
    found.transform_weight.argtypes = [pointer] * 2 + [integer] * 2 + [ctypes.c_long] * 4
    found.convolution_scratch.restype, found.convolution_scratch.argtypes = ctypes.c_long, [integer] * 2
    found.convolution.restype, found.convolution.argtypes = None, [pointer] * 5 + [integer] * 5
    found.winograd_weights_scratch.restype = ctypes.c_long
    found.winograd_weights_scratch.argtypes = [integer] * 2
    found.winograd_weights.restype = None
    found.winograd_weights.argtypes = [pointer] * 4 + [integer] * 5 + [ctypes.c_long] * 4
    return found


@lru_cache(maxsize=1)
def flow_library() -> ctypes.CDLL | None:
    """The compiled integration of StyleFlow, or None where it cannot be had."""
    found = compiled_library(__name__, "flow")
    if found is None:
        return None
    pointer, integer, flow = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Flow)
    found.flow_saved.restype, found.flow_saved.argtypes = ctypes.c_long, [flow, integer]
    found.flow_scratch.restype, found.flow_scratch.argtypes = ctypes.c_long, [flow]
    found.flow_forward.restype, found.flow_forward.argtypes = None, [flow, pointer, pointer, pointer, integer]
    found.flow_backward.restype, found.flow_backward.argtypes = None, [flow, pointer, pointer, pointer]
    return found


@lru_cache(maxsize=1)
def residual_library() -> ctypes.CDLL | None:
    """The compiled inverted residual block, or None where it cannot be had."""
    found = compiled_library(__name__, "residual")
    if found is None:
        return None
    pointer, integer, block = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ResidualBlock)
    found.residual_scratch.restype, found.residual_scratch.argtypes = ctypes.c_long, [block, integer]
    found.residual.restype, found.residual.argtypes = None, [block, *[pointer] * 5, integer, integer]
    found.residual_back.restype, found.residual_back.argtypes = None, [block, *[pointer] * 5, integer, integer]
    return found
