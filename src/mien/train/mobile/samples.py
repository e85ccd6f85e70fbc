"""Samples of the generator: latents of W, their pictures, and the face mesh measured on the pictures.

A shard is an .npz file of `SHARD` samples: `w` float16 [N, 512], `images` uint8 [N, 128, 128, 3], `mesh` float32
[N, 478, 3] in pixels of the picture (NaN where no face was found). A shard is drawn from its own seed, so that shards
can be drawn in any order, and anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mien.errors import InputError
from mien.face.mesh import FaceMesh, head_pose
from mien.media.images import to_bytes
from mien.nets.mapping import Mapping
from mien.nets.mobile_stylegan import MobileGenerator
from mien.runtime.files import atomic_path

SHARD = 200  # samples in a file
SIZE = 128  # pixels a side of the stored pictures
MESH_SIZE = 256  # pixels a side of what the mesh is measured on
LEAST_TRUNCATION = 0.65  # each sample's truncation is drawn evenly from here to 1
CONDITIONS = ("yaw", "pitch", "smile", "mouth open", "eyes open", "glasses")


@dataclass(frozen=True)
class Samples:
    """`w` float32 [N, D]; `images` uint8 [N, S, S, 3]; `mesh` float32 [N, 478, 3] in pixels, all finite."""

    w: NDArray[np.float32]
    images: NDArray[np.uint8]
    mesh: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.w)


def draw(generator: MobileGenerator, mapping: Mapping, folder: Path, shards: int, *, seed: int = 50_000) -> None:
    """Draw shards 0 to `shards` - 1 into `folder`, each once; those that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    mesh = FaceMesh(min_confidence=0.2)
    for number in range(shards):
        path = folder / f"{number:04d}.npz"
        if path.exists():
            continue
        begin = time.perf_counter()
        random = torch.Generator().manual_seed(seed + number)
        z = torch.randn(SHARD, generator.w_dim, generator=random)
        truncation = LEAST_TRUNCATION + (1 - LEAST_TRUNCATION) * torch.rand(SHARD, 1, generator=random)
        with torch.no_grad():
            w = mapping.w_mean + (mapping(z) - mapping.w_mean) * truncation
            images = np.concatenate([_picture(generator, row) for row in w])
        points = np.full((SHARD, 478, 3), np.nan, np.float32)
        for i, image in enumerate(images):
            found = mesh(cv2.resize(image, (MESH_SIZE, MESH_SIZE), interpolation=cv2.INTER_CUBIC))
            if found:
                points[i] = found[0] * (SIZE / MESH_SIZE)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, w=w.half().numpy(), images=images, mesh=points)
        print(f"shard {number}: {(time.perf_counter() - begin) / SHARD:.3f} s a sample", flush=True)


def _picture(generator: MobileGenerator, w: torch.Tensor) -> NDArray[np.uint8]:
    return np.stack(list(to_bytes(generator.synthesis(w.expand(1, generator.num_ws, -1), SIZE))))


def shards_of(folder: Path) -> list[Path]:
    """The shards in `folder`, in order. Raises InputError where there are fewer than two: one is held out of training."""
    shards = sorted(folder.glob("[0-9]*.npz"))
    if len(shards) < 2:
        raise InputError(
            f"{folder} holds {len(shards)} shards of samples, and training takes two at least: "
            "python -m mien.train.mobile samples draws them."
        )
    return shards


def read(paths: list[Path]) -> Iterator[Samples]:
    """The samples of each shard on which a face was found."""
    for path in paths:
        with np.load(path) as file:
            mesh = file["mesh"]
            found = np.isfinite(mesh[:, 0, 0])
            yield Samples(file["w"][found].astype(np.float32), file["images"][found], mesh[found])


def conditions(samples: Samples) -> NDArray[np.float32]:
    """What the flow is conditioned on, `[N, 6]` in the order of `CONDITIONS`, measured on the pictures.

    Yaw and pitch in degrees by the rigid head. By the mesh, over the distance of the eyes' outer corners: how far the
    mouth's corners stand above the middle of the lips, the gap between the lips, the mean gap between the lids.
    Glasses: the logarithm of the mean vertical gradient (levels of 255 a pixel) on the bridge of the nose between the
    eyes, which the bridge of glasses crosses; it is a measure of contrast there and no detector.
    """
    mesh, images = samples.mesh.astype(np.float64), samples.images
    angles = np.array([(pose.yaw, pose.pitch) for pose in map(head_pose, mesh)]).reshape(-1, 2)
    unit = np.linalg.norm(mesh[:, 33] - mesh[:, 263], axis=1)
    gap = lambda a, b: np.linalg.norm(mesh[:, a] - mesh[:, b], axis=1) / unit
    down = mesh[:, 152, :2] - mesh[:, 10, :2]  # from forehead to chin
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    corners, middle = (mesh[:, 61, :2] + mesh[:, 291, :2]) / 2, (mesh[:, 13, :2] + mesh[:, 14, :2]) / 2
    smile = ((middle - corners) * down).sum(1) / unit
    lids = (gap(159, 145) + gap(386, 374)) / 2
    bridge = np.array([_bridge_contrast(i, m) for i, m in zip(images, mesh, strict=True)])
    return np.column_stack([angles, smile, gap(13, 14), lids, bridge]).astype(np.float32)


def _bridge_contrast(image: NDArray[np.uint8], mesh: NDArray[np.float64]) -> float:
    """Logarithm of the mean absolute vertical gradient in a strip from between the brows to the middle of the nose."""
    grey = image.astype(np.float32).mean(2)
    (x, top), bottom = mesh[168, :2], mesh[197, 1]
    half = max(1, int(0.06 * abs(mesh[263, 0] - mesh[33, 0])))
    rows = slice(max(0, int(top) - 2), max(int(top) + 2, int(bottom)))
    strip = grey[rows, max(0, int(x) - half) : int(x) + half + 1].mean(1)
    return float(np.log(0.5 + np.abs(np.diff(strip)).mean())) if len(strip) > 1 else 0.0
