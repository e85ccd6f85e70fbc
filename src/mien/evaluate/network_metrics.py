"""Metrics by networks, over batches of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.evaluate.face_crops import face_crop
from mien.evaluate.frames import Frame
from mien.evaluate.metrics.facemesh import pearson
from mien.evaluate.metrics.fid import Fid
from mien.evaluate.metrics.fvd import Fvd
from mien.evaluate.metrics.identity import embed, similarity
from mien.evaluate.metrics.lpips import lpips
from mien.evaluate.networks import MetricNetworks, Network
from mien.evaluate.registry import NEEDS, NO_FACE, NO_MOVEMENT, SHORT

if TYPE_CHECKING:
    from mien.evaluate.result import Evaluation

Array = NDArray[np.float64]
BATCH = 32  # frames at once through a network
FACE = 224  # side of the tight cut that gaze is read from


class NetworkMetrics:
    """Accumulates the metrics over the frames of both clips.

    With `portrait` (crops [N, 256, 256, 3] of whose face the output should have) identities are compared with it and
    not with the reference, and no pixels are compared.
    """

    def __init__(self, networks: MetricNetworks, portrait: NDArray[np.uint8] | None = None) -> None:
        self._networks = networks
        self._identities: dict[str, Network] = {
            key: network
            for key, network in (
                ("pack_identity", networks.identity),
                ("id_loss", networks.arcface),
                ("id_loss_curricular", networks.curricularface),
            )
            if network is not None
        }
        self._portrait = portrait
        self._people = {} if portrait is None else {k: _person(n, portrait) for k, n in self._identities.items()}
        self._sets: dict[str, Any] = {}
        if networks.inception is not None:
            self._sets["fid"] = Fid(networks.inception)
        if networks.i3d is not None:
            self._sets["fvd"] = Fvd(networks.i3d)
        self._waiting: list[tuple[Frame, Frame, Array, Array]] = []
        self._values: dict[str, list[Array]] = {}
        self._signals: dict[str, tuple[_Signal, _Signal]] = {}

    def add(self, reference: Frame, output: Frame, mesh: Array, output_mesh: Array) -> None:
        """Take in the next frame of both clips, uint8 [H, W, 3], and their meshes [478, 3] (NaN without a face)."""
        self._waiting.append((reference, output, mesh, output_mesh))
        if len(self._waiting) == BATCH:
            self._run()

    def finish(self, result: Evaluation) -> None:
        """Put all values into the result."""
        if self._waiting:
            self._run()
        for key in ("lpips", *self._identities):
            values = np.concatenate(self._values[key]) if key in self._values else np.zeros(0)
            if len(values) and np.isfinite(values).any():
                result.put(key, float(np.nanmean(values)), "")
                result.series[key] = values
            elif key in self._identities:
                result.put(key, None, NO_FACE)
        for key, features in self._sets.items():
            result.put_set(key, features, SHORT)
        for key, sides in self._signals.items():
            a, b = (side.array() for side in sides)
            found = [pearson(a[:, i], b[:, i]) for i in range(min(a.shape[1], b.shape[1]))]
            known = [r for r in found if r is not None]
            enough = (np.isfinite(a[:, 0]) & np.isfinite(b[:, 0])).sum() >= 3
            result.put(key, float(np.mean(known)) if known else None, NO_MOVEMENT if enough else NO_FACE)
        for key in NEEDS:
            if key not in result.values and key not in result.missing:
                result.put(key, None, NEEDS[key])

    def _run(self) -> None:
        a, b, meshes_a, meshes_b = (np.stack(side) for side in zip(*self._waiting, strict=True))
        self._waiting.clear()
        for features in self._sets.values():
            features.add(a, b)
        for key, network in self._identities.items():
            if self._portrait is None:
                likeness = similarity(network, a, b)
            else:
                likeness = _to_person(network, b, meshes_b, self._people[key])
            self._values.setdefault(key, []).append(likeness if key == "pack_identity" else 1 - likeness)
        if self._networks.lpips is not None and self._portrait is None:
            self._values.setdefault("lpips", []).append(lpips(self._networks.lpips, a, b))
        if self._networks.gaze is not None:
            self._signal("rho_gz_l2cs", self._networks.gaze, (_tight(a, meshes_a), _tight(b, meshes_b)))
        if self._networks.action_units is not None:
            self._signal("rho_au_libreface", self._networks.action_units, (_framed(a, meshes_a), _framed(b, meshes_b)))

    def _signal(self, key: str, network: Network, faces: tuple[Any, Any]) -> None:
        for signal, (crops, seen) in zip(self._signals.setdefault(key, (_Signal(), _Signal())), faces, strict=True):
            signal.add(network, crops, seen)


class _Signal:
    """A network's output for a face over time."""

    def __init__(self) -> None:
        self._seen: list[NDArray[np.bool_]] = []
        self._values: list[Array] = []

    def add(self, network: Network, crops: NDArray[np.uint8], seen: NDArray[np.bool_]) -> None:
        """Take in the next frames: crops [K, H, W, 3] of those that show a face, and which of all these are [N]."""
        self._seen.append(seen)
        if len(crops):
            self._values.append(embed(network, crops))

    def array(self) -> Array:
        """Return the output [T, K], NaN where there is no face."""
        seen = np.concatenate(self._seen)
        if not self._values:
            return np.full((len(seen), 1), np.nan)
        values = np.full((len(seen), self._values[0].shape[1]), np.nan)
        values[seen] = np.concatenate(self._values)
        return values


def _person(network: Network, portrait: NDArray[np.uint8]) -> Array:
    """Return the mean direction [E] of the embeddings of a person's crops [N, H, W, 3]."""
    mean = embed(network, portrait).mean(0)
    return np.asarray(mean / np.linalg.norm(mean))


def _to_person(network: Network, frames: NDArray[np.uint8], meshes: Array, person: Array) -> Array:
    """Return the cosine [N] of each frame's face with a person; NaN where no face is seen."""
    crops, seen = _framed(frames, meshes)
    values = np.full(len(frames), np.nan)
    if len(crops):
        values[seen] = embed(network, crops) @ person
    return values


def _seen(meshes: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(meshes).all((1, 2)))


def _framed(frames: NDArray[np.uint8], meshes: Array) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut FFHQ crops of those frames that show a face, and which these are."""
    seen = _seen(meshes)
    crops = [face_crop(frame, mesh) for frame, mesh in zip(frames[seen], meshes[seen], strict=True)]
    return np.stack(crops) if crops else np.zeros((0, 1, 1, 3), np.uint8), seen


def _tight(frames: NDArray[np.uint8], meshes: Array) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut squares around all of the mesh, of those frames that show a face, and which these are."""
    seen = _seen(meshes)
    crops = []
    for frame, mesh in zip(frames[seen], meshes[seen, :, :2], strict=True):
        low, high = mesh.min(0), mesh.max(0)
        scale = FACE / float((high - low).max())
        shift = (FACE - 1) / 2 - scale * (low + high) / 2
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        cut = cv2.warpAffine(frame, matrix, (FACE, FACE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        crops.append(np.asarray(cut, np.uint8))
    return np.stack(crops) if crops else np.zeros((0, 1, 1, 3), np.uint8), seen
