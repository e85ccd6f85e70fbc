"""Faces whose channels a visitor moves: rendering, the region that a channel changes, and the sliders."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from mien.apps.studio import markup
from mien.apps.studio.context import Studio
from mien.apps.studio.media import data_address
from mien.media.images import to_bytes
from mien.method.avatar import Avatar
from mien.packs.pack import Pack

REACH = 3.0  # a channel's slider goes so many standard deviations either way
PROBE = 2.0  # and its region is what moves between this many to either side
THUMB = 64
ANGLES = (("yaw", 35), ("pitch", 20))
LIT = np.array([255.0, 176.0, 59.0])


def channel_order(pack: Pack) -> list[int]:
    """Order the channels as the sliders show them: by attribute."""
    kinds = [c.attribute for c in pack.channels]
    return [i for kind in dict.fromkeys(kinds) for i, k in enumerate(kinds) if k == kind]


def render_faces(pack: Pack, person: int, rows: np.ndarray) -> np.ndarray:
    """Render faces `[N, H, W, 3]` of a shelf's person.

    `rows [N, 34]`: yaw, pitch in degrees, channels in their own units.
    """
    avatar = Avatar(pack.generator, pack.flow, pack.channels, pack.people[person].to(pack.device))
    numbers = torch.from_numpy(rows.astype(np.float32)).to(pack.device)
    made = []
    with torch.no_grad():
        for part in numbers.split(8):
            styles = avatar.styles(pack.flow.clamp(part[:, :2]), part[:, 2:] * avatar.scale)
            made.append(to_bytes(pack.generator.synthesis_from_styles(styles)))
    return np.concatenate(made)


def lit_change(face: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Draw the face in grey, with what differs between `low` and `high` lit."""
    change = np.abs(high.astype(np.float32) - low.astype(np.float32)).mean(2)
    change = cv2.GaussianBlur(change, (0, 0), max(face.shape[0] / 96, 0.5))
    share = np.clip(change / max(float(np.percentile(change, 99.7)), 2.0), 0, 1)[..., None]
    grey = face.astype(np.float32).mean(2, keepdims=True) * 0.75
    return (grey * (1 - 0.85 * share) + LIT * (0.85 * share)).clip(0, 255).astype(np.uint8)


def pack_values(pack: Pack, given: np.ndarray) -> np.ndarray:
    """Bring values [34] from the sliders' order to the pack's."""
    row = np.zeros(34, np.float32)
    row[:2] = given[:2]
    for place, channel in enumerate(channel_order(pack)):
        row[2 + channel] = given[2 + place]
    return row


def face_html(studio: Studio, person: int, given: np.ndarray, touched: int) -> str:
    """Show the face with the sliders' values, and the region of the one that was touched."""
    pack = studio.pack
    row = pack_values(pack, given)
    rows = [row]
    if touched >= 0:
        column = touched if touched < 2 else 2 + channel_order(pack)[touched - 2]
        reach = ANGLES[touched][1] * 0.6 if touched < 2 else PROBE
        for side in (-reach, reach):
            probe = row.copy()
            probe[column] = side
            rows.append(probe)
    faces = render_faces(pack, person, np.stack(rows))
    second = lit_change(faces[0], faces[1], faces[2]) if touched >= 0 else faces[0]
    names = [name for name, _ in ANGLES] + channel_labels(pack)
    caption = f"{names[touched]} moves this" if touched >= 0 else "move a channel"
    return (
        f'<div class="m-frames"><figure><img alt="face" src="{data_address(faces[0], 92)}"><figcaption>the face'
        f'</figcaption></figure><figure><img alt="region" src="{data_address(second, 90)}"><figcaption>{caption}'
        "</figcaption></figure></div>"
    )


def channel_labels(pack: Pack) -> list[str]:
    seen: dict[str, int] = {}
    labels = []
    for i in channel_order(pack):
        kind = pack.channels[i].attribute
        seen[kind] = seen.get(kind, 0) + 1
        labels.append(f"{kind}.{seen[kind]}")
    return labels


def sliders_html(studio: Studio) -> str:
    """Lay out all sliders, each with a small face on which its region is lit."""
    pack = studio.pack
    order, labels = channel_order(pack), channel_labels(pack)
    rows = [np.zeros(34, np.float32)]
    for channel in order:
        for side in (-PROBE, PROBE):
            row = np.zeros(34, np.float32)
            row[2 + channel] = side
            rows.append(row)
    faces = render_faces(pack, 0, np.stack(rows))
    small = lambda image: cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.uint8)
    thumbs = [
        data_address(small(lit_change(faces[0], faces[1 + 2 * i], faces[2 + 2 * i])), 80) for i in range(len(order))
    ]
    items = [
        {"name": label, "label": label.rpartition(".")[2], "low": -REACH, "high": REACH, "step": 0.1, "thumb": thumb}
        for label, thumb in zip(labels, thumbs, strict=True)
    ]
    groups: list[dict[str, Any]] = [{"name": "pose", "open": True, "items": [
        {"name": name, "label": name, "low": -reach, "high": reach, "step": 1} for name, reach in ANGLES
    ]}]  # fmt: skip
    for kind in dict.fromkeys(c.attribute for c in pack.channels):
        groups.append({"name": kind, "open": kind == "mouth",
                       "items": [item for item in items if str(item["name"]).startswith(f"{kind}.")]})  # fmt: skip
    return markup.element("mien-sliders", {"groups": groups})
