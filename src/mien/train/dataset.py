"""Batches for training from a folder that `mien.train.data` wrote; needs torch and numpy only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.errors import InputError
from mien.face import mesh as lm
from mien.face.gaze_warp import sample_gaze_offsets, warp_gaze
from mien.face.measures import POINTS, expression_measures
from mien.media.images import to_float

RARE = 20  # one frame of so many is rare in a measure and direction
# Faces kept aside for the reconstruction figure of the card; half of all where there are fewer than 1,000.
HELD_OUT = 500
SHOWN = 10  # faces and pairs of clip frames on a contact sheet


def _mirror_index(canonical: np.ndarray) -> np.ndarray:
    """For each mesh point, the point on the other side of the face."""
    mirrored = canonical * [-1, 1, 1]
    return np.linalg.norm(canonical[:, None] - mirrored[None], axis=2).argmin(1)


def _write_small(images: np.ndarray, size: int, cached: Path) -> None:
    """Write the images averaged down to `size` as the file `cached`, whole or not at all."""
    temporary = cached.with_name(f"{cached.name}.{os.getpid()}.tmp")
    factor = images.shape[1] // size
    small = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(images), size, size, 3))
    for start in range(0, len(images), 256):
        chunk = images[start : start + 256].astype(np.float32)
        n = len(chunk)
        chunk = chunk.reshape(n, size, factor, size, factor, 3).mean((2, 4))
        small[start : start + n] = chunk.round().astype(np.uint8)
    small.flush()
    os.replace(temporary, cached)


@dataclass(frozen=True)
class Batch:
    """`image [N, 3, S, S]` in [-1, 1]; `valid [N, 1, 64, 64]` in [0, 1]; `label [N, 128, 128]`;
    `points [N, P, 2]` in [0, 1]; `pose [N, 2]` yaw and pitch in degrees; `index [N]`."""

    image: Tensor
    valid: Tensor
    label: Tensor
    points: Tensor
    pose: Tensor
    index: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, f).to(device) for f in self.__dataclass_fields__))


class Faces:
    """The prepared data, memory mapped. `stills` and `clips` are indices for training, `held_out` for judging."""

    def __init__(self, folder: Path, size: int, seed: int = 0) -> None:
        """Raises InputError where `mien.train.data` has not written there, or too little to train from."""
        if not (folder / "images.npy").is_file():
            raise InputError(f"{folder} holds no images.npy: python -m mien.train data writes it.")
        images = np.load(folder / "images.npy", mmap_mode="r")
        if size < images.shape[1]:
            cached = folder / f"images_{size}.npy"
            if not cached.exists():
                _write_small(images, size, cached)
            images = np.load(cached, mmap_mode="r")
        self.images, self.size = images, size
        self.valid = np.load(folder / "valid.npy", mmap_mode="r")
        self.label = np.load(folder / "labels.npy", mmap_mode="r")
        self.all_points = np.load(folder / "points.npy", mmap_mode="r")
        self.pose = np.load(folder / "pose.npy")
        self.group = np.load(folder / "group.npy")
        self.mirror = _mirror_index(lm.canonical_face())
        stills = np.random.RandomState(20221122).permutation(np.flatnonzero(self.group < 0))
        held = min(HELD_OUT, len(stills) // 2)
        self.held_out, self.stills = stills[:held], stills[held:]
        self.clips = np.flatnonzero(self.group >= 0)
        self.clip_of = [np.flatnonzero(self.group == g) for g in range(self.group.max() + 1)]
        if held < SHOWN or not len(self.clips):
            raise InputError(
                f"{folder} holds {len(stills)} faces and {len(self.clips)} frames of clips: training takes {2 * SHOWN} "
                "faces at least, and one clip."
            )
        self.random = np.random.RandomState(seed)
        self.rare = [self._rare(frames) for frames in self.clip_of]

    def _rare(self, frames: np.ndarray) -> list[np.ndarray]:
        """Frames of a clip with the least and the most of each expression measure: blinks, gaze to a side, open mouths."""
        points = torch.from_numpy(np.ascontiguousarray(self.all_points[frames][:, list(POINTS)])).float()
        order = expression_measures(points).argsort(0).numpy()
        some = max(len(frames) // RARE, 1)
        return [frames[order[part, m]] for m in range(order.shape[1]) for part in (slice(some), slice(-some, None))]

    def get(self, index: np.ndarray, flip: np.ndarray, gaze_offsets: np.ndarray | None = None) -> Batch:
        """Read items; where `flip` is set, mirrored left to right with all labels; gaze moved by `gaze_offsets [N, 2]`,
        right and down in the eye's width (`mien.face.gaze_warp`)."""
        order = np.asarray(index)
        image = to_float(np.stack([self.images[i] for i in order]))
        valid = torch.from_numpy(np.stack([self.valid[i] for i in order]))[:, None].float() / 255
        label = torch.from_numpy(np.stack([self.label[i] for i in order]))
        points = np.stack([self.all_points[i] for i in order]) / 256.0
        pose = self.pose[order].copy()
        chosen = np.asarray(POINTS)
        mirrored = points[:, self.mirror[chosen]] * [-1, 1] + [255 / 256, 0]
        points = np.where(flip[:, None, None], mirrored, points[:, chosen])
        pose[flip, 0] *= -1
        f = torch.from_numpy(flip)[:, None, None]
        label = torch.where(f, label.flip(-1), label)
        image = torch.where(f[..., None], image.flip(-1), image)
        valid = torch.where(f[..., None], valid.flip(-1), valid)
        label = label.long()
        points = points.astype(np.float32)
        offsets = np.zeros((len(order), 2)) if gaze_offsets is None else gaze_offsets
        for i in np.flatnonzero(offsets.any(1)):
            right, down = offsets[i].tolist()
            warped = warp_gaze(image[i].permute(1, 2, 0).contiguous().numpy(), label[i].numpy(), points[i], right, down)
            image[i], label[i] = torch.from_numpy(warped[0]).permute(2, 0, 1), torch.from_numpy(warped[1])
            points[i] = warped[2]
        return Batch(
            image.contiguous(memory_format=torch.channels_last), valid, label,
            torch.from_numpy(points), torch.from_numpy(pose), torch.from_numpy(order.copy()),
        )  # fmt: skip

    def batch(self, stills: int, clips: int) -> Batch:
        """Random stills, then random clip frames; half of them mirrored, gaze moved in three of ten."""
        index = np.concatenate([self.random.choice(self.stills, stills), self.random.choice(self.clips, clips)])
        return self.get(index, self.random.rand(len(index)) < 0.5, sample_gaze_offsets(self.random, len(index), 0.3))

    def pairs(self, count: int) -> tuple[Batch, Batch]:
        """Pairs of frames of one clip, mirrored together; half of the second ones show a rare expression, and in some
        the gaze is moved. The last third of the pairs are a still and the same still with its gaze moved."""
        groups = self.random.randint(len(self.clip_of), size=count)
        a = np.array([self.random.choice(self.clip_of[g]) for g in groups])
        rare = lambda g: self.rare[g][self.random.randint(len(self.rare[g]))]
        b = np.array([self.random.choice(rare(g) if self.random.rand() < 0.5 else self.clip_of[g]) for g in groups])
        flip = self.random.rand(count) < 0.5
        still = np.arange(count) >= count - count // 3
        a[still] = b[still] = self.random.choice(self.stills, int(still.sum()))
        offsets = np.where(
            still[:, None], sample_gaze_offsets(self.random, count, 1), sample_gaze_offsets(self.random, count, 0.35)
        )
        return self.get(a, flip), self.get(b, flip, offsets)


def colour_jitter(images: list[Tensor], generator: torch.Generator, strength: float = 0.15) -> list[Tensor]:
    """The same random gain, offset and tint for image i of each batch in the list."""
    n = images[0].shape[0]
    uniform = lambda *shape: (torch.rand(n, *shape, generator=generator) * 2 - 1).to(images[0].device)
    gain = 1 + strength * uniform(3, 1, 1) * 0.5
    gain = gain * (1 + strength * uniform(1, 1, 1))
    offset = strength * uniform(1, 1, 1)
    return [(x * gain + offset).clamp(-1, 1) for x in images]


def degraded(image: Tensor, generator: torch.Generator) -> Tensor:
    """Blur 40 % of the images and add a little noise to all: what an encoder must be robust to."""
    n, size = len(image), image.shape[-1]
    some = (torch.rand(n, 1, 1, 1, generator=generator) < 0.4).to(image.device)
    soft = F.interpolate(F.avg_pool2d(image, 2), (size, size), mode="bilinear")
    noise = torch.randn(image.shape, generator=generator) * 0.04 * torch.rand(n, 1, 1, 1, generator=generator)
    return torch.where(some, soft, image) + noise.to(image.device)


def resize(image: Tensor, size: int) -> Tensor:
    """Area-resize `[N, C, H, W]` down to `size`."""
    return image if image.shape[-1] == size else F.interpolate(image, (size, size), mode="area")
