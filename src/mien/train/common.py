"""Run folders of training: checkpoints to resume from, a log of losses, contact sheets."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, SupportsFloat

import cv2
import numpy as np
import torch
from torch import Tensor

from mien.errors import InputError
from mien.media.images import to_bytes


class Run:
    """A training run's folder: `checkpoint.pt`, `log.jsonl`, `*.png`. Saved whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.started = time.time()

    def save(self, **state: Any) -> None:
        temporary = self.folder / "checkpoint.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.folder / "checkpoint.pt")

    def load(self) -> dict[str, Any] | None:
        path = self.folder / "checkpoint.pt"
        return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None

    def log(self, step: int, **values: SupportsFloat) -> None:
        line = {"step": step, "seconds": round(time.time() - self.started, 1)}
        line |= {k: round(float(v), 5) for k, v in values.items()}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def contact_sheet(self, name: str, rows: list[Tensor]) -> None:
        """Write `NAME.png`: each row is a batch of images `[N, 3, H, W]` in [-1, 1]."""
        size = rows[0].shape[-1]
        strips = []
        for row in rows:
            row = torch.nn.functional.interpolate(row.detach().float(), (size, size))
            array = to_bytes(row)
            strips.append(np.concatenate(list(array), axis=1))
        cv2.imwrite(str(self.folder / f"{name}.png"), np.concatenate(strips, axis=0)[:, :, ::-1])


def left_by_step(path: Path) -> Path:
    """The path of a file that another training step leaves. Raises InputError where it is not there."""
    if not path.is_file():
        raise InputError(f"{path.parent} holds no {path.name}: the step that is trained there comes first.")
    return path


def checkpoint_of(folder: Path) -> dict[str, Any]:
    """The checkpoint that a training run left in its folder. Raises InputError where there is none."""
    path = left_by_step(folder / "checkpoint.pt")
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def plot_losses(folder: Path) -> None:
    """Draw `losses.png` from `log.jsonl`: one panel a value; nothing where nothing was logged yet."""
    log = folder / "log.jsonl"
    if not log.is_file():
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    names = [k for k in {name: None for line in lines for name in line} if k not in ("step", "seconds")]
    figure, axes = plt.subplots(1, len(names), figsize=(3 * len(names), 2.5), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.plot([x["step"] for x in lines if name in x], [x[name] for x in lines if name in x])
        axis.set_title(name)
    figure.tight_layout()
    figure.savefig(folder / "losses.png", dpi=80)
    plt.close(figure)
