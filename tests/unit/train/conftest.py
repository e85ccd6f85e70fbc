"""Pictures to train on, drawn on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.face import mesh as lm
from mien.face.masks import region_labels
from mien.train.dataset import Faces


@pytest.fixture(scope="session")
def face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A handful of drawn "faces": the canonical mesh at changing places, coloured by its own labels."""
    folder = tmp_path_factory.mktemp("faces")
    random = np.random.RandomState(0)
    shape = lm.canonical_face()[:, :2] * 62 + [128, 120]
    count = 520  # 500 of the stills are held out
    points = np.stack([shape + random.randn(2) * 3 for _ in range(count)]).astype(np.float32)
    labels = np.stack([region_labels(p.astype(np.float64), 128, 0.5) for p in points[:20]])
    labels = np.concatenate([labels, np.repeat(labels[:1], count - 20, 0)])
    palette = random.randint(0, 255, (8, 3)).astype(np.uint8)
    np.save(folder / "images.npy", palette[labels])
    np.save(folder / "points.npy", points)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "valid.npy", np.full((count, 64, 64), 255, np.uint8))
    np.save(folder / "pose.npy", random.randn(count, 2).astype(np.float32) * 8)
    group = np.full(count, -1, np.int16)
    group[:12] = np.arange(12) // 6
    np.save(folder / "group.npy", group)
    return folder


@pytest.fixture(scope="session")
def faces(face_folder: Path) -> Faces:
    return Faces(face_folder, 128)
