"""`synthesis.c`, compiled on first use by the machine's own C compiler and kept in `$MIEN_HOME/native`.

Where there is no compiler (or `MIEN_NATIVE=0`), `library()` is None and PyTorch does the work.
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

FLAGS = (
    *("-O3", "-march=native", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math"),
    *("-Wno-psabi", "-shared", "-fPIC"),
)
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


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None where they cannot be had."""
    if os.environ.get("MIEN_NATIVE") == "0":
        return None
    try:
        found = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError):
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


def _compiled() -> Path:
    """The shared library for this source, these flags and this processor. Raises OSError, SubprocessError."""
    source = resources.files("mien.nets.decoder.native").joinpath("synthesis.c").read_bytes()
    key = hashlib.sha256(repr((source, FLAGS, platform.machine(), _processor())).encode()).hexdigest()[:20]
    folder = Path(os.environ.get("MIEN_HOME", Path.home() / ".mien")) / "native"
    target = folder / f"synthesis-{key}.so"
    if target.is_file():
        return target
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise FileNotFoundError("no C compiler")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{secrets.token_hex(8)}.so"
    try:
        command = [*compiler.split(), *FLAGS, "-x", "c", "-", "-o", str(temporary), "-lm"]
        subprocess.run(command, input=source, check=True, capture_output=True, timeout=120)
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
