"""Stage 0 of making a pack: faces and clips to aligned 256x256 crops with labels, one folder of `.npy` files.

    python -m mien.train data --faces FOLDER_OR_TAR --clips FOLDER -o runs/data

Labels come from MediaPipe's face mesh only. Everything is stored so that a bare machine with torch and numpy can
train from it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError
from mien.face import mesh as lm
from mien.face.masks import region_labels

Image = NDArray[np.uint8]

SIZE = 256
MASK_SIZE = 64
FACE_SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")


def _face_images(source: Path) -> Iterator[tuple[str, Image]]:
    def decode(name: str, data: bytes) -> Image:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"{name} of {source} cannot be read as a picture.")
        return cast(Image, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    if source.is_dir():
        for path in sorted(p for p in source.iterdir() if p.suffix.lower() in FACE_SUFFIXES):
            yield path.name, decode(path.name, path.read_bytes())
    else:
        with tarfile.open(source) as archive:
            members = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda m: m.name)
            for member in members:
                file = archive.extractfile(member)
                assert file is not None
                yield Path(member.name).name, decode(member.name, io.BytesIO(file.read()).getvalue())


def canonical_shape(meshes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Generalised Procrustes mean of meshes `[N, 478, 3]` that are near frontal with closed mouths, made symmetric."""
    eyes = meshes[:, lm.EYE_CORNERS].mean(2)
    unit = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)
    gap = np.linalg.norm(meshes[:, 13] - meshes[:, 14], axis=1) / unit
    turned = np.abs(meshes[:, 234, 2] - meshes[:, 454, 2]) / unit
    chosen = meshes[(gap < 0.04) & (turned < 0.25)]
    if not len(chosen):
        raise InputError("no face looks at the camera with its mouth shut, so there is no neutral shape.")
    mean = chosen[0]
    for _ in range(5):
        aligned = []
        for mesh in chosen:
            scale, rotation, translation = lm.fit_similarity(mesh[lm.RIGID], mean[lm.RIGID])
            aligned.append(scale * mesh @ rotation.T + translation)
        mean = np.median(aligned, axis=0)
        mean -= mean[lm.RIGID].mean(0)
        # Upright, frontal: eyes level, no yaw; then symmetric by averaging with the mirrored, re-matched shape.
        mirrored = mean * [-1, 1, 1]
        distance = np.linalg.norm(mean[:, None] - mirrored[None], axis=2)
        mean = (mean + mirrored[distance.argmin(1)]) / 2
        mean /= np.linalg.norm(mean[lm.EYE_CORNERS[1]].mean(0) - mean[lm.EYE_CORNERS[0]].mean(0))
    # Pitch zero: forehead and chin at the same depth, the convention for "looking straight ahead".
    top, bottom = mean[10], mean[152]
    angle = np.arctan2(bottom[2] - top[2], bottom[1] - top[1])
    c, s = np.cos(angle), np.sin(angle)
    return mean @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T


def prepare(faces: Path, clips: Path, out: Path, inset: float = 0.0) -> None:
    """Prepare faces (a folder or a .tar of pictures) and the .mp4 clips of a folder. Raises InputError.

    Writes `images.npy [N, 256, 256, 3]`, `points.npy [N, 478, 2]`, `valid.npy [N, 64, 64]`, `labels.npy
    [N, 128, 128]`, `pose.npy [N, 2]` (yaw, pitch in degrees), `group.npy [N]` (-1 for a still face, else the clip), `names.txt`,
    and `canonical_face.npz`, the faces' own neutral shape `[478, 3]`, which crops and angles of these data refer to.
    `inset`: share of height and width of the clips, in their lower left corner, that is marked invalid: another picture lies there."""
    if not faces.exists():
        raise InputError(f"there are no faces at {faces}.")
    if not any(clips.glob("*.mp4")):
        raise InputError(f"the folder {clips} holds no .mp4 clips.")
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("images_*.npy"):  # smaller sizes of what was here before
        old.unlink()
    mesh = lm.FaceMesh()
    pad = 32
    stills: list[tuple[str, Image, NDArray[np.float64]]] = []
    for name, image in _face_images(faces):
        padded = cast(Image, cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE))
        found = mesh(padded)
        if found:
            stills.append((name, image, found[0] - [pad, pad, 0]))
    if not stills:
        raise InputError(f"no face was found in the pictures of {faces}.")
    canonical = canonical_shape(np.stack([s[2] for s in stills]))
    shape = out / "canonical_face.npz"
    np.savez_compressed(shape, points=canonical.astype(np.float16))
    print(f"the neutral face shape of these data is in {shape}; stage 1 uses the one in src/mien/face", flush=True)

    names, images, points, valids, poses, groups = [], [], [], [], [], []

    def add(name: str, image: Image, found: NDArray[np.float64], quad: NDArray[np.float64], group: int) -> None:
        matrix = lm.quad_matrix(quad, SIZE)
        height, width = image.shape[:2]
        seen: Image = np.full((height, width), 255, np.uint8)
        if group >= 0:
            seen[int(height * (1 - inset)) :, : int(width * inset)] = 0
        seen = cast(Image, cv2.warpAffine(seen, matrix, (SIZE, SIZE)))
        pose = lm.head_pose(found, canonical)
        names.append(name)
        images.append(lm.warp_crop(image, quad, SIZE))
        points.append(lm.transform(found, matrix).astype(np.float32))
        valids.append(cv2.resize(seen, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA))
        poses.append((pose.yaw, pose.pitch))
        groups.append(group)

    for name, image, face in stills:
        add(name, image, face, lm.rigid_quad(face, canonical), -1)
    group = 0
    for path in sorted(clips.glob("*.mp4")):
        capture = cv2.VideoCapture(str(path))
        frames, meshes = [], []
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            rgb = cast(Image, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            found = mesh(rgb)
            if found:
                frames.append(rgb)
                meshes.append(found[0])
        print(f"{path.stem}: {len(frames)} frames", flush=True)
        if not frames:
            continue
        quads = np.stack([lm.rigid_quad(m, canonical) for m in meshes])
        kernel = cv2.getGaussianKernel(9, 1.5)
        smooth = cv2.filter2D(quads.reshape(len(quads), 8), -1, kernel, borderType=cv2.BORDER_REPLICATE)
        for i, rgb in enumerate(frames):
            add(f"{path.stem}/{i:04d}", rgb, meshes[i], smooth[i].reshape(4, 2), group)
        group += 1
    np.save(out / "images.npy", np.stack(images))
    np.save(out / "points.npy", np.stack(points))
    np.save(out / "valid.npy", np.stack(valids))
    np.save(out / "pose.npy", np.array(poses, np.float32))
    np.save(out / "group.npy", np.array(groups, np.int16))
    labels = np.stack([region_labels(p, 128, 128 / SIZE) for p in points])
    np.save(out / "labels.npy", labels)
    (out / "names.txt").write_text("\n".join(names) + "\n")
