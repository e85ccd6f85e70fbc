"""Pictures and videos for the page.

Checked uploads, small data addresses, players' files, single frames of a stream.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mien.apps.provenance import Origin, file_hash
from mien.apps.studio.sessions import CLIP_SECONDS, FRAME_SIDE, STREAM_FRAMES, Session
from mien.errors import InputError, VideoError
from mien.format.stream import Stream
from mien.format.weights_codec import apply_delta
from mien.media.images import to_bytes
from mien.media.still_images import image_size, read_image
from mien.media.video import Clip, read_video, write_video
from mien.media.watermark import marked
from mien.method.stage6_render.render import render_frames
from mien.nets.generator import Generator
from mien.packs.pack import Pack
from mien.packs.resolve import pack_for
from mien.runtime.progress import Progress

Frame = NDArray[np.uint8]  # [H, W, 3] RGB

PANEL = 384  # side of the input's panels in pixels
KEPT_GENERATORS = 2  # tuned generators that a session keeps: some 20 MB each in the embedded pack


def data_address(frame: Frame, quality: int = 88) -> str:
    """Encode a picture as a `data:` address, JPEG."""
    done, coded = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()


def checked_clip(path: Path, start: float = 0.0, duration: float | None = None) -> Clip:
    """Open the span of an uploaded clip. Raises VideoError, and InputError for one that is too long or too large."""
    whole = read_video(path)
    if whole.frame_count / whole.fps > CLIP_SECONDS:
        raise InputError(f"This clip is longer than {CLIP_SECONDS / 60:.0f} minutes; cut it first.")
    if max(whole.size) > FRAME_SIDE:
        raise InputError(f"This clip's frames are larger than {FRAME_SIDE} pixels.")
    return read_video(path, start, duration) if start or duration is not None else whole


def checked_image(path: Path) -> Frame:
    """Read an uploaded portrait. Raises VideoError, and InputError for one that is too large."""
    try:
        size = image_size(path)
    except VideoError as error:
        raise InputError("This picture cannot be read.") from error
    if max(size) > 2 * FRAME_SIDE:
        raise InputError(f"This picture is larger than {2 * FRAME_SIDE} pixels.")
    return read_image(path)


def checked_stream(path: Path, pack: Pack) -> Stream:
    """Read an uploaded `.mien` of this studio's pack. Raises StreamError, and InputError for one that is too long."""
    try:
        stream = Stream.load(path)
    except InputError as error:
        raise type(error)(str(error).replace(str(path), "The file")) from error
    if len(stream) > STREAM_FRAMES:
        raise InputError(f"This stream has {len(stream):,} frames; up to {STREAM_FRAMES:,} are taken here.")
    if stream.person:  # whose weights lie on this machine is nobody's business here
        raise InputError(f"This stream needs the person {stream.person_name!r}; take one that carries its own weights.")
    if stream.pack == pack.fingerprint and stream.resolution > pack.resolution:
        raise InputError(f"This stream's pictures are of {stream.resolution} pixels, and this studio draws {pack.resolution}: start "
                         f"it with --size {stream.resolution}.")  # fmt: skip
    pack_for(stream, pack)
    return stream


@dataclass
class Renderer:
    """Renders streams by one pack, and keeps the generators of the last tuned ones."""

    pack: Pack
    _kept: dict[tuple[int, bytes], Generator] = field(default_factory=dict)

    def generator(self, stream: Stream) -> Generator:
        """Return the pack's generator at the stream's size, with the stream's tuning."""
        own = self.pack.generator.at(stream.resolution)
        if not stream.tuning:
            return own
        key = stream.resolution, stream.tuning
        if key not in self._kept:
            while len(self._kept) >= KEPT_GENERATORS:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = apply_delta(own, stream.tuning)
        return self._kept[key]

    def frames(self, stream: Stream) -> Iterator[Frame]:
        """Render all frames, uint8 [H, W, 3]."""
        return render_frames(stream, self.pack.at(stream.resolution), self.generator(stream))

    def still(self, stream: Stream, index: int) -> Frame:
        """Render one frame, uint8 [H, W, 3]."""
        one = np.asarray(stream.frames)[index : index + 1]
        placement = None if stream.placement is None else np.asarray(stream.placement)[index : index + 1]
        return next(self.frames(replace(stream, frames=one, placement=placement)))


def person(pack: Pack, w_plus: torch.Tensor) -> Frame:
    """Render a face from its latent `[L, D]`, by the pack's own generator."""
    with torch.no_grad():
        return to_bytes(pack.generator.synthesis(w_plus[None].to(pack.device)))[0]


def person_stream(pack: Pack, w_plus: torch.Tensor, like: Stream) -> Stream:
    """Make a stream of one still frame that has this identity, as a portrait for puppeteering."""
    return replace(
        like, identity=w_plus.cpu().numpy().astype(np.float16), frames=np.zeros((1, 35), np.float16), tuning=b"",
        placement=None, frame_size=None, audio=b"", coded=b"", person="", person_name="", pack=pack.fingerprint,
    )  # fmt: skip


def input_panels(clip: Clip, stream: Stream) -> Iterator[Frame]:
    """Cut the crops that were encoded, as the input is compared."""
    from mien.method.stage6_render.placement import crops

    return iter(crops(clip, stream, PANEL, clip.size)) if stream.placement is not None else iter(clip)


def write_panel(
    session: Session,
    frames: Iterator[Frame],
    stream: Stream,
    name: str,
    progress: Progress | None = None,
    origin: Origin | None = None,
) -> str:
    """Write a video of the frames with the stream's sound, offered to the page; returns its address.

    `origin`: of a render, which says it in its metadata and bears the invisible mark.
    """
    path = session.path(".mp4")

    def counted() -> Iterator[Frame]:
        if progress is None:
            yield from frames
            return
        with progress.stage(name, len(stream)) as tick:
            for frame in frames:
                yield frame
                tick(1)

    metadata = {"comment": origin.sentence()} if origin is not None else None
    shown = counted() if origin is None else marked(counted(), file_hash(origin.stream))
    write_video(path, shown, stream.fps, stream.audio or None, metadata=metadata)
    return session.offer(path, f"{name.replace(' ', '_')}.mp4")


def write_stream(session: Session, stream: Stream, name: str) -> str:
    """Write the stream's file, offered to the page; returns its address."""
    path = session.path(".mien")
    stream.save(path)
    return session.offer(path, name)
