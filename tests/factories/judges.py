"""Small judges for tests of `mien evaluate`: networks of a few numbers, and a program that writes OpenFace's tables."""

from __future__ import annotations

import stat
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.evaluate.metrics import openface
from mien.evaluate.networks import MetricNetworks

FAKE_OPENFACE = '''#!{python}
"""As FeatureExtraction: a table for -f VIDEO or -fdir FOLDER. The numbers follow from the frames' pixels alone."""
import pathlib, sys, zlib
import cv2, numpy as np
arguments = sys.argv[1:]
after = lambda name: arguments[arguments.index(name) + 1]
assert {{"-aus", "-pose", "-gaze"}} <= set(arguments)
if "-fdir" in arguments:
    frames = [cv2.imread(str(p)) for p in sorted(pathlib.Path(after("-fdir")).iterdir())]
else:
    video, frames = cv2.VideoCapture(after("-f")), []
    while True:
        ok, frame = video.read()
        if not ok:
            break
        frames.append(frame)
names = {names!r}
out = pathlib.Path(after("-out_dir"))
out.mkdir()
with (out / (after("-of") + ".csv")).open("w") as file:
    file.write("frame, success, " + ", ".join(names) + "\\n")
    for i, frame in enumerate(frames):
        row = np.random.default_rng(zlib.crc32(frame.tobytes())).normal(size=len(names))
        file.write(f"{{i + 1}}, 1, " + ", ".join(f"{{v:.4f}}" for v in row) + "\\n")
'''


def fake_openface(folder: Path) -> Path:
    """A folder for the PATH with a FeatureExtraction in it."""
    folder.mkdir()
    names = list(dict.fromkeys(name for group in openface.COLUMNS.values() for name in group))
    program = folder / openface.PROGRAM
    program.write_text(FAKE_OPENFACE.format(python=sys.executable, names=names))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def seeded(module: nn.Module) -> nn.Module:
    """Fill a network with values that follow from its tensors' names, so that another with the same names is the same."""
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.standard_normal(tensor.shape).astype(np.float32)
        if name.endswith("running_var"):
            values = 0.5 + np.abs(values)
        elif name.endswith(("running_mean", "bias")):
            values = 0.1 * values
        elif values.ndim == 1:
            values = 1 + 0.1 * values
        else:
            values = values * np.sqrt(2 / values[0].size)
        tensor.copy_(torch.from_numpy(np.asarray(values, np.float32)))
    return module.eval().requires_grad_(False)


def projection(seed: int, count: int, unit: bool = False) -> Callable[[Tensor], Tensor]:
    """Images [N, 3, ..., H, W] in [-1, 1] -> [N, count]: a random projection of their coarse look, of length 1 if
    `unit`."""
    weights = torch.randn(3 * 64, count, generator=torch.Generator().manual_seed(seed))

    def network(x: Tensor) -> Tensor:
        assert x.min() >= -1 and x.max() <= 1 and x.shape[1] == 3
        coarse = F.adaptive_avg_pool2d(x.flatten(1, -3) if x.ndim == 5 else x, 8)
        coarse = coarse.reshape(len(x), 3, -1, 64).mean(2).flatten(1)
        found = (coarse - coarse.mean(1, keepdim=True)) @ weights
        return F.normalize(found, dim=1) if unit else found

    return network


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Stands for LPIPS."""
    return (F.adaptive_avg_pool2d(a, 8) - F.adaptive_avg_pool2d(b, 8)).square().mean((1, 2, 3))


def all_judges() -> MetricNetworks:
    """One of each kind."""
    return MetricNetworks(
        identity=projection(1, 32, unit=True),
        arcface=projection(2, 32, unit=True),
        curricularface=projection(3, 32, unit=True),
        lpips=distance,
        inception=projection(4, 8),
        i3d=projection(5, 8),
        gaze=projection(6, 2),
        action_units=projection(7, 12),
    )
