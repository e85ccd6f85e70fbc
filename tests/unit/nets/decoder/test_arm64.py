"""The C sources give on arm64 what they give on this processor: built by zig, run by qemu-user."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import mien
from mien.runtime import compiled
from tolerances import DECODER_RELATIVE

SOURCES = Path(mien.__file__).parent / "nets" / "native"
FLAGS = [flag for flag in compiled.FLAGS if flag not in ("-shared", "-fPIC")]
ARM64 = ("-target", "aarch64-linux-musl")

pytestmark = pytest.mark.slow


def built(name: str, folder: Path, *target: str) -> Path:
    """tests' run_`name`.c, which includes `name`.c, as a program for a target, by default this machine."""
    program = folder / "-".join((name, *target[1:], "program"))
    main = Path(__file__).with_name(f"run_{name}.c")
    command = [sys.executable, "-m", "ziglang", "cc", *target, *FLAGS, "-I", SOURCES, main, "-o", program, "-lm"]
    subprocess.run(command, check=True)
    return program


def floats(*command: str | Path) -> NDArray[np.float32]:
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float32)


@pytest.mark.parametrize("name", ["synthesis", "mobile", "separable", "convolution", "winograd", "flow", "residual"])
def test_arm64_gives_what_this_processor_gives(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="the extra `page` is not installed: nothing is built for arm64")
    here, there = built(name, tmp_path), built(name, tmp_path, *ARM64)
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("qemu-user is not installed: what was built for arm64 is not run")
    wanted, found = floats(here), floats(emulator, there)
    assert len(found) == len(wanted) > 10_000 and np.isfinite(wanted).all() and wanted.std() > 1
    assert np.abs(found - wanted).max() < DECODER_RELATIVE * wanted.std()
