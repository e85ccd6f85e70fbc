"""The whole pipeline on a device that is not the CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from torch.utils import backend_registration


def figures(*options: str) -> list[float]:
    done = subprocess.run([sys.executable, "-m", "factories.fake_device", *options], capture_output=True, text=True, timeout=280, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [float(word) for word in done.stdout.splitlines()[-1].split()]


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch knows no such devices",
)
def test_encoding_tuning_rendering_and_puppets_stay_on_their_device() -> None:
    """Every mixture of devices is an error there, as it is with CUDA; the numbers are the CPU's."""
    assert np.allclose(figures(), figures("--cpu"), rtol=2e-3)
