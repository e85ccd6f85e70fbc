"""Jitter of the crops: rms of the second difference over time of rigid skin points' positions, in pixels at 256x256.

    python benchmarks/align_jitter.py ../shared/clips/dev/*.mp4 [--frames 150] [--json OUT.json]

Corners are found on the rigid part of the face (forehead, nose, upper cheeks) in every frame t and followed by OpenCV's
Lucas-Kanade to t - 1 and t + 1, each against t itself, so that nothing accumulates. Points that do not come back to
within 0.3 pixel are dropped. Two figures: over all points as they are ("points"), and the part of the points' second
differences that a shift, turn and scaling of the crop explains ("crop"), without the tracker's own error. The same points are used for every way of aligning:

    mien            stage 1
    mesh            FFHQ framing by the mesh's own eyes and mouth, frame by frame
    rigid mesh      FFHQ framing by the rigid head fitted to the mesh, frame by frame
    ... smoothed    the two above with a Gaussian over time, sigma 1 frame for the centre and 3 for the axes (STIT)
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models import landmarks as lm
from mien.stages.align import align
from mien.stages.framing import apply, crop_from_quad, matrix_from_crop
from mien.stages.register import rigid_mask
from mien.stages.track import FaceTracker

SIZE = 256
LUCAS_KANADE = dict(winSize=(21, 21), maxLevel=2, criteria=(3, 40, 1e-4))
Array = NDArray[np.float64]


def read(path: Path, limit: int) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == limit:
                return
            yield frame.to_ndarray(format="rgb24")


def expressive_quad(mesh: Array) -> Array:
    """FFHQ framing as everybody does it: eyes from the lids, mouth from its corners as they are."""
    points = mesh[:, :2]
    eyes = [points[ids].mean(0) for ids in lm.EYES]
    return lm.ffhq_quad(eyes[0], eyes[1], points[lm.MOUTH_CORNERS].mean(0))


def smoothed(quads: Array) -> Array:
    """A Gaussian over time on centre (sigma 1) and axes (sigma 3) of quads `[T, 4, 2]`, edges repeated."""

    def gaussian(values: Array, sigma: float) -> Array:
        reach = int(4 * sigma + 0.5)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
        return np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T], 1)

    centre = gaussian(quads.mean(1), 1.0)
    x = gaussian((quads[:, 3] - quads[:, 0]) / 2, 3.0)
    y = gaussian((quads[:, 1] - quads[:, 0]) / 2, 3.0)
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y], 1)


def similarity_part(points: Array, field: Array) -> Array:
    """The part of a displacement field `[N, 2]` at points `[N, 2]` that a shift, turn and scaling of the crop explains.

    It is what a crop's own unsteadiness can look like; the rest is the tracker's error and the skin's deformation.
    """
    x, y = (points - points.mean(0)).T / (SIZE / 4)
    one, none = np.ones_like(x), np.zeros_like(x)
    basis = np.concatenate([np.stack([one, none, x, -y], 1), np.stack([none, one, y, x], 1)])
    values = np.concatenate([field[:, 0], field[:, 1]])
    weights = np.ones(len(points))
    for _ in range(10):
        double = np.tile(weights, 2)
        solved = np.linalg.lstsq(basis * double[:, None], values * double, rcond=None)[0]
        fitted = (basis @ solved).reshape(2, -1).T
        off = np.linalg.norm(field - fitted, axis=1)
        weights = 1 / np.sqrt(1 + np.square(off / max(float(np.median(off)), 1e-3)))
    return fitted


def jitter(crops: list[NDArray[np.uint8]], points: list[Array]) -> tuple[float, float]:
    """rms over frames and points of the second difference, and of the part of it that the crop explains."""
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    every, common = [], []
    for t in range(1, len(grey) - 1):
        start = points[t].astype(np.float32)[:, None]
        good = np.ones(len(start), bool)
        ways = []
        for other in (t - 1, t + 1):
            there, found, _ = cv2.calcOpticalFlowPyrLK(grey[t], grey[other], start, None, **LUCAS_KANADE)
            back, returned, _ = cv2.calcOpticalFlowPyrLK(grey[other], grey[t], there, None, **LUCAS_KANADE)
            good &= (found & returned).ravel() > 0
            good &= np.linalg.norm(back - start, axis=2).ravel() < 0.3
            ways.append((there - start)[:, 0])
        second = (ways[0] + ways[1])[good]
        if len(second) >= 8:
            every.append(np.square(second).sum(1))
            common.append(np.square(similarity_part(points[t][good], second)).sum(1))
    return float(np.sqrt(np.concatenate(every).mean())), float(np.sqrt(np.concatenate(common).mean()))


def measure(path: Path, limit: int) -> dict[str, object]:
    tracker = FaceTracker()
    meshes: list[Array] = []
    for frame in read(path, limit):
        mesh = tracker(frame)
        meshes.append(mesh if mesh is not None else meshes[-1])
    tracker.close()
    start = time.perf_counter()
    ours = align(read(path, limit), 25.0, size=SIZE)
    seconds = time.perf_counter() - start
    rigid = np.stack([lm.rigid_quad(mesh) for mesh in meshes])
    plain = np.stack([expressive_quad(mesh) for mesh in meshes])
    ways = {
        "mien": ours.quads,
        "mesh": plain,
        "mesh smoothed": smoothed(plain),
        "rigid mesh": rigid,
        "rigid mesh smoothed": smoothed(rigid),
    }
    spots = []  # frame pixels
    for crop, quad, mesh in zip(ours.crops, ours.quads, meshes, strict=True):
        to_frame = matrix_from_crop(crop_from_quad(quad))
        mask = rigid_mask(apply(np.linalg.inv(to_frame), mesh[:, :2]), SIZE).astype(np.uint8)
        mask = cv2.erode(mask, np.ones((5, 5), np.uint8))
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        found = cv2.goodFeaturesToTrack(grey, 80, 0.003, 6, mask=mask, blockSize=7)
        found = np.zeros((0, 2)) if found is None else found[:, 0].astype(np.float64)
        spots.append(apply(to_frame, (found + 0.5) * 2 / SIZE - 1))
    result: dict[str, object] = {"frames": len(meshes), "frames_per_second": len(meshes) / seconds}
    result["points"] = float(np.mean([len(spot) for spot in spots]))
    for name, quads in ways.items():
        crops = [lm.warp_crop(frame, quad, SIZE) for frame, quad in zip(read(path, limit), quads, strict=True)]
        points = [lm.transform(spot, lm.quad_matrix(quad, SIZE)) for spot, quad in zip(spots, quads, strict=True)]
        every, common = jitter(crops, points)
        result[name] = {"points": round(every, 3), "crop": round(common, 3)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    results = {}
    for path in args.clips:
        results[path.stem] = measure(path, args.frames)
        print(path.stem, json.dumps(results[path.stem]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
