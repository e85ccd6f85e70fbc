"""Whose face is shown: a .person, a .mien or a portrait, ready to be driven frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mien.format.person import Person
from mien.format.stream import Stream
from mien.method.avatar import Avatar
from mien.method.live_motion import DEFAULTS, MotionReader, ReaderOptions, fit_reader
from mien.method.live_styles import StyleTable
from mien.method.pivot import PivotOptions, usable
from mien.nets.decoder.for_generator import decoder_for
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack
from mien.packs.resolve import pack_for, tuned_generator
from mien.reenact.face_source import FaceSource, invert_portrait, known_face, load_face, locate_face, read_face

Array = NDArray[np.float64]
# Side of an image's pictures, where the pack draws it: larger ones are not drawn as fast as they are shown.
LIVE_SIZE = 256


@dataclass(frozen=True)
class DrawnFace:
    """A face that can be drawn: `still`, a stream of it with one frame, facing the camera; `paint` draws it.
    `expressions [T, C]`: alpha of frames in which it was seen, none of an image."""

    still: Stream
    paint: FacePainter
    scale: Array  # [C], the channels' units
    expressions: Array

    @property
    def neutral(self) -> Array:
        """The 35 numbers of the face at rest."""
        return np.zeros(3 + len(self.scale))

    @property
    def unit(self) -> Array:
        """The size of a usual motion of each of the 35 numbers."""
        return np.concatenate([[5.0, 5.0, 5.0], self.scale])

    def stream(self, rows: NDArray[np.floating], fps: Fraction) -> Stream:
        """A stream of it with these numbers `[T, 35]` a frame."""
        return replace(self.still, frames=rows.astype(np.float16), fps=fps)


@dataclass(frozen=True)
class LiveFace(DrawnFace):
    """A face to drive: `reader` reads its numbers from a mesh."""

    reader: MotionReader


class FacePainter:
    """`painter(row)` draws the face for 35 numbers: uint8 RGB `[R, R, 3]`."""

    def __init__(self, avatar: Avatar) -> None:
        self._styles, self._decoder = StyleTable(avatar), decoder_for(avatar.generator, int16=True)
        self.flow = avatar.flow
        self._limit = avatar.flow.pose.limit

    @torch.no_grad()
    def __call__(self, row: Array) -> NDArray[np.uint8]:
        values = row.astype(np.float16).astype(np.float64)  # as a stream would hold them
        picture: NDArray[np.uint8] = self._decoder(
            self._styles(np.clip(values[1:3], -self._limit, self._limit), values[3:])
        )[0]
        return picture


def live_face(path: Path, pack_name: str | None, tick: Callable[[int], None] = lambda done: None) -> LiveFace:
    """Read a face and fit what drives it; `tick` is called `steps_of(path)` times at most.

    Raises VideoError, FaceError, StreamError and PackError.
    """
    return driven_face(drawn_face(read_face(path), pack_name, path.parent, tick), tick)


def steps_of(path: Path) -> int:
    """How many steps it takes at most to be able to drive the face of a file."""
    known = path.suffix.lower() in (".mien", ".person")
    return DEFAULTS.renders + (0 if known else PivotOptions().steps)


def driven_face(
    face: DrawnFace, tick: Callable[[int], None] = lambda done: None, options: ReaderOptions = DEFAULTS
) -> LiveFace:
    """The face with what drives it, fitted to its own renders (`fit_reader`, which calls `tick`). Raises FaceError."""
    reader = fit_reader(face.paint, face.paint.flow, face.scale, face.expressions, options, tick)
    return LiveFace(face.still, face.paint, face.scale, face.expressions, reader)


def drawn_face(
    source: FaceSource,
    pack_name: str | None,
    folder: Path | None = None,
    tick: Callable[[int], None] = lambda done: None,
) -> DrawnFace:
    """A face that its pack can draw, an image's in pictures of `LIVE_SIZE`; `folder`: where a stream's person is looked
    for; `tick`: called with 1 after each step in which an image's latent is optimised. Raises FaceError, StreamError,
    PackError."""
    pack = _pack(source, pack_name)
    load_face(source, pack)
    if isinstance(source, np.ndarray):
        portrait, pivot = locate_face(source, pack), usable(PivotOptions(), pack)
        avatar, _, _ = invert_portrait(portrait, pack.channels, pack, pivot, tick)
        still = _still(pack, avatar.identity.cpu().numpy())
    else:
        face = known_face(source, pack)
        still = _still(pack, source.identity, face.tuning, face.person, face.person_name)
        generator = tuned_generator(still, pack, source if isinstance(source, Person) else folder)
        avatar = Avatar.of(still, pack, generator)
    scale = np.array([c.scale for c in avatar.channels], np.float64)
    frames = np.zeros((0, 3 + len(scale))) if isinstance(source, np.ndarray) else source.frames
    expressions = frames[:, 3:].astype(np.float64)
    return DrawnFace(still, FacePainter(avatar), scale, expressions)


def _pack(source: FaceSource, name: str | None) -> Pack:
    if isinstance(source, Stream):
        return pack_for(source, name)
    if isinstance(source, Person):
        return (Pack.load(name) if name else Pack.named(source.pack_name)).at(source.resolution)
    pack = Pack.load(name or "mini")
    return pack.at(LIVE_SIZE) if LIVE_SIZE in pack.generator.sizes else pack


def _still(
    pack: Pack, identity: NDArray[np.floating], tuning: bytes = b"", person: str = "", person_name: str = ""
) -> Stream:
    frames = np.zeros((1, 3 + len(pack.channels)), np.float16)
    return Stream(
        pack.fingerprint, pack.name, pack.resolution, Fraction(25), channel_table(pack.channels),
        identity.astype(np.float16), frames, tuning=tuning, person=person, person_name=person_name,
    )  # fmt: skip
