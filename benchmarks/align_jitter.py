"""Jitter of the crops: rms of the second difference over time of rigid skin points' positions, in pixels at 256x256.

    python benchmarks/align_jitter.py CLIP ... [--frames 70] [--json OUT.json]

Corners are found on the rigid part of the face (forehead, nose, upper cheeks) in every frame t and followed by OpenCV's
Lucas-Kanade to t - 1 and t + 1 in the aligned crops, each against t itself, so that nothing accumulates. A point is
dropped, for every way of aligning, if in any of them it does not come back to where it started. Two settings:

    short   windows of 21 pixels, points come back to within 0.3 pixel
    long    windows of 41 pixels, back to within 0.1, points far enough from eyes and brows for that; less noise

and for each three figures:

    all     over all points as they are. The tracker's noise and what the skin does is in it
    crop    the part of the points' second differences that a shift, turn and scaling of the crop explains
    least   what is left of `all` without that part: no crop of four numbers a frame could have less

The ways:

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
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mien.face import mesh as lm
from mien.method.stage1_align.align import align
from mien.method.stage1_align.crop_geometry import apply, crop_from_quad, matrix_from_crop
from mien.method.stage1_align.registration import rigid_mask
from mien.method.stage1_align.tracking import FaceTracker

SIZE = 256
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tracker:
    """`window`: side of Lucas-Kanade's window; `back`: how near a point must come back; `away`: how far, as a box's
    side, points keep from what moves. All in pixels at 256."""

    window: int
    back: float
    away: int


SETTINGS = {"short": Tracker(21, 0.3, 5), "long": Tracker(41, 0.1, 15)}


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


def second_differences(
    crops: list[NDArray[np.uint8]], points: list[Array], tracker: Tracker
) -> tuple[list[Array], list[NDArray[np.bool_]]]:
    """For each frame but the first and last: second differences `[N, 2]` of its points, and which were followed."""
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    options = {"winSize": (tracker.window,) * 2, "maxLevel": 2, "criteria": (3, 40, 1e-4)}
    seconds, followed = [], []
    for t in range(1, len(grey) - 1):
        start = points[t].astype(np.float32)[:, None]
        good = np.ones(len(start), bool)
        ways = []
        for other in (t - 1, t + 1) if len(start) else ():
            there, found, _ = cv2.calcOpticalFlowPyrLK(grey[t], grey[other], start, None, **options)
            back, returned, _ = cv2.calcOpticalFlowPyrLK(grey[other], grey[t], there, None, **options)
            good &= (found & returned).ravel() > 0
            good &= np.linalg.norm(back - start, axis=2).ravel() < tracker.back
            ways.append((there - start)[:, 0].astype(np.float64))
        seconds.append(ways[0] + ways[1] if ways else np.zeros((0, 2)))
        followed.append(good)
    return seconds, followed


def jitter(points: list[Array], seconds: list[Array], kept: list[NDArray[np.bool_]]) -> dict[str, float]:
    """The three figures over the frames with at least eight points."""
    every, common, rest = [], [], []
    for place, second, good in zip(points[1:-1], seconds, kept, strict=True):
        if good.sum() >= 8:
            explained = similarity_part(place[good], second[good])
            every.append(np.square(second[good]).sum(1))
            common.append(np.square(explained).sum(1))
            rest.append(np.square(second[good] - explained).sum(1))
    rms = lambda parts: round(float(np.sqrt(np.concatenate(parts).mean())), 3)
    return {"all": rms(every), "crop": rms(common), "least": rms(rest)}


def corners(crop: NDArray[np.uint8], quad: Array, mesh: Array, tracker: Tracker) -> Array:
    """Corners on the rigid skin of a crop, in frame pixels `[N, 2]`."""
    to_frame = matrix_from_crop(crop_from_quad(quad))
    mask = rigid_mask(apply(np.linalg.inv(to_frame), mesh[:, :2]), SIZE).astype(np.uint8)
    mask = cv2.erode(mask, np.ones((tracker.away, tracker.away), np.uint8))
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    found = cv2.goodFeaturesToTrack(grey, 80, 0.003, 6, mask=mask, blockSize=7)
    found = np.zeros((0, 2)) if found is None else found[:, 0].astype(np.float64)
    return apply(to_frame, (found + 0.5) * 2 / SIZE - 1)


def measure(path: Path, limit: int) -> dict[str, object]:
    tracker = FaceTracker()
    meshes: list[Array] = []
    for frame in read(path, limit):
        mesh = tracker(frame)
        meshes.append(mesh if mesh is not None else meshes[-1])
    tracker.close()
    start, used = time.perf_counter(), time.process_time()
    ours = align(read(path, limit), 25.0, size=SIZE)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    rigid = np.stack([lm.rigid_quad(mesh) for mesh in meshes])
    plain = np.stack([expressive_quad(mesh) for mesh in meshes])
    ways = {
        "mien": ours.quads,
        "mesh": plain,
        "mesh smoothed": smoothed(plain),
        "rigid mesh": rigid,
        "rigid mesh smoothed": smoothed(rigid),
    }
    result: dict[str, object] = {
        "frames": len(meshes),
        "frames_per_second": round(len(meshes) / seconds, 1),
        "processor_ms": round(1000 * used / len(meshes), 1),
    }
    crops = {
        name: [lm.warp_crop(frame, quad, SIZE) for frame, quad in zip(read(path, limit), quads, strict=True)]
        for name, quads in ways.items()
    }
    for setting, how in SETTINGS.items():
        spots = [corners(*row, how) for row in zip(ours.crops, ours.quads, meshes, strict=True)]
        points = {
            name: [lm.transform(spot, lm.quad_matrix(quad, SIZE)) for spot, quad in zip(spots, quads, strict=True)]
            for name, quads in ways.items()
        }
        tracked = {name: second_differences(crops[name], points[name], how) for name in ways}
        kept = [np.logical_and.reduce(good) for good in zip(*(good for _, good in tracked.values()), strict=True)]
        table = {name: jitter(points[name], tracked[name][0], kept) for name in ways}
        best = {figure: min(table[name][figure] for name in ways if name != "mien") for figure in ("all", "crop")}
        ratio = {figure: round(table["mien"][figure] / best[figure], 2) for figure in best}
        ratio["least"] = round(table["mien"]["least"] / best["all"], 2)
        result[setting] = {"points": round(float(np.mean([k.sum() for k in kept])), 1), **table, "ratio": ratio}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=70)
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
