"""The prepared data in pieces small enough to carry to a bare machine with a GPU, and back into a folder there.

    python -m mien.train bundle --data runs/data -o runs/bundle      # here
    python -m mien.train unbundle --pieces runs/bundle -o runs/data  # there: numpy and OpenCV, no face mesh

A piece is an `.npz` of at most so many bytes: pictures as WebP, labels as PNG, numbers as they are. Pieces may travel in
several goes. A checkpoint comes back in pieces too (`split`, `join`), each under what the way back allows.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError

ITEMS = 1024  # items of one piece
POINT_STEP = 1 / 128  # of a pixel of the 256x256 crop


def _encoded(images: NDArray[np.uint8], suffix: str, quality: list[int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    parts = [
        cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image, quality)[1].ravel() for image in images
    ]
    return np.concatenate(parts), np.cumsum([0] + [len(p) for p in parts])


def _picture(data: NDArray[np.uint8], flag: int) -> NDArray[np.uint8]:
    image = cv2.imdecode(data, flag)
    if image is None:
        raise InputError("a piece holds a picture that cannot be read.")
    return cast(NDArray[np.uint8], image)


def _decoded(data: NDArray[np.uint8], offsets: NDArray[np.int64], flag: int) -> NDArray[np.uint8]:
    images = [_picture(data[a:b], flag) for a, b in pairwise(offsets)]
    return np.stack([image[..., ::-1] if image.ndim == 3 else image for image in images])


def bundle(data: Path, out: Path, *, quality: int = 80) -> list[Path]:
    """Write `piece_00.npz` ... from the folder that `mien.train data` wrote; returns them."""
    out.mkdir(parents=True, exist_ok=True)
    load = lambda name: np.load(data / f"{name}.npy", mmap_mode="r")
    images, labels, points, valid = load("images"), load("labels"), load("points"), load("valid")
    pose, group = load("pose"), load("group")
    written = []
    for number, start in enumerate(range(0, len(images), ITEMS)):
        part = slice(start, start + ITEMS)
        pictures, picture_ends = _encoded(images[part], ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])
        masks, mask_ends = _encoded(labels[part], ".png", [])
        path = out / f"piece_{number:02}.npz"
        np.savez_compressed(
            path, pictures=pictures, picture_ends=picture_ends, masks=masks, mask_ends=mask_ends,
            points=np.round(points[part] / POINT_STEP).astype(np.int32), valid=valid[part], pose=pose[part],
            group=group[part],
        )  # fmt: skip
        written.append(path)
    return written


def unbundle(pieces: Path, out: Path) -> int:
    """Write the folder again from all pieces in a folder; returns the number of items. Pictures have WebP's loss."""
    out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[NDArray]] = {k: [] for k in ("images", "labels", "points", "valid", "pose", "group")}
    for path in sorted(pieces.glob("piece_*.npz")):
        with np.load(path) as piece:
            parts["images"].append(_decoded(piece["pictures"], piece["picture_ends"], cv2.IMREAD_COLOR))
            parts["labels"].append(_decoded(piece["masks"], piece["mask_ends"], cv2.IMREAD_GRAYSCALE))
            parts["points"].append((piece["points"] * POINT_STEP).astype(np.float32))
            for name in ("valid", "pose", "group"):
                parts[name].append(piece[name])
    for name, arrays in parts.items():
        np.save(out / f"{name}.npy", np.concatenate(arrays))
    return sum(len(p) for p in parts["pose"])


def split(file: Path, out: Path, size: int = 15 * 2**20) -> list[Path]:
    """Cut a file into `NAME.00`, `NAME.01`, ... of at most `size` bytes each."""
    out.mkdir(parents=True, exist_ok=True)
    data = file.read_bytes()
    paths = []
    for number, start in enumerate(range(0, len(data), size)):
        path = out / f"{file.name}.{number:02}"
        path.write_bytes(data[start : start + size])
        paths.append(path)
    return paths


def join(pieces: Path, name: str, out: Path) -> None:
    """Put the pieces of `name` in a folder together again."""
    out.write_bytes(b"".join(p.read_bytes() for p in sorted(pieces.glob(f"{name}.[0-9][0-9]"))))
