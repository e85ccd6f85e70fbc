"""A video and a sound that were recorded apart, as one file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from mien.errors import MienError
from mien.media.sound import Sound
from mien.runtime.files import atomic_path


def join_sound(video: Path, sound: Path | None, target: Path) -> None:
    """Copy the frames and the metadata of `video` to `target`, whose ending names the same container, and mux `sound`
    beside them (a file, or None). `target` appears whole or not at all. Raises MienError."""
    form = {".mkv": "matroska", ".mov": "mov"}.get(target.suffix.lower(), "mp4")
    options = {} if form == "matroska" else {"movflags": "+faststart"}
    try:
        with (
            atomic_path(target) as temporary,
            av.open(f"file:{video}") as source,
            av.open(f"file:{temporary.absolute()}", "w", format=form, options=options) as container,
            Sound.open(sound) as heard,
        ):
            container.metadata.update(source.metadata)
            frames = source.streams.video[0]
            stream = container.add_stream_from_template(frames)
            heard.attach(container)
            for packet in source.demux(frames):
                if packet.dts is None:
                    continue
                heard.mux_until(Fraction(packet.dts) * (packet.time_base or 0))
                packet.stream = stream
                container.mux(packet)
            heard.mux_until(None)
    except av.FFmpegError as error:
        raise MienError(f"{target} could not be written: {error.strerror}.") from error
