"""Who is seen in a clip, and when: cuts to another person, and frames in which nobody is seen."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mien.method.types import FaceTrack

SAMPLES = 4  # frames of a shot that are compared
SAME_PERSON = 0.45  # cosine similarity by `mini`'s identity network, which gives 0.2 to 0.4 for two people, 0.9 for one
SIZE = 256
EASE_SECONDS = 0.3  # from the numbers that were held to those with which the face comes back


@torch.no_grad()
def changes_of_person(faces: FaceTrack, network: nn.Module, device: torch.device | str = "cpu") -> list[int]:
    """The frames at which a shot of another person begins, of all cuts `faces.cuts`.

    `network`: `mini`'s identity network, by which `SAME_PERSON` was measured, on `device`. Two shots show one person if
    any two of their frames look alike: pose and expression part frames of one person, and hardly bring two people
    together.
    """
    borders = [0, *faces.cuts.tolist(), len(faces)]
    images = faces.images(min(SIZE, faces.size), device)
    changes, before = [], None
    for start, end in itertools.pairwise(borders):
        seen = start + np.flatnonzero(~(faces.lost | faces.bridged)[start:end])
        if not len(seen):
            continue
        chosen = seen[np.unique(np.linspace(0, len(seen) - 1, SAMPLES).round().astype(int))]
        embeddings = torch.nn.functional.normalize(network(images[torch.from_numpy(chosen)]), dim=1)
        if before is not None and float((embeddings @ before.T).max()) < SAME_PERSON:
            changes.append(start)
        before = embeddings
    return changes


def hold_while_lost(rows: NDArray[np.float16], lost: NDArray[np.bool_], fps: float) -> NDArray[np.float16]:
    """The numbers `[T, 3 + C]` with those of frames whose face is `lost [T]` held from before, and eased into what
    follows.

    A face that is lost at the start or to the end holds the nearest numbers there are. No face was fitted in those
    frames.
    """
    seen = np.flatnonzero(~lost)
    if len(seen) in (0, len(rows)):
        return rows
    held = rows.copy()
    ease = max(round(EASE_SECONDS * fps), 1)
    for frame in np.flatnonzero(lost):
        at = int(np.searchsorted(seen, frame))
        before, after = seen[max(at - 1, 0)], seen[min(at, len(seen) - 1)]
        if at == 0:
            before = after
        share = np.clip(1 - (after - frame) / (ease + 1), 0, 1) if before < frame < after else 0.0
        share = share * share * (3 - 2 * share)
        start, end = rows[before].astype(np.float32), rows[after].astype(np.float32)
        held[frame] = (start + (end - start) * share).astype(np.float16)
    return held
