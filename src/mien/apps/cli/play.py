"""`mien play`: a stream in real time, to a player's window or as YUV4MPEG2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from mien.apps.cli.common import Device, Mark, PersonFile, StreamFile, StreamPack, checked_device, person_folder
from mien.errors import InputError


def play(
    file: StreamFile,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT.y4m", help="Write YUV4MPEG2 there instead; - is stdout."),
    ] = None,
    late: Annotated[
        str, typer.Option(help="What becomes of frames that are late: drop them, or slow down. A file gets all.")
    ] = "drop",
    delay: Annotated[float, typer.Option(min=0.0, max=60.0, metavar="S", help="Seconds of frames held ready.")] = 0.2,
    person: PersonFile = None,
    pack: StreamPack = None,
    device: Device = "auto",
    watermark: Mark = True,
) -> None:
    """Render a .mien file live, at its own rate, and say whether the machine keeps up.

    Shows it in the window of ffplay or mpv, whichever is there. Without sound.

    Example: mien play clip.mien

    Example: mien play clip.mien -o - | ffplay -
    """
    from mien.apps.live import LATE, live
    from mien.apps.provenance import file_hash
    from mien.format.stream import Stream
    from mien.media.player import yuv4mpeg_frame, yuv4mpeg_header
    from mien.media.watermark import Watermark
    from mien.runtime.files import check_output

    if late not in LATE:
        raise InputError(f"--late is {' or '.join(LATE)}, not {late!r}.")
    if output is not None and str(output) != "-":
        check_output(output, (), (file, person))
    stream = Stream.load(file)
    to_file = output is not None and str(output) != "-"  # which has all frames, whenever they are ready
    frames = live(stream, pack=pack, person=person_folder(person, file), device=checked_device(device), delay=delay,
                  late="slow" if to_file else late)  # fmt: skip
    with _sink(output) as sink, suppress(BrokenPipeError):  # the window was closed
        sink.write(yuv4mpeg_header(stream.resolution, stream.fps))
        mark = Watermark(file_hash(stream), stream.resolution, stream.resolution) if watermark else None
        written, picture = 0, b""
        for index, frame in frames:
            for _ in range(written, index):  # YUV4MPEG2 has no times: what was left out is the frame before it
                sink.write(picture)
            picture = yuv4mpeg_frame(mark(frame) if mark else frame)
            sink.write(picture)
            sink.flush()
            written = index + 1
    print(frames.report().sentence(), file=sys.stderr)


@contextmanager
def _sink(output: Path | None) -> Iterator[BinaryIO]:
    if output is not None and str(output) == "-":
        yield sys.stdout.buffer
    elif output is not None:
        from mien.runtime.files import atomic_path

        with atomic_path(output) as temporary, open(temporary, "wb") as file:
            yield file
    else:
        from mien.media.player import window

        with window() as pipe:
            yield pipe
