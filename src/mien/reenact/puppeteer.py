"""Re-enactment: a portrait's person does what a driver's stream does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.editing.curves import MotionCurves
from mien.errors import FaceError, MienError
from mien.face import mesh as lm
from mien.face.measures import gaze_direction
from mien.format.person import Person
from mien.format.stream import Stream
from mien.media.video import read_image
from mien.method.avatar import channel_difference, pose_latents
from mien.method.stage6_render.render import FrameRenderer
from mien.nets.generator import Generator
from mien.nets.stylespace import Channel, channel_table, read_channels
from mien.packs.pack import Pack
from mien.packs.resolve import pack_for, stream_channels, tuned_generator
from mien.reenact.portrait import Doing, Driver, PortraitOptions, farthest, person_face, portrait_face
from mien.reenact.retarget import check_direction, directed
from mien.runtime.device import resolve_device
from mien.runtime.progress import NoProgress, Progress

OWN_FRAMES = 8  # of a stream that another drives, which its person is learned from


def puppeteer(
    stream: Stream,
    portrait: Stream | Person | NDArray[np.uint8] | str | Path,
    *,
    pack: str | Pack | None = None,
    device: str = "auto",
    tune_portrait: bool = True,
    person_size: int | None = None,
    relative: bool = False,
    strength: float = 1.0,
    smoothing: float = 0.0,
    blink: bool = True,
    gaze: bool = True,
    progress: Progress | None = None,
    seed: int = 0,
) -> Stream:
    """The portrait's person doing what the stream does: the portrait's identity, the driver's numbers and sound.

    `portrait`: an image (uint8 RGB `[H, W, 3]` or a path), or a stream or a person. `tune_portrait`: tune the generator to
    the image, or to what the person's own generator draws, carried along to where the driver goes (`mien.reenact.portrait`), into at most
    `person_size` bytes (None: all weights). Without it a stream's or person's identity and tuning are taken as they are, and so they are where the stream is the person's own.
    `relative`: take over how the driver's channels differ from the driver's identity frame (right where packs give
    channels a meaning for each person), and how the head turns from the driver's usual pose; by default pose and
    channels take the driver's own values, which is what the embedded pack was trained for.
    `strength`, `smoothing` (seconds), `blink`, `gaze`: how the motion is taken over, see `mien.reenact.retarget.directed`.

    Raises FaceError where the image shows no face, InputError for a strength or smoothing out of range, PackError and
    StreamError as `render`.
    """
    progress = progress or NoProgress()
    found = pack_for(stream, pack).to(resolve_device(device))
    check_direction(strength, smoothing)
    if isinstance(portrait, (str, Path)):
        if str(portrait).lower().endswith(".mien"):
            portrait = Stream.load(portrait)
        elif str(portrait).lower().endswith(".person"):
            portrait = Person.load(portrait)
        else:
            portrait = read_image(portrait)
    curves = MotionCurves.of(stream_channels(stream, found))

    def numbers_of(identity: Tensor) -> NDArray[np.float32]:
        numbers = np.asarray(stream.frames, np.float32).copy()
        if relative:
            numbers[:, :3] -= np.median(numbers[:, :3], axis=0)
        else:
            numbers[:, 3:] += channel_difference(found, stream, identity.cpu().numpy())
        return directed(numbers, curves, stream.fps, strength=strength, smoothing=smoothing, blink=blink, gaze=gaze)

    def doing(identity: Tensor) -> Driver:
        driver = _driver(found, stream_channels(stream, found), identity, numbers_of(identity))
        return replace(driver, looks=partial(_looks, stream, found, strength)) if gaze else driver

    identity, weights = _who(
        portrait, stream, found, doing, progress, tune_portrait, person_size, PortraitOptions(seed=seed)
    )
    return Stream(
        pack=found.fingerprint,
        pack_name=found.name,
        resolution=found.resolution,
        fps=stream.fps,
        channels=np.asarray(stream.channels),
        identity=identity.cpu().numpy().astype(np.float16),
        frames=numbers_of(identity).astype(np.float16),
        audio=stream.audio,
        **weights,
    )


def _who(
    portrait: Stream | Person | NDArray[np.uint8], stream: Stream, pack: Pack, doing: Doing, progress: Progress,
    tune: bool, size: int | None, options: PortraitOptions,
) -> tuple[Tensor, dict[str, Any]]:  # fmt: skip
    """The puppet's identity `[L, D]`, and the parts of a stream that say whose weights draw it."""
    channels = stream_channels(stream, pack)
    if isinstance(portrait, Stream):
        pack_for(portrait, pack)
    elif isinstance(portrait, Person):
        portrait.require_pack(pack.fingerprint, pack.name)
    else:
        face = portrait_face(pack, portrait, channels, doing, progress, tune=tune, size=size, options=options)
        return face.identity, {"tuning": face.tuning}
    if tune and portrait.tuning and not np.array_equal(portrait.identity, stream.identity):
        with suppress(FaceError):  # such a person is driven as they are
            pictures, numbers = _drawn(portrait, pack)
            face = person_face(pack, pictures, numbers, channels, doing, progress, size=size, options=options)
            return face.identity, {"tuning": face.tuning}
    return _as_it_is(portrait, stream, pack)


def _as_it_is(portrait: Stream | Person, stream: Stream, pack: Pack) -> tuple[Tensor, dict[str, Any]]:
    """Identity and weights of a person, with nothing learned of where the stream takes them."""
    identity = torch.from_numpy(np.asarray(portrait.identity, np.float32)).to(pack.device)
    if isinstance(portrait, Person):
        return identity, {"person": portrait.fingerprint, "person_name": portrait.name}
    return identity, {"tuning": portrait.tuning, "person": portrait.person, "person_name": portrait.person_name}


def _pictures(stream: Stream, pack: Pack, generator: Generator, frames: Tensor) -> NDArray[np.uint8]:
    """Some `frames [N]` of a stream, uint8 `[N, S, S, 3]`."""
    renderer = FrameRenderer(stream, pack, generator, exact=True)
    return np.concatenate([renderer(i, i + 1) for i in frames.tolist()])


def _looks(stream: Stream, pack: Pack, strength: float, frames: Tensor) -> NDArray[np.float64]:
    """Where the stream's person looks in some `frames [N]`, so many times as far: `[N, 2]`, NaN where that cannot be seen, or the
    person that the stream names is not here."""
    try:
        generator = tuned_generator(stream, pack)
    except MienError:
        return np.full((len(frames), 2), np.nan)
    mesh = lm.FaceMesh()
    found = [mesh(picture) for picture in _pictures(stream, pack, generator, frames)]
    mesh.close()
    return strength * np.stack([gaze_direction(f[0][:, :2] if f else None, stream.resolution) for f in found])


def _drawn(person: Stream | Person, pack: Pack) -> tuple[NDArray[np.uint8], Driver]:
    """What a person's own generator draws of a few frames, uint8 `[N, S, S, 3]`, the most usual one first, and their numbers. Of a
    `Person`, who has no frames: facing the camera."""
    if isinstance(person, Person):
        still, table = np.zeros((1, 3 + len(pack.channels)), np.float16), channel_table(pack.channels)
        person = Stream(person.pack, person.pack_name, person.resolution, Fraction(25), table, person.identity, still,
                        tuning=person.tuning)  # fmt: skip
    identity = torch.from_numpy(np.asarray(person.identity, np.float32)).to(pack.device)
    channels = stream_channels(person, pack)
    numbers = _driver(pack, channels, identity, person.frames)
    chosen = farthest(channels, numbers, OWN_FRAMES)
    pictures = _pictures(person, pack, tuned_generator(person, pack), chosen)
    return pictures, Driver(numbers.angles[chosen], numbers.values[chosen])


def _driver(pack: Pack, channels: tuple[Channel, ...], identity: Tensor, numbers: NDArray[np.floating]) -> Driver:
    """The angles of `numbers [T, 35]`, and the values that their channels take in StyleSpace on `identity [L, D]`."""
    given = torch.from_numpy(np.asarray(numbers, np.float32)).to(pack.device)
    angles = pack.flow.clamp(given[:, 1:3])
    with torch.no_grad():
        styles = pack.generator.styles(pose_latents(pack.flow, identity, angles))
        return Driver(angles, read_channels(styles, channels) + given[:, 3:])
