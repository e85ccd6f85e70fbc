"""C sources, each compiled on first use by the machine's own C compiler and kept in `$MIEN_HOME/native`: `synthesis.c`
(decoding of StyleGAN2), `mobile.c` (decoding of MobileStyleGAN), `separable.c` (its layers with gradients).

Where there is no compiler (or `MIEN_NATIVE=0`), `library()`, `mobile_library()` and `separable_library()` are None and
PyTorch does the work.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import secrets
import shutil
import subprocess
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

FLAGS = ("-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-shared", "-fPIC")
# How a compiler is told to use all of this processor differs by processor and compiler; the last is understood by all.
NATIVE: tuple[tuple[str, ...], ...] = (("-march=native",), ("-mcpu=native",), ())
POINTERS = (
    *("x", "weight", "style", "scale", "bias", "noise", "rgb_weight", "border", "y", "rgb", "spread"),
    "scratch",
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


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled functions for StyleGAN2, or None where they cannot be had."""
    found = _loaded("synthesis")
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
    return found


@lru_cache(maxsize=1)
def mobile_library() -> ctypes.CDLL | None:
    """The compiled functions for MobileStyleGAN, or None where they cannot be had."""
    found = _loaded("mobile")
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
    found = _loaded("separable")
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


def _loaded(name: str) -> ctypes.CDLL | None:
    """The library of `name`.c, or None where it cannot be had or is not wanted."""
    if os.environ.get("MIEN_NATIVE") == "0":
        return None
    try:
        return ctypes.CDLL(str(_compiled(name)))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiled(name: str) -> Path:
    """The shared library for this source, these flags and this processor. Raises OSError, SubprocessError."""
    source = resources.files("mien.nets.native").joinpath(f"{name}.c").read_bytes()
    key = hashlib.sha256(repr((source, FLAGS, platform.machine(), _processor())).encode()).hexdigest()[:20]
    folder = Path(os.environ.get("MIEN_HOME", Path.home() / ".mien")) / "native"
    target = folder / f"{name}-{key}.so"
    if target.is_file():
        return target
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise FileNotFoundError("no C compiler")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{secrets.token_hex(8)}.so"
    try:
        for native in NATIVE:
            command = [*compiler.split(), *native, *FLAGS, "-x", "c", "-", "-o", str(temporary), "-lm"]
            done = subprocess.run(command, input=source, capture_output=True, timeout=120, check=native == NATIVE[-1])
            if done.returncode == 0:
                break
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _processor() -> str:
    """What `-march=native` depends on: a home folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
