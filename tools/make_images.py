"""The pictures of README.md and docs/packs/mini.md, from what `make demo` left in demo/ and from the embedded pack.

python tools/make_images.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from mien.media.images import to_bytes
from mien.media.still_images import write_image
from mien.media.video import read_video
from mien.nets.stylespace import Channel, add_channels
from mien.packs.pack import Pack

OUT = Path(__file__).parents[1] / "docs" / "images"


def row(frames: list[np.ndarray], size: int) -> np.ndarray:
    """Frames side by side, each `size` x `size`."""
    return np.hstack([cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA) for f in frames])


def labelled(channel: Channel, strip: np.ndarray) -> np.ndarray:
    """A row of frames behind the channel's attribute and place in StyleSpace."""
    label = np.full((len(strip), 100, 3), 255, np.uint8)
    for line, text in enumerate((channel.attribute, f"({channel.layer}, {channel.index})")):
        cv2.putText(label, text, (6, 34 + 20 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.hstack([label, strip])


def in_two_columns(rows: list[np.ndarray]) -> np.ndarray:
    """Rows below each other, the second half of them beside the first."""
    half = len(rows) // 2
    return np.hstack([np.vstack(rows[:half]), np.vstack(rows[half:])])


def overview() -> None:
    """Input, render and puppet at seven moments of the demo clip."""
    clips = [list(read_video(Path("demo") / name)) for name in ("crops.mkv", "render.mp4", "puppet.mp4")]
    side = clips[2][0].shape[1] // 2  # the puppet stands to the right of its driver, above a caption
    clips[2] = [frame[:side, side:] for frame in clips[2]]
    moments = np.linspace(0, len(clips[0]) - 1, 7).astype(int)
    write_image(OUT / "overview.jpg", np.vstack([row([c[i] for i in moments], 160) for c in clips]))


@torch.no_grad()
def pack_sheets() -> None:
    """People of the pack, their heads turned by the flow, and one row for each of the 32 channels."""
    pack = Pack.load("mini")
    people = pack.people[:10]
    images = lambda w: list(to_bytes(pack.generator.synthesis(w)))
    write_image(OUT / "mini_people.jpg", np.vstack([row(images(pack.people[i : i + 10]), 96) for i in (0, 10, 20)]))
    rows = []
    for axis in range(2):
        for person in people[:3]:
            angles = torch.zeros(9, 2)
            angles[:, axis] = torch.linspace(-20, 20, 9)
            rows.append(row(images(pack.flow(person.expand(9, -1, -1), torch.zeros(9, 2), angles)), 96))
    write_image(OUT / "mini_pose.jpg", np.vstack(rows))
    styles = pack.generator.styles(people[:1].expand(5, -1, -1))
    rows = []
    for i, channel in enumerate(pack.channels):
        alpha = torch.zeros(5, len(pack.channels))
        alpha[:, i] = torch.linspace(-3, 3, 5) * channel.scale
        strip = row(
            list(to_bytes(pack.generator.synthesis_from_styles(add_channels(styles, pack.channels, alpha)))), 80
        )
        rows.append(labelled(channel, strip))
    write_image(OUT / "mini_channels.jpg", in_two_columns(rows))


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    pack_sheets()
    overview()
