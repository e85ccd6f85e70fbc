"""What a pack can do, measured: the figures of docs/packs/mini.md, and those of the flow in docs/packs/ffhq_mobile.md.

    python benchmarks/mini.py [--pack mini] [--size 256] [--people 16] [--data runs/data] [--json OUT.json]

Held-out faces need the folder that `python -m mien.train data` wrote; without it that part says so and is left out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien.face import mesh as lm
from mien.media.images import psnr_from_mse, to_bytes
from mien.packs.pack import Pack
from mien.train.channels import locality
from mien.train.dataset import Faces

ANGLES = np.linspace(-20, 20, 9)


@torch.no_grad()
def held_out(pack: Pack, data: Path) -> dict[str, float]:
    """PSNR (dB) of G(E(x)) on the faces kept aside, at the pack's resolution."""
    faces = Faces(data, max(128, pack.resolution))
    values = []
    for start in range(0, len(faces.held_out), 50):
        index = faces.held_out[start : start + 50]
        image = faces.get(index, np.zeros(len(index), bool)).image
        made = pack.generator.synthesis(pack.encoder(image)).clamp(-1, 1)
        values.append(psnr_from_mse((made - image).square().mean((1, 2, 3)), peak=2))
    return {"faces": len(faces.held_out), "psnr": float(np.concatenate(values).mean())}


@torch.no_grad()
def pose_sweep(pack: Pack, people: int) -> dict[str, float]:
    """Pearson's r between the angle asked of the flow and the angle measured in the render (face mesh), and the lowest
    cosine similarity of identity along each sweep, means over people."""
    mesh = lm.FaceMesh()
    canonical = lm.canonical_face()
    result: dict[str, float] = {}
    for axis, name in enumerate(("yaw", "pitch")):
        rs, gains, similar = [], [], []
        for person in pack.people[:people]:
            angles = torch.zeros(len(ANGLES), 2)
            angles[:, axis] = torch.from_numpy(ANGLES).float()
            w_plus = pack.flow(person.expand(len(ANGLES), -1, -1), torch.zeros(len(ANGLES), 2), angles)
            images = pack.generator.synthesis(w_plus)
            codes = pack.identity(images)
            similar.append(float((codes @ codes[len(ANGLES) // 2]).min()))
            measured = []
            for frame in to_bytes(images):
                found = mesh(np.ascontiguousarray(frame))
                pose = lm.head_pose(found[0], canonical) if found else None
                measured.append(np.nan if pose is None else (pose.yaw, pose.pitch)[axis])
            seen = ~np.isnan(measured)
            if seen.sum() >= 3:
                rs.append(np.corrcoef(ANGLES[seen], np.asarray(measured)[seen])[0, 1])
                gains.append(np.polyfit(ANGLES[seen], np.asarray(measured)[seen], 1)[0])
        result |= {
            f"{name}_r": float(np.mean(rs)),
            f"{name}_r_lowest": float(np.min(rs)),
            f"{name}_gain": float(np.mean(gains)),
            f"{name}_identity_lowest": float(np.min(similar)),
            f"{name}_identity_mean_of_lowest": float(np.mean(similar)),
        }
    return result


def channel_locality(pack: Pack, people: int) -> dict[str, Any]:
    """Share of each channel's change in pixels (two standard deviations either way) inside its attribute's mask."""
    shares = locality(pack, list(pack.channels), people)
    names = [f"{c.attribute} ({c.layer}, {c.index})" for c in pack.channels]
    return {
        "mean": float(np.mean(shares)),
        "at_least_0.8": int(np.sum(np.array(shares) >= 0.8)),
        "channels": dict(zip(names, np.round(shares, 3).tolist(), strict=True)),
    }


@torch.no_grad()
def decoding(pack: Pack, frames: int = 48) -> dict[str, float]:
    """Frames a second from W+ to pixels in bytes, by batch size, with all threads that torch has."""
    result: dict[str, float] = {"threads": torch.get_num_threads()}
    for batch in (1, 8):
        w_plus = pack.people[:1].expand(batch, -1, -1)
        to_bytes(pack.generator.synthesis(w_plus))
        begin = time.perf_counter()
        for _ in range(frames // batch):
            to_bytes(pack.generator.synthesis(w_plus))
        result[f"batch_{batch}"] = frames / (time.perf_counter() - begin)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", default="mini")
    parser.add_argument("--size", type=int)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pack = Pack.load(args.pack).at(args.size)
    report: dict[str, Any] = {"pack": pack.fingerprint, "resolution": pack.resolution}
    if (args.data / "images.npy").exists():
        report["held_out"] = held_out(pack, args.data)
    else:
        report["held_out"] = f"not measured: needs {args.data} (python -m mien.train data)"
    report["pose_sweep"] = pose_sweep(pack, args.people)
    report["locality"] = channel_locality(pack, args.people)
    report["decode_frames_per_second"] = decoding(pack)
    text = json.dumps(report, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
