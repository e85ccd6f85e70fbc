"""The whole pipeline on a device that is not the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils import backend_registration

from mien.format.stream import Stream
from mien.method.stage6_render.render import render
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack
from tolerances import DEVICE_DB


def figures(*options: str) -> list[float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "factories.fake_device", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return [float(word) for word in done.stdout.splitlines()[-1].split()]


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch knows no such devices",
)
@pytest.mark.slow
def test_encoding_tuning_rendering_and_puppets_stay_on_their_device() -> None:
    """Every mixture of devices is an error there, as it is with CUDA; the numbers are the CPU's.

    Adam's first steps have the size of the rate whatever a gradient's size: where one is rounding error alone, its sign
    differs between devices, and what was trained differs by a hundredth. What was not trained is the same.
    """
    there, here = figures(), figures("--cpu")
    untrained = slice(3, 5)
    assert np.allclose(there[untrained], here[untrained], rtol=1e-4)
    assert np.allclose(there, here, rtol=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_renders_what_the_cpu_renders(pack_file: Path) -> None:
    pack = Pack.load(pack_file)
    random = np.random.RandomState(0)
    frames = random.randn(4, 35) * ([5] * 3 + [0.5] * 32)
    stream = Stream(
        pack.fingerprint, pack.name, pack.resolution, Fraction(25), channel_table(pack.channels),
        pack.people[0].numpy().astype(np.float16), frames.astype(np.float16),
    )  # fmt: skip
    here, there = (
        np.stack(list(render(stream, pack=str(pack_file), device=device))).astype(float) for device in ("cpu", "cuda")
    )
    assert 10 * np.log10(255**2 / max(np.square(here - there).mean(), 1e-9)) > DEVICE_DB
