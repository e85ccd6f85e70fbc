"""C sources of the package, each compiled on first use by the machine's own C compiler and kept in `$MIEN_HOME/native`.

A caller has a way of its own for where there is no compiler, or none is wanted (`MIEN_NATIVE=0`).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import secrets
import shutil
import subprocess
from importlib import resources
from pathlib import Path

FLAGS = ("-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-shared", "-fPIC")
# How a compiler is told to use all of this processor differs by processor and compiler; the last is understood by all.
NATIVE: tuple[tuple[str, ...], ...] = (("-march=native",), ("-mcpu=native",), ())


def compiled_library(package: str, name: str) -> ctypes.CDLL | None:
    """The library of `name`.c in `package`, or None where it cannot be had or is not wanted."""
    if os.environ.get("MIEN_NATIVE") == "0":
        return None
    try:
        return ctypes.CDLL(str(_compiled(package, name)))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiled(package: str, name: str) -> Path:
    """The shared library for this source, these flags and this processor. Raises OSError, SubprocessError."""
    source = _source(package, f"{name}.c")
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


def _source(package: str, file: str) -> bytes:
    """A source with the package's own headers in their places."""
    text = resources.files(package).joinpath(file).read_text()
    return re.sub(r'#include "(\w+\.h)"', lambda found: _source(package, found[1]).decode(), text).encode()


def _processor() -> str:
    """What `-march=native` depends on: a home folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
