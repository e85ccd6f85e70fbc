"""Who is seen: a face from an image, a stream or a person's file, ready to be learned or taken as it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.errors import FaceError, StreamError
from mien.face import mesh as lm
from mien.format.person import Person
from mien.format.stream import Stream
from mien.media.still_images import read_image
from mien.method.avatar import Avatar
from mien.method.completion import completed
from mien.method.pivot import PivotOptions, optimise_pivot
from mien.method.stage1_align.align import align_image
from mien.method.stage2_invert import invert
from mien.method.stage3_identity import frontal
from mien.method.types import Motion
from mien.nets.stylespace import Channel, channel_table
from mien.packs.pack import Pack
from mien.packs.resolve import pack_for, tuned_generator
from mien.reenact.driving_motion import DrivingMotion, farthest_point_sampling, render_frames_of

FaceSource = Stream | Person | NDArray[np.uint8]
PERSON_FRAMES = 8  # of a person's own stream, which they are learned from when another drives them


@dataclass(frozen=True)
class FaceExamples:
    """Images that a face is learned from: `crops` uint8 RGB `[N, S, S, 3]` in FFHQ framing, the portrait first; mesh
    `landmarks [N, 478, 2]` in pixels; `angles [N, 2]`: yaw and pitch in degrees; `values [N, C]` of the channels V,
    None for a single portrait, whose values its inversion tells."""

    crops: NDArray[np.uint8]
    landmarks: NDArray[np.floating]
    angles: Tensor
    values: Tensor | None = None


@dataclass(frozen=True)
class LearnedFace:
    """Whose face a puppet has: `identity [L, D]` facing the camera, and the weights that draw it: `tuning`, their
    difference to the pack's, or a person's file by its hash `person` and its name."""

    identity: Tensor
    tuning: bytes = b""
    person: str = ""
    person_name: str = ""


def load_face(face: FaceSource | str | Path, pack: Pack) -> FaceSource:
    """Read a face's file (an image, .mien or .person), and check that the pack can draw it.

    Raises VideoError, StreamError and PackError.
    """
    source = read_face(Path(face)) if isinstance(face, (str, Path)) else face
    if isinstance(source, Stream):
        pack_for(source, pack)
    elif isinstance(source, Person):
        source.require_pack(pack.fingerprint, pack.name)
        if source.identity.shape != (pack.generator.num_ws, pack.generator.w_dim):
            raise StreamError("the person's identity latent does not fit its pack's generator")
    return source


def read_face(path: Path) -> FaceSource:
    """Read a face's file as its ending says: a stream, a person, or an image uint8 RGB `[H, W, 3]`.

    Raises VideoError and StreamError.
    """
    if path.suffix.lower() == ".mien":
        return Stream.load(path)
    return Person.load(path) if path.suffix.lower() == ".person" else read_image(path)


def locate_face(image: NDArray[np.uint8], pack: Pack, number: int | None = None) -> FaceExamples:
    """The largest face of an image, uint8 RGB `[H, W, 3]`, or the `number`-th from the left, counted from 1.

    Raises FaceError where there is none.
    """
    found = completed(align_image(image, pack.resolution, number), pack.encoder, pack.generator)
    return FaceExamples(found.crops[:], found.landmarks, found.angles(pack.flow))


def render_examples(person: Stream | Person, pack: Pack) -> FaceExamples:
    """A few frames of a person, as their own generator draws them, the most usual one first.

    Of a `Person` whose file has no frames: facing the camera. Raises FaceError where the first one shows no face.
    """
    stream = _seen_stream(person, pack) if isinstance(person, Person) else person
    generator = tuned_generator(stream, pack)
    # Tuning leaves the affine layers as they are, so the pack's generator reads the same channel values.
    avatar = Avatar.of(stream, pack, pack.generator)
    motion = DrivingMotion.of(Motion.from_rows(stream.frames, pack.device), avatar)
    frames = farthest_point_sampling(motion, avatar.scale, PERSON_FRAMES)
    crops = render_frames_of(stream, pack, generator, frames)
    mesh = lm.FaceMesh()
    found = [mesh(np.ascontiguousarray(crop)) for crop in crops]
    mesh.close()
    if not found[0]:
        raise FaceError("no face is found in what the person's own generator draws")
    seen = [i for i, meshes in enumerate(found) if meshes]
    landmarks = np.stack([found[i][0][:, :2] - 0.5 for i in seen]).astype(np.float32)
    shown = motion.part(frames[seen])
    return FaceExamples(crops[seen], landmarks, shown.angles, shown.values)


def examples_to_learn(
    source: FaceSource, driver: Stream, pack: Pack, tune: bool, number: int | None = None
) -> FaceExamples | None:
    """What a face is to be learned from; None for a person who is driven as they are.

    Those are: without `tune`, of whom no weights are known, who drive themselves, and whose own renders show no face.
    Raises FaceError for an image without a face.
    """
    if isinstance(source, np.ndarray):
        return locate_face(source, pack, number)
    if tune and source.tuning and not np.array_equal(source.identity, driver.identity):
        with suppress(FaceError):
            return render_examples(source, pack)
    return None


def known_face(source: FaceSource, pack: Pack) -> LearnedFace:
    """A stream's or person's own L_ID and weights."""
    assert not isinstance(source, np.ndarray)
    identity = torch.from_numpy(np.asarray(source.identity, np.float32)).to(pack.device)
    if isinstance(source, Person):
        return LearnedFace(identity, person=source.fingerprint, person_name=source.name)
    return LearnedFace(identity, source.tuning, source.person, source.person_name)


def invert_portrait(
    examples: FaceExamples, channels: tuple[Channel, ...], pack: Pack, pivot: PivotOptions | None,
    tick: Callable[[int], None] = lambda n: None,
) -> tuple[Avatar, DrivingMotion, Tensor]:  # fmt: skip
    """The portrait's avatar, L_ID = E(I) turned to face the camera, what the portrait itself does, one frame, and its
    latent as it is, E(I) `[1, L, D]`.

    `pivot`: E(I) is optimised first (`mien.method.pivot`), with a `tick` a step; None: it stays as it is.
    """
    angles = examples.angles[:1]
    w_plus = invert(pack.encoder, examples.crops[:1], device=pack.device)
    if pivot is not None:
        w_plus = optimise_pivot(pack, w_plus, examples.crops[:1], pivot, tick)
    avatar = Avatar(pack.generator, pack.flow, channels, frontal(pack.flow, w_plus[0], angles[0].cpu().numpy()))
    with torch.no_grad():
        values = avatar.read(avatar.generator.styles(w_plus))
    return avatar, DrivingMotion(angles, values), w_plus


def _seen_stream(person: Person, pack: Pack) -> Stream:
    """A stream of the frames that a person's file has; where it has none, of one, facing the camera at rest."""
    frames = person.frames if len(person.frames) else np.zeros((1, 3 + len(pack.channels)), np.float16)
    return Stream(
        person.pack,
        person.pack_name,
        person.resolution,
        Fraction(25),
        channel_table(pack.channels),
        person.identity,
        frames,
        tuning=person.tuning,
    )
