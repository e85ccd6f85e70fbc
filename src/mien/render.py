"""Stage 6: a Stream to frames (the paper, Sec. 3.5, Eq. 4 and 13), and puppeteering."""

from __future__ import annotations

from collections.abc import Iterator
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

from mien.edit import Curves, check_direction, directed
from mien.errors import FaceError, MienError, PackError, StreamError
from mien.models import landmarks as lm
from mien.models.decoder import Decoder
from mien.models.stylegan2 import Generator
from mien.packs.delta import apply_delta
from mien.packs.pack import Channel, Pack, channel_table
from mien.person import Person, find_person
from mien.portrait import Doing, Driver, PortraitOptions, farthest, person_face, portrait_face
from mien.progress import NoProgress, Progress
from mien.puppet import to_be_driven
from mien.stages.attributes import add_channels, driven_styles, read_channels
from mien.stages.glances import looks
from mien.stages.pose import pose_latents
from mien.stream import Stream

BATCH = 8
STYLES_AT_ONCE = 64
OWN_FRAMES = 8  # of a stream that another drives, which its person is learned from
WORTH_PREPARING = 16  # frames; with fewer, preparing the weights takes longer than it saves
Where = Person | str | Path | None  # a person, its file, or a folder to look in


def pack_for(stream: Stream, pack: str | Pack | None) -> Pack:
    """The pack that made the stream. Raises PackError where it is not here, StreamError where it is another."""
    try:
        found = pack if isinstance(pack, Pack) else Pack.load(pack or stream.pack_name)
    except PackError as error:
        raise PackError(f"this stream needs the pack {stream.pack_name!r} ({stream.pack[:8]}): {error}") from error
    stream.require_pack(found.fingerprint, found.name)
    if stream.resolution != found.resolution or stream.identity.shape != (
        found.generator.num_ws,
        found.generator.w_dim,
    ):
        raise StreamError("the stream's identity latent does not fit its pack's generator")
    widths = [layer.width for layer in found.generator.layers]
    for layer, index in np.asarray(stream.channels).tolist():
        if not (0 <= layer < len(widths) and 0 <= index < widths[layer]):
            raise StreamError(f"the stream names a StyleSpace channel ({layer}, {index}) that its pack does not have")
    return found


def latents(generator: Generator, pack: Pack, identity: Tensor, angles: Tensor, alpha: Tensor) -> list[Tensor]:
    """A(flow(L_ID, Y_t, P_t)) + alpha_t on V (Eq. 13): `identity [L, D]`, `angles [N, 2]`, `alpha [N, 32]` -> styles."""
    return driven_styles(generator, pack.flow, pack.channels, identity, angles, alpha)


def tuned_generator(stream: Stream, pack: Pack, person: Where = None) -> Generator:
    """The generator that draws the stream: the pack's with the weights that the stream carries, or its person's.

    `person`: see `find_person`. Raises StreamError and PackError as that does, StreamError for weights that do not fit.
    """
    found = find_person(stream, person)
    if found is not None:
        found.require_pack(pack.fingerprint, pack.name)
    blob = stream.tuning if found is None else found.tuning
    return apply_delta(pack.generator, blob) if blob else pack.generator


def render(
    stream: Stream, *, pack: str | Pack | None = None, person: Where = None, device: str = "auto", exact: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """Frames of a stream, uint8 RGB `[H, W, 3]`, one by one.

    `pack`: a name, a path or a loaded pack; by default the one that the stream names. `person`: for a stream that names
    a person, that person, its file, or a folder to look in first. `exact`: by the generator's own modules also where a
    faster way is here, which differs in rounding only (docs/speed.md). Raises PackError, StreamError.
    """
    return iter(FrameRenderer.of(stream, pack=pack, person=person, device=device, exact=exact))


def render_frames(
    stream: Stream, pack: Pack, generator: Generator, *, exact: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """Frames of a stream by a generator that is already tuned."""
    return iter(FrameRenderer(stream, pack, generator, exact=exact))


class FrameRenderer:
    """Renders any frames of a stream, with all that is the same for every frame done once."""

    def __init__(self, stream: Stream, pack: Pack, generator: Generator, *, exact: bool = False) -> None:
        self._pack, self._generator = pack, generator
        self._channels = stream_channels(stream, pack)
        identity = torch.from_numpy(np.asarray(stream.identity, np.float32)).to(pack.device)
        self._numbers = torch.from_numpy(np.asarray(stream.frames, np.float32)).to(pack.device)
        self._identity = identity
        with torch.no_grad():
            self._prior = pack.flow.prior(identity[None], identity.new_zeros(1, 2))
        self._decoder = Decoder(generator, exact=exact or len(stream) < WORTH_PREPARING)

    @staticmethod
    def of(
        stream: Stream, *, pack: str | Pack | None = None, person: Where = None, device: str = "auto",
        exact: bool = False,
    ) -> FrameRenderer:  # fmt: skip
        """A stream's renderer, with its pack and its person found as `render` does."""
        from mien.encode import resolve_device

        found = pack_for(stream, pack).to(resolve_device(device))
        return FrameRenderer(stream, found, tuned_generator(stream, found, person), exact=exact)

    def __call__(self, first: int, last: int) -> NDArray[np.uint8]:
        """Frames `first` to `last` - 1, uint8 RGB `[N, H, W, 3]`."""
        return self._decoder(self.styles(first, last))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        # Latents of many frames at once, since the flow is small; pictures of a few, since they are large.
        for start in range(0, len(self._numbers), STYLES_AT_ONCE):
            styles = self.styles(start, start + STYLES_AT_ONCE)
            for i in range(0, len(styles[0]), BATCH):
                yield from self._decoder([s[i : i + BATCH] for s in styles])

    @torch.no_grad()
    def styles(self, first: int, last: int) -> list[Tensor]:
        """A(LH_t) + alpha_t of frames `first` to `last` - 1 (Eq. 13), as `latents`."""
        part = self._numbers[first:last]
        flow, n = self._pack.flow, len(part)
        posed = flow.place(self._identity.expand(n, -1, -1), self._prior.expand(n, -1, -1), flow.clamp(part[:, 1:3]))
        return add_channels(self._generator.styles(posed), self._channels, part[:, 3:])


def stream_channels(stream: Stream, pack: Pack) -> tuple:
    """The stream's own channel table; attribute names and scales are the pack's where it knows the channel."""
    known = {(c.layer, c.index): c for c in pack.channels}
    table = np.asarray(stream.channels).tolist()
    if all((layer, index) in known for layer, index in table):
        return tuple(known[(layer, index)] for layer, index in table)
    first = pack.channels[0]
    return tuple(known.get((x, y), replace(first, layer=x, index=y, attribute="other", scale=1.0)) for x, y in table)


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
    the image, or to what the person's own generator draws, carried along to where the driver goes (`mien.portrait`), into at most
    `person_size` bytes (None: all weights). Without it a stream's or person's identity and tuning are taken as they are (a
    stream's made fit to be driven by another, see `mien.puppet`), and so they are where the stream is the person's own.
    `relative`: take over how the driver's channels differ from the driver's identity frame (right where packs give
    channels a meaning for each person), and how the head turns from the driver's usual pose; by default pose and
    channels take the driver's own values, which is what the embedded pack was trained for.
    `strength`, `smoothing` (seconds), `blink`, `gaze`: how the motion is taken over, see `mien.edit.directed`.

    Raises FaceError where the image shows no face, InputError for a strength or smoothing out of range, PackError and
    StreamError as `render`.
    """
    from mien.encode import resolve_device

    progress = progress or NoProgress()
    found = pack_for(stream, pack).to(resolve_device(device))
    check_direction(strength, smoothing)
    if isinstance(portrait, (str, Path)):
        if str(portrait).lower().endswith(".mien"):
            portrait = Stream.load(portrait)
        elif str(portrait).lower().endswith(".person"):
            portrait = Person.load(portrait)
        else:
            from mien.video import read_image

            portrait = read_image(portrait)
    curves = Curves.of(stream_channels(stream, found))

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
    tuning = portrait.tuning
    if tuning and not np.array_equal(portrait.identity, stream.identity):
        tuning = to_be_driven(pack, tuning, identity)
    return identity, {"tuning": tuning, "person": portrait.person, "person_name": portrait.person_name}


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
    return strength * np.stack([looks(f[0][:, :2] if f else None, stream.resolution) for f in found])


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


def channel_difference(pack: Pack, stream: Stream, identity: NDArray[np.floating]) -> NDArray[np.float32]:
    """What to add to the stream's channels so that on `identity [L, D]` they take the values they have on its own.

    Returns `[32]`, the channels' values in A(L_ID) of the stream less those in A(`identity`); 0 for channels outside
    the pack's V (`--channels clip`): only V was chosen, and in the embedded pack taught, to mean the same on everyone,
    so of the others the change from the driver's identity frame is taken over and not the value.
    """
    both = np.stack([np.asarray(stream.identity, np.float32), np.asarray(identity, np.float32)])
    with torch.no_grad():
        styles = pack.generator.styles(torch.from_numpy(both).to(pack.device))
        values = read_channels(styles, stream_channels(stream, pack)).cpu().numpy()
    own = {(c.layer, c.index) for c in pack.channels}
    common = np.array([(x, y) in own for x, y in np.asarray(stream.channels).tolist()])
    return (values[0] - values[1]) * common


def _driver(pack: Pack, channels: tuple[Channel, ...], identity: Tensor, numbers: NDArray[np.floating]) -> Driver:
    """The angles of `numbers [T, 35]`, and the values that their channels take in StyleSpace on `identity [L, D]`."""
    given = torch.from_numpy(np.asarray(numbers, np.float32)).to(pack.device)
    angles = pack.flow.clamp(given[:, 1:3])
    with torch.no_grad():
        styles = pack.generator.styles(pose_latents(pack.flow, identity, angles))
        return Driver(angles, read_channels(styles, channels) + given[:, 3:])


__all__ = ["channel_difference", "latents", "pack_for", "puppeteer", "render", "render_frames", "tuned_generator"]
